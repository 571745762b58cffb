use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::support::deadline::WaitError;

/// On no machine's `PATH`.
const ABSENT: &str = "boma-it-no-ansible";

/// Error types that leave their class to their cause: without one they mean that something could not be found out.
const LEFT_TO_THE_CAUSE: [&str; 32] = [
    "BootFault",
    "BootFaultKind",
    "BootIncomplete",
    "CommandStatus",
    "InvalidBuildId",
    "InvalidLayerName",
    "InvalidName",
    "InvalidPackage",
    "InvalidQuantity",
    "InvalidSecret",
    "InvalidSubnet",
    "KeyError",
    "LockError",
    "NotEnoughSpace",
    "OfficialError",
    "PebbleError",
    "PlaybookError",
    "ProcessError",
    "PruneError",
    "ReadyError",
    "Reason",
    "RebootError",
    "RenewError",
    "SeedError",
    "SourceProblem",
    "SshError",
    "TooMuch",
    "UnknownHost",
    "UnreadableSecret",
    "VerificationError",
    "VmFailure",
    "WaitError",
];

fn start(program: &str, kind: io::ErrorKind) -> ProcessError {
    ProcessError::Start { program: program.to_owned(), source: io::Error::from(kind) }
}

fn ansible(error: ProcessError) -> anyhow::Error {
    anyhow::Error::from(SiteError::Process(error)).context("askari::cycle")
}

#[test]
fn an_ansible_that_is_not_on_the_path_is_lacking() {
    let lacking = ErrorClass::MachineLacks { refused: false };
    let error = ansible(start(ABSENT, io::ErrorKind::NotFound));
    assert_eq!(ErrorClass::of(&error), lacking);
    // The vault is the first thing that a trial asks Ansible for.
    let error = SecretError::from(SiteError::Process(start(ABSENT, io::ErrorKind::NotFound)));
    assert_eq!(ErrorClass::of(&error.into()), lacking);
}

/// The system also says `NotFound` where the interpreter of a script is gone.
#[rstest::rstest]
#[case::interpreter_gone("sh", io::ErrorKind::NotFound)]
#[case::not_allowed("sh", io::ErrorKind::PermissionDenied)]
#[case::not_executable(ABSENT, io::ErrorKind::PermissionDenied)]
#[case::not_in_the_configured_folder("/srv/.venv2/bin/ansible-inventory", io::ErrorKind::NotFound)]
fn an_ansible_that_exists_or_is_configured_and_does_not_start_is_an_error(
    #[case] program: &str,
    #[case] kind: io::ErrorKind,
) {
    assert_eq!(ErrorClass::of(&ansible(start(program, kind))), ErrorClass::Infrastructure);
}

#[test]
fn an_ansible_that_breaks_while_it_runs_is_an_error() {
    let command = "ansible-inventory --list".to_owned();
    let broken = ProcessError::Io { command, source: io::Error::other("the pipe broke") };
    assert_eq!(ErrorClass::of(&ansible(broken)), ErrorClass::Infrastructure);
}

#[test]
fn only_types_have_a_class_and_words_have_none() {
    let error = anyhow::anyhow!("no libvirt daemon answers");
    assert_eq!(ErrorClass::of(&error), ErrorClass::Infrastructure);
}

#[test]
fn an_image_that_does_not_exist_is_usage() {
    let unknown = ImageError::Unknown { name: "golden-1".to_owned(), known: Vec::new() };
    assert_eq!(Exit::Error(ErrorClass::of(&unknown.into())).code(), 2);
}

#[test]
fn a_signal_deep_in_a_chain_gives_its_own_exit_code() {
    let source = WaitError::Interrupted(Interrupted(15));
    let error = HypervisorError::GaveUp { what: "upload volume x".to_owned(), source };
    let class = ErrorClass::of(&anyhow::Error::from(error).context("askari::cycle"));
    assert_eq!(Exit::Error(class).code(), 143);
}

#[test]
fn a_missing_program_of_a_tier_is_refused_by_the_driver_and_ignored_by_cargo_test() {
    let error = anyhow::Error::from(UnmetRequirement::Program { program: "pebble" });
    assert_eq!(ErrorClass::of(&error), ErrorClass::MachineLacks { refused: true });
    assert_eq!(Exit::Error(ErrorClass::of(&error)).code(), 4);
}

#[test]
fn no_error_type_is_forgotten() {
    let this_file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/exit.rs")).unwrap();
    let has_class = |name: &str| this_file.contains(&format!("::<{name}>()"));
    let mut unknown = Vec::new();
    let mut all = error_types(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    all.sort();
    assert!(all.len() > 20, "does `error_types` still find them? {all:?}");
    for name in &all {
        if has_class(name) == LEFT_TO_THE_CAUSE.contains(&name.as_str()) {
            unknown.push(name);
        }
    }
    assert!(unknown.is_empty(), "classify these, or list them as left to the cause, not both: {unknown:#?}");
    let gone: Vec<_> = LEFT_TO_THE_CAUSE.iter().filter(|name| !all.iter().any(|it| it == *name)).collect();
    assert!(gone.is_empty(), "no such error type: {gone:?}");
}

/// The names of the types that derive `thiserror::Error`.
fn error_types(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { error_types(&path) } else { types_of(&path) }).collect()
}

fn types_of(path: &PathBuf) -> Vec<String> {
    if path.extension().is_none_or(|it| it != "rs") {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let after = text.split("#[derive(").skip(1).filter(|rest| {
        rest.split_once(")]").is_some_and(|(derived, _)| derived.contains("thiserror::Error"))
    });
    let name = |rest: &str| {
        let head = rest.lines().find(|line| line.contains("enum ") || line.contains("struct "))?;
        let name = head.split(["enum ", "struct "].iter().find(|it| head.contains(**it))?).nth(1)?;
        Some(name.split(|c: char| !c.is_alphanumeric()).next()?.to_owned())
    };
    after.filter_map(name).collect()
}
