//! Every environment variable that boma-it reads, with its meaning. Nothing else reads the environment.
//!
//! libtest passes no foreign flags to a test binary, so the options of a test run come from here.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;

use super::name::near_miss;

/// A variable a person may set, for `boma-it help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

/// Certificate tier of every trial.
pub const CERTS: Variable =
    Variable { name: "BOMA_IT_CERTS", help: "certificate tier; `internal` is the default" };
/// Accepts a risk.
pub const ACCEPT_RISK: Variable = Variable {
    name: "BOMA_IT_ACCEPT_RISK",
    help: "`R6`: the tier le-prod-wildcard may run; docs/security/accepted-risks.md says what that means",
};
/// Keep the VM of a trial that did not pass.
pub const KEEP: Variable =
    Variable { name: "BOMA_IT_KEEP", help: "1: keep the VM of a trial that did not pass, for inspection" };
/// The folder with `harness/`, `profiles/`, `overrides/` and `scenarios/`.
pub const ROOT: Variable = Variable {
    name: "BOMA_IT_ROOT",
    help: "folder that holds harness/, profiles/, overrides/ and scenarios/; found upwards from the working directory otherwise",
};
/// Folder of the run folders.
pub const RUNS: Variable =
    Variable { name: "BOMA_IT_RUNS", help: "folder of run folders; overrides `runs` of harness.yml" };
/// The hypervisor to use.
pub const URI: Variable =
    Variable { name: "BOMA_IT_URI", help: "libvirt connection URI; overrides `libvirt.uri` of harness.yml" };
/// Forces an accelerator.
pub const ACCEL: Variable =
    Variable { name: "BOMA_IT_ACCEL", help: "`kvm` or `tcg`: skip the probe and use this accelerator" };
/// What a VM may start from.
pub const LAYERS: Variable = Variable {
    name: "BOMA_IT_LAYERS",
    help: "`none`: boot every VM from its image; `ready`: go on from a settled first boot; `applied`: or from the state after the same playbook; overrides `layers` of harness.yml",
};
/// Waits for a place instead of being refused.
pub const WAIT: Variable = Variable {
    name: "BOMA_IT_WAIT",
    help: "a duration such as `30m`: how long to wait for a VM's place, or for the VM that another process works on, \
           before the run is refused; no wait otherwise",
};
/// Shape of progress output.
pub const PROGRESS: Variable = Variable {
    name: "BOMA_IT_PROGRESS",
    help: "`auto` (a spinner on a terminal, lines elsewhere), `lines` or `none`",
};
/// Filter of the debug log on standard error.
pub const LOG: Variable = Variable {
    name: "BOMA_IT_LOG",
    help: "debug log on standard error, as tracing's EnvFilter: `debug`, `boma_it::machine=trace`",
};

/// Every variable, in the order in which help shows them.
pub const ALL: &[Variable] = &[CERTS, ACCEPT_RISK, KEEP, ROOT, RUNS, URI, ACCEL, LAYERS, WAIT, PROGRESS, LOG];

/// An option or a variable that repeated a trial: nextest does that now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` was removed; repeat a trial with `cargo nextest run --stress-count N`")]
pub struct RepeatRemoved(pub &'static str);

/// Refuses `BOMA_IT_REPEAT`, so that one run is not mistaken for several.
///
/// # Errors
/// [`RepeatRemoved`] when it is set.
pub(crate) fn refuse_repeat() -> Result<(), RepeatRemoved> {
    let name = "BOMA_IT_REPEAT";
    if read(name).is_some() { Err(RepeatRemoved(name)) } else { Ok(()) }
}

/// A variable has a value that it does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value `{value}` for {name}{why}")]
pub struct InvalidVariable {
    name: &'static str,
    value: String,
    why: String,
}

impl Variable {
    /// The value, if it is set, not empty, and valid UTF-8.
    pub(crate) fn get(self) -> Option<String> {
        named(self.name).filter(|value| !value.is_empty())
    }

    /// The value as one of a fixed set, if it is set.
    ///
    /// # Errors
    /// [`InvalidVariable`] when the value is not in the set.
    pub(crate) fn choice<T: ValueEnum>(self) -> Result<Option<T>, InvalidVariable> {
        let invalid = |value: &str| {
            let values = T::value_variants().iter().filter_map(T::to_possible_value);
            let names: Vec<_> = values.map(|value| value.get_name().to_owned()).collect();
            let near = near_miss(value, names.iter().map(String::as_str));
            let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            let why = format!("{hint} (expected one of: {})", names.join(", "));
            InvalidVariable { name: self.name, value: value.to_owned(), why }
        };
        self.get().map(|value| T::from_str(&value, false).map_err(|_| invalid(&value))).transpose()
    }

    /// The value as what its text stands for, if it is set.
    ///
    /// # Errors
    /// [`InvalidVariable`] when the text stands for nothing.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(self) -> Result<Option<T>, InvalidVariable> {
        let invalid = |value: String, error: T::Err| {
            let why = format!(": {error}");
            InvalidVariable { name: self.name, value, why }
        };
        self.get().map(|value| value.parse().map_err(|error| invalid(value, error))).transpose()
    }

    /// Whether it is set to something other than nothing, `0`, `false` or `no`.
    pub(crate) fn is_on(self) -> bool {
        self.get().is_some_and(|value| !matches!(value.as_str(), "0" | "false" | "no"))
    }
}

/// Whether this is a CI job (`CI` is set): missing prerequisites are then errors, not ignored trials.
pub fn is_ci() -> bool {
    read("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// The id of the nextest run, if this is one: the same for all its test processes.
pub(crate) fn nextest_run_id() -> Option<String> {
    named("NEXTEST_RUN_ID")
}

/// `CARGO_MANIFEST_DIR` at run time: cargo sets it for the tests it runs.
pub(crate) fn cargo_manifest_dir() -> Option<PathBuf> {
    read("CARGO_MANIFEST_DIR").map(PathBuf::from)
}

/// The search path of programs.
pub fn path() -> OsString {
    read("PATH").unwrap_or_default()
}

/// Any other variable, such as one that `harness.yml` names for a secret.
pub(crate) fn named(name: &str) -> Option<String> {
    read(name).and_then(|value| value.into_string().ok())
}

/// Names of all inherited variables that start with one of `prefixes`, so that a child does not inherit them.
pub(crate) fn names_starting_with(prefixes: &[&str]) -> Vec<OsString> {
    let starts = |name: &OsString| prefixes.iter().any(|p| name.as_encoded_bytes().starts_with(p.as_bytes()));
    std::env::vars_os().map(|(name, _)| name).filter(starts).collect()
}

#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
fn read(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
