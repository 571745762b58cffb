//! `profiles/<host>.yml`: a host as the harness knows it.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::Check;
use super::plan::{ImageSource, Sizing};
use super::problem::{ProjectError, suggestion};
use super::secrets::SecretPlan;
use super::secrets_section::Sources;
use super::sections::{ImageFile, Version, VmFile};

/// `profiles/<host>.yml`: a host as the harness knows it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(title = "Profile of boma-it")]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ProfileFile {
    #[expect(dead_code, reason = "reading it is the check")]
    /// Version of the file's format.
    version: Version,
    /// What the host is, in one line.
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
    #[expect(dead_code, reason = "for editors, not for us")]
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
    let (mut check, written): (_, ProfileFile) = Check::read(root, file)?;
    check_roles(&written.roles, &mut check);
    let vm = written.vm.unwrap_or_default();
    vm.check(&mut check);
    let image = written.image.map(|image| image.resolve(root, &check.document)).transpose();
    let image = check.collect(image).flatten();
    let secrets = needed(&written.secrets, known, &mut check);
    let description = written.description.as_deref().map(one_line).filter(|text| !text.is_empty());
    check.finish(Profile {
        description,
        roles: written.roles,
        vm: vm.over(Sizing::default()),
        image,
        secrets,
    })
}

fn check_roles(roles: &[String], check: &mut Check) {
    if roles.is_empty() {
        check.key(
            &["roles"],
            "`roles` is empty: list the roles of the host, by their tags in the site playbook",
        );
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    for (index, role) in roles.iter().enumerate() {
        if role.is_empty() || !role.chars().all(is_word) {
            let message =
                format!("`{role}` is not the name of a role (expected letters, digits, `_`, `-` and `.`)");
            check.item(&["roles"], index, message);
        }
    }
    check.repeated(&["roles"], roles, "role");
}

/// The secrets that `wanted`, the profile's list `secrets`, names.
fn needed(wanted: &[String], known: &Sources, check: &mut Check) -> Vec<SecretPlan> {
    check.repeated(&["secrets"], wanted, "secret");
    let mut needed = Vec::new();
    for (index, name) in wanted.iter().enumerate() {
        match known.get(name) {
            Some(source) => needed.push(SecretPlan { name: name.clone(), source: source.clone() }),
            None => {
                let known = known.keys().map(String::as_str);
                let message = format!("harness.yml has no secret `{name}`{}", suggestion(name, known));
                check.item(&["secrets"], index, message);
            }
        }
    }
    needed
}

/// A text without line breaks: descriptions are shown on one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
