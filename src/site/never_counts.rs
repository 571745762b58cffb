//! What of `verify.yml` can never count, from what is written in it: an assertion that asserts nothing, is not waited for, or
//! changes the host; a play for nobody; a declared assertion that is not the only one of its name. It is pure.

use super::inventory::{ProductionInventory, enumerate};
use super::playbooks::{Play, Selection, Task, TaskKind};

/// What is wrong with `verify.yml`, and what a person should know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// What refuses the run.
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// The findings in the plays of `verify.yml`, in a run about `host` whose scenario declares that the assertions `declared`
/// fail.
pub(super) fn findings(
    verify: &[Play],
    host: &str,
    production: &ProductionInventory,
    declared: &[String],
) -> Findings {
    let mut found = Findings::default();
    let mut tasks: Vec<&Task> = Vec::new();
    for play in verify {
        match play.selection(host, production) {
            Selection::Host => tasks.extend(&play.tasks),
            Selection::Others => {}
            Selection::Nobody(why) => {
                found.problems.push(format!("{} runs on no host: {why}", play.label()));
            }
            Selection::Unknown(why) => {
                tasks.extend(&play.tasks);
                found.notes.push(format!("whom {} is for is unknown until it runs: {why}", play.label()));
            }
        }
    }
    let assertions: Vec<&Task> =
        tasks.iter().copied().filter(|task| task.kind == TaskKind::Assertion).collect();
    for task in &assertions {
        found.problems.extend(defects(task).map(|why| format!("{}: {why}", label(task))));
    }
    for name in declared {
        found.problems.extend(not_declarable(name, &assertions));
    }
    let is_disabled = |task: &&&Task| task.tags.contains("never");
    let is_wanted = |task: &&&Task| task.kind != TaskKind::Probe;
    let disabled = tasks.iter().filter(is_wanted).filter(is_disabled);
    found.notes.extend(list("does not run (tag `never`)", disabled.copied()));
    let is_ignored = |task: &&Task| task.kind == TaskKind::Probe && task.ignored;
    found.notes.extend(list(
        "may fail unseen (`ignore_errors`, `failed_when: false`)",
        tasks.iter().copied().filter(is_ignored),
    ));
    found
}

/// What keeps an assertion from ever counting.
fn defects(task: &Task) -> impl Iterator<Item = &'static str> {
    let defects = [
        (task.asserts_nothing, "it asserts nothing: write a condition in `that`"),
        (task.loops_over_nothing, "its loop is empty: it would be skipped"),
        (task.not_waited_for, "`poll: 0` does not wait for its result: remove `async` and `poll`"),
        (
            task.always_changes,
            "a command always reports a change, and an assertion that changes the host does not count: add `changed_when: false`",
        ),
    ];
    defects.into_iter().filter_map(|(is_defect, why)| is_defect.then_some(why))
}

/// Why the declared assertion cannot be told from others, or never runs. Its name may come from an include: then nothing is
/// known here.
fn not_declarable(name: &str, assertions: &[&Task]) -> Option<String> {
    let in_role = format!(" : {name}");
    let full: Vec<_> = assertions.iter().filter(|task| task.name == name).collect();
    let several = match full.len() {
        0 => assertions.iter().filter(|task| task.name.ends_with(&in_role)).collect(),
        _ => full,
    };
    match several[..] {
        [] => None,
        [task] if task.tags.contains("never") => Some(format!(
            "{}: `expect.fail.task` declares it, and its tag `never` keeps it from running",
            label(task)
        )),
        [_] => None,
        _ => {
            let places = several.iter().map(|task| task.path.as_str());
            Some(format!(
                "`{name}` in `expect.fail.task` is the name of {} assertions ({}): give each a name of its own",
                several.len(),
                places.collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

fn label(task: &Task) -> String {
    format!("`{}` ({})", task.name, task.path)
}

/// One note about several tasks.
fn list<'a>(what: &str, tasks: impl Iterator<Item = &'a Task>) -> Option<String> {
    let names: Vec<_> = tasks.map(|task| task.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("verify.yml: {what}: {}", enumerate(names, "none")))
}

#[cfg(test)]
mod tests;
