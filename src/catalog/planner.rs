//! Making a plan: a trial's files, read whole and strictly, and the choices of a person laid over them.

use std::path::{Path, PathBuf};

use super::document::Document;
use super::folder::{Files, duplicate};
use super::index::Project;
use super::overrides;
use super::parts::VmFile;
use super::plan::{Expectation, HarnessPlan, ImageSource, Plan, Restart, SitePlan, Tier, TrialName};
use super::problem::{Problem, ProjectError, collect, suggestion};
use super::profile::{self, Profile};
use super::risk::Risk;
use super::root::expand;
use super::scenario::{self, Scenario};
use super::secrets::SecretPlan;
use crate::support::env::{self, InvalidVariable};
use crate::support::name::Name;

/// What a person chooses for one run, over the files. Nothing chosen: the files decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Certificate tier.
    pub certs: Option<Tier>,
    /// A risk that is taken.
    pub accept_risk: Option<Risk>,
    /// Libvirt connection URI, instead of `libvirt.uri`.
    pub uri: Option<String>,
    /// Where run folders go, instead of `runs.dir`; relative to the working directory.
    pub runs: Option<PathBuf>,
}

impl RunOptions {
    /// The choices of the environment. `certs` and `accept_risk`, from the command line, win over its variables.
    ///
    /// # Errors
    /// [`InvalidVariable`] when a variable names a tier or a risk that does not exist.
    pub fn from_env(certs: Option<Tier>, accept_risk: Option<Risk>) -> Result<Self, InvalidVariable> {
        Ok(Self {
            certs: certs.map_or_else(|| env::CERTS.choice(), |tier| Ok(Some(tier)))?,
            accept_risk: accept_risk.map_or_else(|| env::ACCEPT_RISK.choice(), |risk| Ok(Some(risk)))?,
            uri: env::URI.get(),
            runs: env::RUNS.get().map(PathBuf::from),
        })
    }

    /// The harness's settings with these choices over them.
    pub(super) fn over(&self, settings: &HarnessPlan) -> Result<HarnessPlan, ProjectError> {
        let mut settings = settings.clone();
        if let Some(uri) = &self.uri {
            settings.uri.clone_from(uri);
        }
        if let Some(runs) = &self.runs {
            let unusable = |why: String| {
                Problem::of_request(format!("`{}` cannot hold run folders: {why}", runs.display()))
            };
            let here = std::path::absolute(".").map_err(|error| unusable(error.to_string()))?;
            settings.runs = match runs.to_str() {
                Some(text) => expand(&here, text).map_err(unusable)?,
                None => here.join(runs),
            };
        }
        Ok(settings)
    }
}

impl Project {
    /// Why a trial does not run with the tier that a person chose for all, if it does not. Files that are wrong are not
    /// its business: [`Project::plan`] tells.
    pub fn skip_reason(&self, trial: &TrialName, choices: &RunOptions) -> Option<ProjectError> {
        trial.scenario.as_ref()?;
        let scenario = self.scenario(trial).ok()?;
        ScenarioSettings::of(Some(scenario)).tier(trial, Some(choices.certs?)).err()
    }

