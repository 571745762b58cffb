//! The catalog from outside: folders of files → listings, plans and errors.

mod bad_files;
mod listing;
mod plans;

use std::path::Path;

use super::{Plan, Project, ProjectError, RunOptions};
use crate::support::name::Name;

const HARNESS: &str = "version: 1\n";
const ASKARI: &str = include_str!("tests/askari.yml");
const INCIDENT: &str = include_str!("tests/incident.yml");

/// A root with these files, and the site's that every plan needs.
struct Fixture(tempfile::TempDir);

impl Fixture {
    /// Of these files, each with its path below the root.
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

    /// Of a host with a scenario, and nothing wrong.
    fn sound() -> Self {
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

    /// The plan of `host` and `scenario`, or what is wrong, as a person sees it.
    fn plan(&self, host: &str, scenario: Option<&str>, choices: &RunOptions) -> Result<Plan, String> {
        let catalog = self.load().map_err(|error| self.shown(&error))?;
        let trial = catalog.find(host, scenario).map_err(|error| self.shown(&error))?;
        catalog.plan(&trial, choices).map_err(|error| self.shown(&error))
    }

    /// Everything that is wrong: loading, strays, and every trial's plan.
    fn errors(&self) -> String {
        let catalog = match self.load() {
            Ok(catalog) => catalog,
            Err(error) => return self.shown(&error),
        };
        let mut shown = Vec::new();
        for stray in catalog.strays() {
            shown.push(format!("{}\n{}", stray.name(), self.shown(&stray.error)));
        }
        for trial in catalog.trials() {
            if let Err(error) = catalog.plan(trial, &RunOptions::default()) {
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
