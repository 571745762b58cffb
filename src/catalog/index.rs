//! Which trials there are. Listing has to be instant, as test runners list again and again: files are named by their
//! stems, and of a scenario only the line `profile: …` is looked at. Everything else is read when a plan is made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::document::Document;
use super::folder::{Files, InvalidFile, files};
use super::harness_file::{self, Harness};
use super::plan::{HarnessPlan, ImageSource, TrialName};
use super::planner::RunOptions;
use super::problem::{Problem, ProjectError, collect, suggestion};
use crate::support::name::Name;

/// What lies below a root: the harness's settings, and every trial by name.
#[derive(Clone, Debug)]
pub struct Project {
    pub(super) root: PathBuf,
    pub(super) harness: Harness,
    pub(super) profiles: Files,
    pub(super) overrides: Files,
    /// Every trial, with the files of its scenario; none for a plain cycle.
    pub(super) trials: BTreeMap<TrialName, Vec<PathBuf>>,
    /// Trials whose VMs would have the same name.
    pub(super) clashes: BTreeMap<TrialName, TrialName>,
    strays: Vec<InvalidFile>,
}

impl Project {
    /// Reads `harness.yml` below `root` and lists what else is there.
    ///
    /// # Errors
    /// If `harness.yml` is not sound, there is no profile, or a folder cannot be read. A profile or scenario that is not
    /// sound is no error here: it is listed, and [`Project::plan`] says what is wrong with it.
    pub fn load(root: &Path) -> Result<Self, ProjectError> {
        let (mut problems, mut strays) = (Vec::new(), Vec::new());
        let harness = collect(read_harness(root), &mut problems);
        let mut folder = |name| collect(files(root, name, &mut strays), &mut problems).unwrap_or_default();
        let (profiles, scenarios) = (folder("profiles"), folder("scenarios"));
        let overrides = collect(files(root, "overrides", &mut Vec::new()), &mut problems).unwrap_or_default();
        if profiles.is_empty() && strays.is_empty() && problems.is_empty() {
            problems.push(Problem::of_file(
                "profiles".as_ref(),
                "there is no profile: add a host as `profiles/<host>.yml`, with its `overrides/<host>.yml`",
            ));
        }
        let Some(harness) = harness else { return Err(ProjectError::of(problems)) };
        let plain =
            profiles.keys().map(|host| (TrialName { host: host.clone(), scenario: None }, Vec::new()));
        let mut trials: BTreeMap<_, _> = plain.collect();
        for (name, files) in scenarios {
            for file in &files {
                match profile_of(root, file, &name) {
                    Ok(host) => {
                        trials.insert(TrialName { host, scenario: Some(name.clone()) }, files.clone());
                    }
                    Err(problem) => strays.push(InvalidFile::new(problem, file)),
                }
            }
        }
        strays.sort_by(|one, other| one.file.cmp(&other.file));
        let clashes = clashes(trials.keys());
        let catalog = Self { root: root.to_owned(), harness, profiles, overrides, trials, clashes, strays };
        ProjectError::unless(problems, catalog)
    }

    /// Every trial, sorted, whether or not its files are sound: what is not fails when its plan is made.
    pub fn trials(&self) -> impl ExactSizeIterator<Item = &TrialName> {
        self.trials.keys()
    }

    /// Files that belong to no trial that could be named. Each must be listed as a trial that fails.
    pub fn strays(&self) -> &[InvalidFile] {
        &self.strays
    }

    /// Where and how, with the choices applied: for what needs no trial, such as `prune` and `doctor`.
    pub fn harness(&self, choices: &RunOptions) -> Result<HarnessPlan, ProjectError> {
        choices.over(&self.harness.plan)
    }

    /// The golden image of the harness; a profile or a scenario may have its own.
    pub fn image(&self) -> &ImageSource {
        &self.harness.image
    }

    /// [`Project::image`], to be made or read.
    ///
    /// # Errors
    /// If it is a file of the operator's that cannot be read.
    pub fn readable_image(&self) -> Result<&ImageSource, ProjectError> {
        let image = self.image();
        image.unreadable(&self.root, &self.harness.file).map_or(Ok(image), |problem| Err(problem.into()))
    }

