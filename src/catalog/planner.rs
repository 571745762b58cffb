//! Makes a plan: reads a trial's files whole and strictly, and applies a person's options for the run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::plan::{HarnessPlan, ImageSource, Layers, Plan, Risk, SitePlan, Tier, TrialName};
use super::problem::{Problem, ProjectError, collect};
use super::profile::{self, Profile};
use super::project::{Project, duplicate};
use super::root::expand;
use super::scenario::{self, Scenario};
use super::secrets::SecretPlan;
use super::sections::unreadable;
use super::variables::check_overrides;
use crate::support::env::{self, InvalidVariable};
use crate::support::name::{Name, near_miss};

/// A person's options for one run. Each replaces what the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Certificate tier.
    pub certs: Option<Tier>,
    /// A risk that is accepted.
    pub accept_risk: Option<Risk>,
    /// Libvirt connection URI, instead of `libvirt.uri`.
    pub uri: Option<String>,
    /// Folder of the run folders, instead of `runs.dir`; relative to the working directory.
    pub runs: Option<PathBuf>,
    /// What a VM may start from, instead of `layers`.
    pub layers: Option<Layers>,
}

impl RunOptions {
    /// The options from the environment; `certs` and `accept_risk`, from the command line, win over its variables.
    ///
    /// # Errors
    /// [`InvalidVariable`] when a variable names a tier or a risk that does not exist.
    pub(crate) fn from_env(certs: Option<Tier>, accept_risk: Option<Risk>) -> Result<Self, InvalidVariable> {
        Ok(Self {
            certs: certs.map_or_else(|| env::CERTS.choice(), |tier| Ok(Some(tier)))?,
            accept_risk: accept_risk.map_or_else(|| env::ACCEPT_RISK.choice(), |risk| Ok(Some(risk)))?,
            uri: env::URI.get(),
            runs: env::RUNS.get().map(PathBuf::from),
            layers: env::LAYERS.choice()?,
        })
    }

