//! Which trials there are. Test runners list again and again, so listing must be instant: files are named by their stems,
//! and of a scenario only the line `profile: …` is read. Everything else is read when a plan is made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::document::{Document, ENDINGS};
use super::harness_file::{self, Harness};
use super::image::ImageSource;
use super::plan::{PLAIN, TrialName};
use super::problem::{Problem, ProjectError, collect, suggestion};
use super::sections::unreadable;
use crate::support::file::read_input;
use crate::support::name::Name;

/// The files of a folder by name, relative to the root; more than one for a name is a duplicate.
pub(super) type Files = BTreeMap<Name, Vec<PathBuf>>;

/// A file that names no trial. It is listed as a trial that fails with the error, so that a typing error never removes a
/// test unnoticed.
#[derive(Clone, Debug)]
pub struct InvalidFile {
    /// The file, relative to the root.
    pub file: PathBuf,
    /// What is wrong with it.
    pub error: ProjectError,
}

impl InvalidFile {
    /// The name of the trial that fails for it, without blanks: `broken::scenarios/Incident.yml`.
    pub(crate) fn name(&self) -> String {
        format!("broken::{}", self.file.display()).replace(char::is_whitespace, "_")
    }

    fn new(problem: Problem, file: &Path) -> Self {
        Self { file: file.to_owned(), error: problem.into() }
    }
}

/// The files below a root: the harness's settings, and every trial by name.
#[derive(Clone, Debug)]
pub struct Project {
    pub(super) root: PathBuf,
    pub(super) harness: Harness,
    pub(super) profiles: Files,
    pub(super) overrides: Files,
    /// Every trial, with the files of its scenario; none for a plain cycle.
    pub(super) trials: BTreeMap<TrialName, Vec<PathBuf>>,
    invalid_files: Vec<InvalidFile>,
}

impl Project {
    /// Reads `harness.yml` below `root` and lists what else is there.
    ///
    /// # Errors
    /// If `harness.yml` is invalid, there is no profile, or a folder cannot be read. An invalid profile or scenario is not
    /// an error here: it is listed, and [`Project::plan`] says what is wrong with it.
    pub fn load(root: &Path) -> Result<Self, ProjectError> {
        let (mut problems, mut invalid_files) = (Vec::new(), Vec::new());
        let harness = collect(read_harness(root), &mut problems);
        let mut folder =
            |name| collect(files(root, name, &mut invalid_files), &mut problems).unwrap_or_default();
        let (profiles, scenarios) = (folder("profiles"), folder("scenarios"));
        let overrides = collect(files(root, "overrides", &mut Vec::new()), &mut problems).unwrap_or_default();
        if profiles.is_empty() && invalid_files.is_empty() && problems.is_empty() {
            problems.push(Problem::of_file(
                "profiles".as_ref(),
                "there is no profile: add a host as `profiles/<host>.yml`, with its `overrides/<host>.yml`",
            ));
        }
        let Some(harness) = harness else { return Err(problems.into()) };
        let plain =
            profiles.keys().map(|host| (TrialName { host: host.clone(), scenario: None }, Vec::new()));
        let mut trials: BTreeMap<_, _> = plain.collect();
        for (name, files) in scenarios {
            for file in &files {
                match profile_of(root, file, &name) {
                    Ok(host) => {
                        trials.insert(TrialName { host, scenario: Some(name.clone()) }, files.clone());
                    }
                    Err(problem) => invalid_files.push(InvalidFile::new(problem, file)),
                }
            }
        }
        invalid_files.sort_by(|one, other| one.file.cmp(&other.file));
        let root = root.to_owned();
        ProjectError::unless(problems, Self { root, harness, profiles, overrides, trials, invalid_files })
    }

    /// How many VMs may run at a time.
    pub(crate) fn vms(&self) -> usize {
        self.harness.plan.vms
    }

    /// Every trial, sorted, valid or not: an invalid one fails when its plan is made.
    pub(crate) fn trials(&self) -> impl ExactSizeIterator<Item = &TrialName> {
        self.trials.keys()
    }

    /// Files that name no trial. Each must be listed as a trial that fails.
    pub(crate) fn invalid_files(&self) -> &[InvalidFile] {
        &self.invalid_files
    }

    /// The golden image of the harness; a profile or a scenario may have its own.
    pub(crate) fn image(&self) -> &ImageSource {
        &self.harness.image
    }

