//! The whole catalog: folders of files → listings, plans and errors.

mod bad_files;
mod listing;
mod plans;

use std::path::Path;

use super::{Plan, Project, ProjectError, RunOptions};
use crate::support::name::Name;

const HARNESS: &str = "version: 1\n";
const ASKARI: &str = include_str!("tests/askari.yml");
const INCIDENT: &str = include_str!("tests/incident.yml");

/// A root with some files, and those of the site that every plan needs.
struct Fixture(tempfile::TempDir);

impl Fixture {
    /// These files, each with its path below the root.
    fn of(files: &[(&str, &[u8])]) -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        for file in ["site/site.yml", "site/inventory/production", "harness/verify.yml"] {
            fixture.write(file, b"[]\n");
        }
        for (file, content) in files {
            fixture.write(file, content);
        }
        fixture
    }

    /// A host with a scenario, and nothing wrong.
    fn valid() -> Self {
        Self::of(&[
            ("harness/harness.yml", HARNESS.as_bytes()),
            ("profiles/askari.yml", ASKARI.as_bytes()),
            ("overrides/askari.yml", b"{}\n"),
            ("scenarios/incident-2026-06-17.yml", INCIDENT.as_bytes()),
        ])
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, file: &str, content: &[u8]) {
        let file = self.root().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.root().join(file)).unwrap();
    }

    fn load(&self) -> Result<Project, ProjectError> {
        Project::load(self.root())
    }

    /// The plan of `host` and `scenario`, or the errors as a person sees them.
    fn plan(&self, host: &str, scenario: Option<&str>, options: &RunOptions) -> Result<Plan, String> {
        let project = self.load().map_err(|error| self.shown(&error))?;
        let trial = project.find(host, scenario).map_err(|error| self.shown(&error))?;
        project.plan(&trial, options).map_err(|error| self.shown(&error))
    }

    /// All errors: of loading, of invalid files, and of every trial's plan.
    fn errors(&self) -> String {
        let project = match self.load() {
            Ok(project) => project,
            Err(error) => return self.shown(&error),
        };
        let mut shown = Vec::new();
        for invalid in project.invalid_files() {
            shown.push(format!("{}\n{}", invalid.name(), self.shown(&invalid.error)));
        }
        for trial in project.trials() {
            if let Err(error) = project.plan(trial, &RunOptions::default()) {
                shown.push(format!("{trial}\n{}", self.shown(&error)));
            }
        }
        shown.join("\n")
    }

    /// Without the folder's name, which differs from run to run.
    fn shown(&self, error: &ProjectError) -> String {
        error.to_string().replace(self.root().to_str().unwrap(), "[root]")
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}