    /// The folder it was loaded from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The trial of this host and scenario; no scenario, or `cycle`, is the plain cycle.
    ///
    /// # Errors
    /// If there is none; near misses and everything known are named.
    pub fn find(&self, host: &str, scenario: Option<&str>) -> Result<TrialName, ProjectError> {
        let known = self.profiles.keys().map(Name::as_str);
        let Some(profile) = self.profiles.keys().find(|name| name.as_str() == host) else {
            let message = format!("no profile `{host}`{}", suggestion(host, known));
            return Err(Problem::of_request(message).into());
        };
        let Some(wanted) = scenario.filter(|scenario| *scenario != PLAIN) else {
            return Ok(TrialName { host: profile.clone(), scenario: None });
        };
        let scenario_of =
            |trial: &TrialName| trial.scenario.as_ref().is_some_and(|name| name.as_str() == wanted);
        if let Some(trial) = self.trials.keys().find(|trial| trial.host == *profile && scenario_of(trial)) {
            return Ok(trial.clone());
        }
        let message = match self.trials.keys().find(|trial| scenario_of(trial)) {
            Some(other) => format!("scenario `{wanted}` is one of host `{}`, not of `{host}`", other.host),
            None => {
                let of_host = self.trials.keys().filter(|trial| trial.host == *profile);
                let known = of_host.filter_map(|trial| trial.scenario.as_ref()).map(Name::as_str);
                format!("host `{host}` has no scenario `{wanted}`{}", suggestion(wanted, known))
            }
        };
        Err(Problem::of_request(message).into())
    }
}

/// The word for a trial without a scenario.
const PLAIN: &str = "cycle";

fn read_harness(root: &Path) -> Result<Harness, ProjectError> {
    // Only the one file counts: verify.yml lies in the same folder.
    let named = |ending: &&str| Path::new("harness/harness").with_extension(ending);
    let found: Vec<_> =
        super::document::ENDINGS.iter().map(named).filter(|file| root.join(file).exists()).collect();
    match found.as_slice() {
        [] => {
            Err(Problem::of_file("harness/harness.yml".as_ref(), "no such file: create it with `version: 1`")
                .into())
        }
        [file] => harness_file::read(root, file),
        several => Err(super::folder::duplicate(several).into()),
    }
}

/// The host that a scenario is one of. Its file is not otherwise checked.
fn profile_of(root: &Path, file: &Path, name: &Name) -> Result<Name, Problem> {
    if name.as_str() == PLAIN {
        let message =
            format!("`{PLAIN}` is the name of every host's plain trial: give the scenario another one");
        return Err(Problem::of_file(file, message));
    }
    let bytes = fs::read(root.join(file))
        .map_err(|error| Problem::of_file(file, format!("the file cannot be read: {error}")))?;
    if let Some(profile) = profile_line(&bytes) {
        return Ok(profile);
    }
    #[derive(Deserialize)]
    #[serde(expecting = "a mapping")]
    struct Header {
        profile: String,
    }
    let document = Document::decode(file.to_owned(), bytes)?;
    let header: Header = document.parse()?;
    header.profile.parse().map_err(|error| document.at_value(&["profile"], format!("`profile`: {error}")))
}

/// The value of a line `profile: <name>` that begins at the margin, which is what nearly every file has. A guess: the
/// plan is made from the file itself, and whoever makes it checks that the guess was right.
fn profile_line(bytes: &[u8]) -> Option<Name> {
    let key = b"profile:";
    let line = bytes.split(|byte| *byte == b'\n').find(|line| line.starts_with(key))?;
    std::str::from_utf8(&line[key.len()..]).ok()?.trim().parse().ok()
}

/// Different trials can come to the same VM name: `a-b` with `c`, and `a` with `b-c`.
fn clashes<'a>(trials: impl Iterator<Item = &'a TrialName>) -> BTreeMap<TrialName, TrialName> {
    let mut machines = std::collections::HashMap::new();
    let mut clashes = BTreeMap::new();
    for trial in trials {
        if let Some(other) = machines.insert(trial.machine(), trial) {
            clashes.insert(trial.clone(), other.clone());
            clashes.insert(other.clone(), trial.clone());
        }
    }
    clashes
}