    /// The plan of a trial: its files with every default filled in, and `choices` over them.
    ///
    /// # Errors
    /// Everything that is wrong with the trial's files or choices, at once: no profile or override of that name, more than
    /// one, a key, value or combination that is not allowed, a file of the site that is not there.
    pub fn plan(&self, trial: &TrialName, choices: &RunOptions) -> Result<Plan, ProjectError> {
        let mut problems = Vec::new();
        if let Some(other) = self.clashes.get(trial) {
            problems.push(Problem::of_request(format!(
                "the VMs of `{trial}` and `{other}` would both be named `{}`: rename one of the scenarios",
                trial.machine()
            )));
        }
        let scenario = match &trial.scenario {
            None => Some(None),
            Some(_) => collect(self.scenario(trial), &mut problems).map(Some),
        };
        let profile = collect(self.profile(trial), &mut problems);
        // A host that is not known is misspelt: that it has no override either says nothing new.
        let overrides = match self.profiles.contains_key(&trial.host) {
            true => collect(self.overrides(&trial.host), &mut problems),
            false => None,
        };
        problems.extend(self.harness.missing_files(&self.root));
        let twist = ScenarioSettings::of(scenario.flatten());
        let certs = collect(twist.tier(trial, choices.certs), &mut problems);
        let harness = collect(choices.over(&self.harness.plan), &mut problems);
        let (Some(profile), Some(overrides), Some(certs), Some(harness)) =
            (profile, overrides, certs, harness)
        else {
            return Err(ProjectError::of(problems));
        };
        let image = self.image_of(trial, twist.image, profile.image, &mut problems);
        let about_host = || profile.description.clone().unwrap_or_else(|| format!("host {}", trial.host));
        let plan = Plan {
            trial: trial.clone(),
            machine: trial.machine(),
            description: twist.description.unwrap_or_else(about_host),
            root: self.root.clone(),
            site: SitePlan {
                dir: self.harness.site.clone(),
                playbook: self.harness.playbook.clone(),
                inventory: self.harness.inventory.clone(),
                verify: self.harness.verify.clone(),
                ansible: self.harness.ansible.clone(),
                overrides,
                vars: twist.vars,
                roles: profile.roles,
            },
            vm: twist.vm.over(profile.vm),
            image,
            certs,
            accepted_risks: choices.accept_risk.into_iter().collect(),
            restart: twist.restart,
            egress: twist.egress,
            expect: twist.expect,
            secrets: self.with_token(profile.secrets, certs, &harness.certs.dns.token),
            harness,
        };
        ProjectError::unless(problems, plan)
    }

    /// What the profile's roles need, and the DNS provider's token where the tier asks for it and its source is named.
    fn with_token(&self, mut secrets: Vec<SecretPlan>, tier: Tier, token: &str) -> Vec<SecretPlan> {
        let wanted = tier.needs_token() && secrets.iter().all(|secret| secret.name != token);
        if let Some(source) = self.harness.secrets.get(token).filter(|_| wanted) {
            secrets.push(SecretPlan { name: token.to_owned(), source: source.clone() });
        }
        secrets
    }

    /// The image of the narrowest file that names one. One of the operator's own must be there.
    fn image_of(
        &self,
        trial: &TrialName,
        of_scenario: Option<ImageSource>,
        of_profile: Option<ImageSource>,
        problems: &mut Vec<Problem>,
    ) -> ImageSource {
        let first = |files: Option<&Vec<PathBuf>>| files.and_then(|files| files.first()).cloned();
        let (image, file) = match (of_scenario, of_profile) {
            (Some(image), _) => (image, first(self.trials.get(trial))),
            (None, Some(image)) => (image, first(self.profiles.get(&trial.host))),
            (None, None) => (self.harness.image.clone(), Some(self.harness.file.clone())),
        };
        problems.extend(image.unreadable(&self.root, &file.unwrap_or_default()));
        image
    }

    fn profile(&self, trial: &TrialName) -> Result<Profile, ProjectError> {
        match one(&self.profiles, &trial.host)? {
            Some(file) => profile::read(&self.root, file, &self.harness.secrets),
            None => {
                let known = self.profiles.keys().map(Name::as_str);
                let message =
                    format!("no profile `{}`{}", trial.host, suggestion(trial.host.as_str(), known));
                Err(self.about(trial, message).into())
            }
        }
    }

    /// The override of a host: absolute.
    fn overrides(&self, host: &Name) -> Result<PathBuf, ProjectError> {
        let Some(file) = one(&self.overrides, host)? else {
            let near =
                crate::support::name::near_miss(host.as_str(), self.overrides.keys().map(Name::as_str));
            let near = near.map(|near| format!(" (there is one for `{near}`)")).unwrap_or_default();
            let file = Path::new("overrides").join(host.as_str()).with_extension("yml");
            let message = format!(
                "no such file{near}: profile `{host}` needs its override; write the variables that stub the real world, \
                 or `{{}}` if there are none"
            );
            return Err(Problem::of_file(&file, message).into());
        };
        overrides::check(&self.root, file)?;
        Ok(self.root.join(file))
    }