    /// The harness's settings with these options over them.
    fn over(&self, settings: &HarnessPlan) -> Result<HarnessPlan, ProjectError> {
        let mut settings = settings.clone();
        if let Some(uri) = &self.uri {
            settings.uri.clone_from(uri);
        }
        settings.layers = self.layers.unwrap_or(settings.layers);
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
    /// The harness's settings with the options applied: for commands that need no trial, such as `prune`.
    ///
    /// # Errors
    /// When the run folders cannot be where the options say.
    pub(crate) fn harness(&self, options: &RunOptions) -> Result<HarnessPlan, ProjectError> {
        options.over(&self.harness.plan)
    }

    /// Why a trial does not run with the tier that was chosen for all trials, if it does not. Invalid files are not
    /// reported here: [`Project::plan`] does that.
    pub(crate) fn skip_reason(&self, trial: &TrialName, options: &RunOptions) -> Option<ProjectError> {
        trial.scenario.as_ref()?;
        let scenario = self.scenario(trial).ok()?;
        tier(&scenario, trial, Some(options.certs?)).err().map(Into::into)
    }

    /// The plan of a trial: its files with every default filled in, and `options` over them.
    ///
    /// # Errors
    /// Everything that is wrong with the trial's files or options, at once: no profile or override of that name, more than
    /// one, a key, value or combination that is not allowed, a file of the site that is not there.
    pub fn plan(&self, trial: &TrialName, options: &RunOptions) -> Result<Plan, ProjectError> {
        let mut problems = Vec::new();
        let scenario = match &trial.scenario {
            None => Some(Scenario::plain(trial.host.as_str())),
            Some(_) => collect(self.scenario(trial), &mut problems),
        };
        let profile = collect(self.profile(trial), &mut problems);
        // The name of an unknown host is misspelt: that it has no override either says nothing new.
        let is_known = self.profiles.contains_key(&trial.host);
        let overrides = is_known.then(|| collect(self.overrides(&trial.host), &mut problems)).flatten();
        problems.extend(self.harness.missing_files(&self.root));
        // Where the scenario is invalid, the tier is checked against those of the plain cycle.
        let scenario = scenario.unwrap_or_else(|| Scenario::plain(trial.host.as_str()));
        let certs = collect(tier(&scenario, trial, options.certs), &mut problems);
        let harness = collect(self.harness(options), &mut problems);
        let (Some(profile), Some(overrides), Some(certs), Some(harness)) =
            (profile, overrides, certs, harness)
        else {
            return Err(problems.into());
        };
        let image = self.image_of(trial, scenario.image, profile.image, &mut problems);
        let about_host = || profile.description.clone().unwrap_or_else(|| format!("host {}", trial.host));
        let plan = Plan {
            trial: trial.clone(),
            description: scenario.description.unwrap_or_else(about_host),
            root: self.root.clone(),
            site: SitePlan {
                overrides,
                vars: scenario.vars,
                roles: profile.roles,
                ..self.harness.site.clone()
            },
            vm: scenario.vm.over(profile.vm),
            image,
            certs,
            accepted_risks: options.accept_risk.into_iter().collect(),
            restart: scenario.restart,
            egress: scenario.egress,
            expect: scenario.expect,
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
        problems.extend(unreadable(&image, &self.root, &file.unwrap_or_default()));
        image
    }

    fn profile(&self, trial: &TrialName) -> Result<Profile, ProjectError> {
        match one(&self.profiles, &trial.host)? {
            Some(file) => profile::read(&self.root, file, &self.harness.secrets),
            None => Err(self.about(trial, self.no_profile(trial.host.as_str())).into()),
        }
    }

    /// The override of a host: absolute.
    fn overrides(&self, host: &Name) -> Result<PathBuf, ProjectError> {
        let Some(file) = one(&self.overrides, host)? else {
            let near = near_miss(host.as_str(), self.overrides.keys().map(Name::as_str));
            let near = near.map(|near| format!(" (there is one for `{near}`)")).unwrap_or_default();
            let file = Path::new("overrides").join(host.as_str()).with_extension("yml");
            let message = format!(
                "no such file{near}: profile `{host}` needs an override; write the variables that replace real ones in a \
                 trial, or `{{}}` if there are none"
            );
            return Err(Problem::of_file(&file, message).into());
        };
        check_overrides(&self.root, file)?;
        Ok(self.root.join(file))
    }

    fn scenario(&self, trial: &TrialName) -> Result<Scenario, ProjectError> {
        let Some(file) = one(&self.trials, trial)? else {
            return Err(Problem::of_request(format!("there is no trial `{trial}`")).into());
        };
        let scenario = scenario::read(&self.root, file)?;
        if scenario.profile == trial.host.as_str() {
            return Ok(scenario);
        }
        let message = format!(
            "`profile` is `{}` to YAML but `{}` in a line of the file: write it once, without indentation",
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

/// The tier to run with: the chosen one, or the first allowed. Production certificates are on demand only.
fn tier(scenario: &Scenario, trial: &TrialName, chosen: Option<Tier>) -> Result<Tier, Problem> {
    let allowed = &scenario.certs;
    match chosen {
        Some(tier) if allowed.contains(&tier) => Ok(tier),
        Some(tier) if !scenario.egress => Err(Problem::of_request(format!(
            "trial `{trial}` cannot run with certificate tier `{tier}`: ACME needs egress, which its scenario cuts \
             (`egress: false`), so it runs with `internal` only"
        ))),
        Some(tier) => {
            let allowed = allowed.iter().map(Tier::to_string).collect::<Vec<_>>().join(", ");
            Err(Problem::of_request(format!(
                "trial `{trial}` cannot run with certificate tier `{tier}` (its scenario allows: {allowed})"
            )))
        }
        None => allowed.iter().copied().find(|tier| *tier != Tier::LeProdWildcard).ok_or_else(|| {
            Problem::of_request(format!(
                "trial `{trial}` runs on demand only: choose its certificate tier, CERTS=le-prod-wildcard"
            ))
        }),
    }
}

/// The one file of that name, if there is one; two are an error.
fn one<'f, K: Ord>(files: &'f BTreeMap<K, Vec<PathBuf>>, name: &K) -> Result<Option<&'f Path>, ProjectError> {
    match files.get(name).map(Vec::as_slice) {
        None | Some([]) => Ok(None),
        Some([file]) => Ok(Some(file)),
        Some(several) => Err(duplicate(several).into()),
    }
}
