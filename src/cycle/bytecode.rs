//! Whether the guest keeps the byte-code of Ansible's modules. Before each playbook, as a reboot empties the cache, the
//! program for it is put into the guest; where that fails, Ansible uses the guest's own Python and the run goes on.

use std::time::Duration;

use super::run::Run;
use crate::catalog::plan::BytecodeCache;
use crate::guest::{CommandStatus, Session};
use crate::machine::Accelerator;
use crate::site::{GuestPython, Phase};
use crate::support::deadline::Deadline;

/// How long putting the program into the guest may take with KVM.
const INSTALLATION: Duration = Duration::from_secs(15);

/// Which playbooks ran with the cache, and why the others did not.
#[derive(Debug, Default)]
pub(super) struct BytecodeLog(Vec<(Phase, Result<(), String>)>);

impl BytecodeLog {
    /// For the report: `on`, `off: KVM`, or each playbook's own where they differ. None if no playbook ran.
    pub(super) fn describe(&self) -> Option<String> {
        let (_, first) = self.0.first()?;
        if self.0.iter().all(|(_, state)| state == first) {
            return Some(words(first));
        }
        let each = self.0.iter().map(|(phase, state)| format!("{} {}", phase.as_str(), words(state)));
        Some(each.collect::<Vec<_>>().join("; "))
    }
}

fn words(state: &Result<(), String>) -> String {
    match state {
        Ok(()) => "on".to_owned(),
        Err(why) => format!("off: {why}"),
    }
}

/// Why the guest keeps no byte-code.
enum Off {
    /// It was not asked for.
    Unwanted(&'static str),
    /// It was, and cannot be had. A note says so.
    Impossible(String),
}

impl Run<'_> {
    /// Puts the program into the guest for the playbook of `phase`, if it is wanted, and lets Ansible use it.
    pub(super) fn prepare_bytecode_cache(&mut self, phase: Phase, deadline: &Deadline) {
        let python = GuestPython::default();
        let state = self.install_bytecode_cache(&python, deadline);
        self.checked.python = state.is_ok().then_some(python);
        let (state, is_news) = match state {
            Ok(()) => (Ok(()), true),
            Err(Off::Unwanted(why)) => (Err(why.to_owned()), false),
            Err(Off::Impossible(why)) => (Err(why), true),
        };
        if is_news && self.bytecode.0.last().is_none_or(|(_, last)| *last != state) {
            self.recorder.note(format!("byte-code cache for Ansible's modules {}", words(&state)));
        }
        self.bytecode.0.push((phase, state));
    }

    fn install_bytecode_cache(&self, python: &GuestPython, deadline: &Deadline) -> Result<(), Off> {
        let impossible = |error: anyhow::Error| Off::Impossible(format!("{error:#}"));
        let vm = self.vm().map_err(impossible)?;
        match (self.plan.site.bytecode_cache, vm.ownership.accelerator) {
            (BytecodeCache::Off, _) => return Err(Off::Unwanted("harness.yml")),
            (BytecodeCache::Auto, Accelerator::Kvm) => return Err(Off::Unwanted("KVM")),
            (BytecodeCache::Auto, Accelerator::Tcg) | (BytecodeCache::On, _) => {}
        }
        if let Some(why) = &self.checked.bytecode_obstacle {
            return Err(Off::Impossible(why.clone()));
        }
        self.recorder.doing("installing the byte-code cache");
        let deadline = deadline.within(self.patience(vm, INSTALLATION), "installing the byte-code cache");
        let run = || Session::connect(&vm.access, &deadline)?.exec(&python.install_command(), &deadline);
        let output = run().map_err(|error| impossible(error.into()))?;
        if python.is_in_use(&output.stdout) {
            return Ok(());
        }
        let reason = output.stderr.lines().last().unwrap_or("its Python compiles in another way");
        Err(Off::Impossible(match output.status {
            CommandStatus::Exited(0) => format!("in the guest: {reason}"),
            status => format!("in the guest: {reason} ({status})"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_once_what_holds_for_every_playbook() {
        let off = || Err("KVM".to_owned());
        let log = |states: Vec<(Phase, Result<(), String>)>| BytecodeLog(states).describe();
        assert_eq!(log(vec![]), None);
        assert_eq!(log(vec![(Phase::Apply, Ok(())), (Phase::Assert, Ok(()))]).unwrap(), "on");
        assert_eq!(log(vec![(Phase::Apply, off()), (Phase::Assert, off())]).unwrap(), "off: KVM");
        assert_eq!(
            log(vec![(Phase::Apply, Ok(())), (Phase::Assert, off())]).unwrap(),
            "apply on; assert off: KVM"
        );
    }
}
