//! The certificate tier of one run: whether the tier may run at all, and, under `pebble`, the ACME server, which runs
//! from the first stage that needs it to the end of the run.

use std::time::Duration;

use clap::ValueEnum;

use super::context::{Job, RunContext};
use super::place;
use super::recorder::RunRecorder;
use super::running_vm::keys;
use crate::catalog::Plan;
use crate::catalog::plan::{MAX_VMS, Risk, Tier};
use crate::machine::network::NetworkSpec;
use crate::site::certs::pebble::PebbleFiles;
use crate::site::certs::{Acme, Pebble, TierRequirements, UnmetRequirement};
use crate::support::run_folder::RunFolder;

/// How long the ACME server may take to come up.
const START: Duration = Duration::from_secs(30);

/// The tier of an admitted run.
#[derive(Default)]
pub(super) struct Certs {
    /// The content of `certs.root`.
    roots: Option<String>,
    /// The ACME server, once it runs.
    pebble: Option<Pebble>,
}

impl Certs {
    /// Admits the plan's tier, or refuses it with what it lacks. Asks the hypervisor only if the tier needs an answer.
    ///
    /// # Errors
    /// [`UnmetRequirement`]; or that the hypervisor does not answer.
    pub(super) fn admit(context: &RunContext, plan: &Plan, job: Job) -> anyhow::Result<Self> {
        // After `apply` the VM already has everything that the tier needs.
        let given = matches!(job, Job::Reboot | Job::Assert);
        let needs = TierRequirements {
            settings: &plan.harness.certs,
            egress: plan.egress,
            accepted: if given { Risk::value_variants() } else { &plan.accepted_risks },
            has_secret: &|name| given || plan.secrets.iter().any(|secret| secret.name == name),
        };
        let roots = needs.check(plan.certs)?;
        if plan.certs == Tier::Pebble {
            let host = context.host_info()?;
            if !host.local {
                return Err(UnmetRequirement::Remote { uri: host.uri }.into());
            }
        }
        Ok(Self { roots, pebble: None })
    }

    /// The ACME settings for the site. Starts the ACME server if the tier needs it and it does not run yet.
    ///
    /// # Errors
    /// When the ACME server does not come up.
    pub(super) fn serve(
        &mut self,
        context: &RunContext,
        plan: &Plan,
        folder: &RunFolder,
        recorder: &RunRecorder,
    ) -> anyhow::Result<Acme> {
        if plan.certs == Tier::Pebble && self.pebble.is_none() {
            recorder.doing("starting the ACME server");
            let _turn = place::ports(context, START * u32::from(MAX_VMS), recorder)?;
            let gateway = NetworkSpec { subnet: plan.harness.subnet }.gateway();
            let files = PebbleFiles { folder: folder.join("certs"), key: keys(folder).join("acme") };
            let deadline = recorder.deadline(START, "the ACME server");
            self.pebble = Some(Pebble::start(&files, gateway.into(), &deadline)?);
        }
        let authority = self.pebble.as_ref().map(Pebble::authority);
        Ok(Acme::of(plan.certs, &plan.harness.certs, authority, self.roots.as_deref()))
    }

    /// Stops the ACME server.
    pub(super) fn end(&mut self, recorder: &RunRecorder) {
        let notes = self.pebble.take().map(Pebble::stop).unwrap_or_default();
        notes.into_iter().for_each(|note| recorder.note(note));
    }
}