    /// [`Project::image`], for use.
    ///
    /// # Errors
    /// If it is a file of the operator's that cannot be read.
    pub(crate) fn readable_image(&self) -> Result<&ImageSource, ProjectError> {
        let image = self.image();
        unreadable(image, &self.root, &self.harness.file).map_or(Ok(image), |problem| Err(problem.into()))
    }

    /// The trial of this host and scenario; no scenario, or `cycle`, is the plain cycle.
    ///
    /// # Errors
    /// If there is none; near misses and everything known are named.
    pub fn find(&self, host: &str, scenario: Option<&str>) -> Result<TrialName, ProjectError> {
        let Some(profile) = self.profiles.keys().find(|name| name.as_str() == host) else {
            return Err(Problem::of_request(self.no_profile(host)).into());
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
            Some(other) => format!("scenario `{wanted}` belongs to host `{}`, not to `{host}`", other.host),
            None => {
                let of_host = self.trials.keys().filter(|trial| trial.host == *profile);
                let known = of_host.filter_map(|trial| trial.scenario.as_ref()).map(Name::as_str);
                format!("host `{host}` has no scenario `{wanted}`{}", suggestion(wanted, known))
            }
        };
        Err(Problem::of_request(message).into())
    }

    /// That there is no profile `host`, with a near miss and every known one.
    pub(super) fn no_profile(&self, host: &str) -> String {
        format!("no profile `{host}`{}", suggestion(host, self.profiles.keys().map(Name::as_str)))
    }
}

fn read_harness(root: &Path) -> Result<Harness, ProjectError> {
    let named = |ending: &&str| Path::new("harness/harness").with_extension(ending);
    let found: Vec<_> = ENDINGS.iter().map(named).filter(|file| root.join(file).exists()).collect();
    match found.as_slice() {
        [] => {
            Err(Problem::of_file("harness/harness.yml".as_ref(), "no such file: create it with `version: 1`")
                .into())
        }
        [file] => harness_file::read(root, file),
        several => Err(duplicate(several).into()),
    }
}

/// The host that a scenario belongs to. Its file is not otherwise checked.
fn profile_of(root: &Path, file: &Path, name: &Name) -> Result<Name, Problem> {
    if name.as_str() == PLAIN {
        let message = format!("`{PLAIN}` is the name of every host's plain trial: rename the scenario");
        return Err(Problem::of_file(file, message));
    }
    let bytes = read_input(&root.join(file))
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

/// The value of a line `profile: <name>` without indentation, which nearly every file has. A guess: making the plan reads
/// the file itself and compares.
fn profile_line(bytes: &[u8]) -> Option<Name> {
    let key = b"profile:";
    let line = bytes.split(|byte| *byte == b'\n').find(|line| line.starts_with(key))?;
    std::str::from_utf8(&line[key.len()..]).ok()?.trim().parse().ok()
}

/// The files of `folder` by name, unread: a file is named by its stem. A folder that does not exist has no files.
fn files(root: &Path, folder: &str, invalid_files: &mut Vec<InvalidFile>) -> Result<Files, ProjectError> {
    let mut files = Files::new();
    let unreadable =
        |error: io::Error| Problem::of_file(folder.as_ref(), format!("the folder cannot be read: {error}"));
    let entries = match fs::read_dir(root.join(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries.map_err(unreadable)?,
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let file = Path::new(folder).join(entry.file_name());
        if is_ignored(&file) {
            continue;
        }
        match name_of(&file, entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            Ok(name) => files.entry(name).or_default().push(file),
            Err(message) => invalid_files.push(InvalidFile::new(Problem::of_file(&file, message), &file)),
        }
    }
    files.values_mut().for_each(|files| files.sort());
    Ok(files)
}

/// The problem of several files with one name.
pub(super) fn duplicate(files: &[PathBuf]) -> Problem {
    let (first, others) = files.split_first().map_or((Path::new(""), files), |(first, rest)| (first, rest));
    let others: Vec<_> = others.iter().map(|file| format!("`{}`", file.display())).collect();
    Problem::of_file(first, format!("{} has the same name: keep one of them", others.join(" and ")))
}

/// Hidden files, editors' backups and notes for people.
fn is_ignored(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.ends_with('~') || name.ends_with(".md")
}

fn name_of(file: &Path, is_folder: bool) -> Result<Name, String> {
    if is_folder {
        return Err("this is a folder: move its files into the folder above".to_owned());
    }
    if !file.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
        return Err("the file's name must end in `.yml`, `.yaml` or `.json` (`.md` is ignored)".to_owned());
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.parse()
        .map_err(|error| format!("the file's name without its ending is the trial's name, but {error}"))
}
