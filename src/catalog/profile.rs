//! `profiles/<host>.yml`: a host as the harness knows it.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::Document;
use super::parts::{ImageFile, Version, VmFile};
use super::plan::{ImageSource, Sizing};
use super::problem::{Problem, ProjectError};
use super::scenario::repeated;
use super::secrets::{SecretPlan, Sources, needed};

/// The file as it is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ProfileFile {
    #[expect(dead_code, reason = "reading it is the check")]
    /// Version of the file's format.
    version: Version,
    /// What the host is, in a line.
    description: Option<String>,
    /// Roles of the host: tags given to the site playbook.
    #[schemars(length(min = 1), inner(regex(pattern = r"^[A-Za-z0-9_.-]+$")), extend("uniqueItems" = true))]
    roles: Vec<String>,
    /// Size of the VM.
    vm: Option<VmFile>,
    /// Its own golden image, instead of the harness's.
    image: Option<ImageFile>,
    /// Names of the secrets that its roles need.
    #[serde(default)]
    secrets: Vec<String>,
    /// Where the schema of the file is: for editors.
    #[serde(rename = "$schema")]
    #[expect(dead_code, reason = "an editor's, not ours")]
    schema: Option<String>,
}

/// A host, with every default filled in.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// What it is.
    pub(super) description: Option<String>,
    /// Tags given to the site playbook. At least one.
    pub(super) roles: Vec<String>,
    /// Size of its VM.
    pub(super) vm: Sizing,
    /// Its own golden image.
    pub(super) image: Option<ImageSource>,
    /// The secrets that its roles need.
    pub(super) secrets: Vec<SecretPlan>,
}

/// Reads a profile; `known` are the secrets that the harness names.
pub(super) fn read(root: &Path, file: &Path, known: &Sources) -> Result<Profile, ProjectError> {
    let document = Document::read(root, file)?;
    let written: ProfileFile = document.parse()?;
    let mut problems = Vec::new();
    check_roles(&written.roles, &document, &mut problems);
    let vm = written.vm.unwrap_or_default();
    vm.check(&document, &mut problems);
    let image = written.image.map(|image| image.resolve(root, &document)).transpose();
    let image = image.map_err(|problem| problems.push(problem)).unwrap_or_default();
    let secrets = needed(&written.secrets, known, &document, &mut problems);
    let description = written.description.as_deref().map(one_line).filter(|text| !text.is_empty());
    ProjectError::unless(
        problems,
        Profile { description, roles: written.roles, vm: vm.over(Sizing::default()), image, secrets },
    )
}

fn check_roles(roles: &[String], document: &Document, problems: &mut Vec<Problem>) {
    if roles.is_empty() {
        let message = "`roles` is empty: name the roles of the host, as the site playbook tags them";
        problems.push(document.at_key(&["roles"], message));
    }
    for (index, role) in roles.iter().enumerate() {
        let at = |message| document.at_value(&["roles", &index.to_string()], message);
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if role.is_empty() || !role.chars().all(is_word) {
            problems
                .push(at(format!("`{role}` is no role's name (expected letters, digits, `_`, `-` and `.`)")));
        }
    }
    for (index, role) in repeated(roles) {
        let message = format!("role `{role}` stands twice: keep one");
        problems.push(document.at_value(&["roles", &index.to_string()], message));
    }
}

/// A text without line breaks: descriptions are shown in a line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