    fn scenario(&self, trial: &TrialName) -> Result<Scenario, ProjectError> {
        let file = match self.trials.get(trial).map(Vec::as_slice) {
            Some([file]) => file,
            Some([_, _, ..]) => return Err(duplicate(&self.trials[trial]).into()),
            _ => return Err(Problem::of_request(format!("there is no trial `{trial}`")).into()),
        };
        let scenario = scenario::read(&self.root, file)?;
        if scenario.profile == trial.host.as_str() {
            return Ok(scenario);
        }
        let message = format!(
            "`profile` is `{}` as YAML reads it but a line says `{}`: write it once, at the margin",
            scenario.profile, trial.host
        );
        Err(Problem::of_file(file, message).into())
    }

    /// A problem with what a trial's scenario says of its profile.
    fn about(&self, trial: &TrialName, message: String) -> Problem {
        match self.trials.get(trial).and_then(|files| files.first()) {
            None => Problem::of_request(message),
            Some(file) => Document::problem_in(&self.root, file, &["profile"], message),
        }
    }
}

/// What a scenario changes; of a plain cycle, nothing.
struct ScenarioSettings {
    description: Option<String>,
    vars: std::collections::BTreeMap<String, serde_json::Value>,
    certs: Vec<Tier>,
    restart: Restart,
    egress: bool,
    expect: Expectation,
    vm: VmFile,
    image: Option<ImageSource>,
}

impl ScenarioSettings {
    fn of(scenario: Option<Scenario>) -> Self {
        match scenario {
            None => Self {
                description: None,
                vars: Default::default(),
                certs: Tier::ALL.to_vec(),
                restart: Restart::default(),
                egress: true,
                expect: Expectation { before_reboot: None, fail: None },
                vm: VmFile::default(),
                image: None,
            },
            Some(Scenario { profile: _, description, vars, certs, restart, egress, expect, vm, image }) => {
                Self { description: Some(description), vars, certs, restart, egress, expect, vm, image }
            }
        }
    }

    /// The tier to run with: the chosen one, or the first allowed. Production certificates are on demand only.
    fn tier(&self, trial: &TrialName, chosen: Option<Tier>) -> Result<Tier, ProjectError> {
        let allowed = || self.certs.iter().map(|tier| tier.as_str()).collect::<Vec<_>>().join(", ");
        match chosen {
            Some(tier) if self.certs.contains(&tier) => Ok(tier),
            Some(tier) if !self.egress => Err(Problem::of_request(format!(
                "trial `{trial}` cannot run with certificate tier `{tier}`: ACME needs egress, which its scenario cuts \
                 (`egress: false`), so it runs with `internal` only"
            ))
            .into()),
            Some(tier) => Err(Problem::of_request(format!(
                "trial `{trial}` cannot run with certificate tier `{tier}` (its scenario allows: {})",
                allowed()
            ))
            .into()),
            None => {
                let usual = self.certs.iter().copied().find(|tier| *tier != Tier::LeProdWildcard);
                usual.ok_or_else(|| {
                    Problem::of_request(format!(
                        "trial `{trial}` runs on demand only: choose its certificate tier, CERTS=le-prod-wildcard"
                    ))
                    .into()
                })
            }
        }
    }
}

/// The one file of that name, if there is one; two are an error.
fn one<'f>(files: &'f Files, name: &Name) -> Result<Option<&'f Path>, ProjectError> {
    match files.get(name).map(Vec::as_slice) {
        None | Some([]) => Ok(None),
        Some([file]) => Ok(Some(file)),
        Some(several) => Err(duplicate(several).into()),
    }
}
