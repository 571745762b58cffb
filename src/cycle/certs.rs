//! The certificate tier of one run: whether it may run at all, and, under `pebble`, the ACME server, from the stage
//! that first needs it to the end of the run.

use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;

use super::ledger::RunRecorder;
use super::live::keys;
use super::run::Job;
use super::world::RunContext;
use crate::catalog::Plan;
use crate::catalog::plan::Tier;
use crate::catalog::risk::Risk;
use crate::machine::network::NetworkSpec;
use crate::site::certs::pebble::Files;
use crate::site::certs::{Acme, Pebble, TierRequirements, UnmetRequirement};
use crate::support::run_folder::RunFolder;

/// How long the ACME server may take to come up.
const START: Duration = Duration::from_secs(30);

/// The tier of a run that was let in.
#[derive(Default)]
pub(super) struct Certs {
    /// What `certs.root` holds.
    roots: Option<String>,
    /// The ACME server, once it runs.
    pebble: Option<Pebble>,
}

impl Certs {
    /// Lets the plan's tier in, or says what it lacks. Nothing is asked of the hypervisor that the tier does not need.
    ///
    /// # Errors
    /// [`UnmetRequirement`]; or that the hypervisor does not answer.
    pub(super) fn admit(world: &RunContext, plan: &Plan, job: Job) -> anyhow::Result<Self> {
        // What comes after `apply` asks for nothing that the VM does not have already.
        let given = matches!(job, Job::Reboot | Job::Assert);
        let needs = TierRequirements {
            settings: &plan.harness.certs,
            egress: plan.egress,
            accepted: if given { Risk::value_variants() } else { &plan.accepted_risks },
            has_secret: &|name| given || plan.secrets.iter().any(|secret| secret.name == name),
        };
        let roots = needs.check(plan.certs)?;
        if plan.certs == Tier::Pebble {
            let facts = world.hypervisor.facts().context("cannot ask the hypervisor what it has")?;
            if !facts.local {
                return Err(UnmetRequirement::Remote { uri: facts.uri }.into());
            }
        }
        Ok(Self { roots, pebble: None })
    }

    /// What the site is told; what that takes is running from now on.
    ///
    /// # Errors
    /// When the ACME server does not come up.
    pub(super) fn serve(
        &mut self,
        plan: &Plan,
        folder: &RunFolder,
        ledger: &RunRecorder,
    ) -> anyhow::Result<Acme> {
        if plan.certs == Tier::Pebble && self.pebble.is_none() {
            ledger.doing("starting the ACME server");
            let gateway = NetworkSpec { subnet: plan.harness.subnet }.gateway();
            let files = Files { folder: folder.join("certs"), key: keys(folder).join("acme") };
            let deadline = ledger.deadline(START, "the ACME server");
            self.pebble = Some(Pebble::start(&files, gateway.into(), &deadline)?);
        }
        let authority = self.pebble.as_ref().map(Pebble::authority);
        Ok(Acme::of(plan.certs, &plan.harness.certs, authority, self.roots.as_deref()))
    }

    /// Stops what was started.
    pub(super) fn end(&mut self, ledger: &RunRecorder) {
        let words = self.pebble.take().map(Pebble::stop).unwrap_or_default();
        words.into_iter().for_each(|word| ledger.note(word));
    }
}
