//! The table of verdicts: each kind of task in each situation, as YAML and with the verdict that it must have.

use std::fmt::Write as _;

/// What becomes of a task of `verify.yml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Passed,
    Failed,
    /// Skipped by its own `when`.
    DoesNotApply,
    /// Nothing: it is no assertion, and all is well.
    Nothing,
    /// A failed probe that may fail.
    Noted,
    /// Errored, with what the reason must say.
    Errored(&'static str),
    /// It is not selected, not notified or not needed, and not counted.
    Absent,
    /// Ansible refuses such a task, or it is not the same situation.
    Impossible,
}

use Cell::{Absent, DoesNotApply, Errored, Failed, Impossible, Noted, Nothing, Passed};

/// The kinds of task: what the table calls it, and its module with what belongs to it.
pub(crate) const KINDS: [(&str, &str); 8] = [
    ("`assert` that holds", "assert: {that: 1 == 1}"),
    ("`assert` that does not", "assert: {that: 1 == 2}"),
    ("`fail`", "fail: {msg: as it should}"),
    ("tagged, exits 0", "command: 'true', TAGS: [assertion], DELEGATE: localhost, CHANGED: false"),
    ("tagged, exits 1", "command: 'false', TAGS: [assertion], DELEGATE: localhost, CHANGED: false"),
    ("probe, exits 0", "raw: 'true', DELEGATE: localhost"),
    ("probe, exits 1", "raw: 'false', DELEGATE: localhost"),
    ("`include_tasks`", "include_tasks: more.yml"),
];

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the play, with these keywords.
    Play(&'static str),
    /// In a block with a `rescue`, which takes over if it fails.
    Rescued,
    /// In a block that ended before it.
    AfterAFailure,
    /// In a `rescue` that nothing needs.
    IdleRescue,
    /// In an `always`.
    Always,
    /// In a file of `include_tasks`, one of `import_tasks`, and a role of `include_role`.
    Included,
    Imported,
    Role,
    /// A handler that a task notifies, and one that none does.
    Handler,
    IdleHandler,
}

use Place::Play;

/// A situation, and the verdict of each kind of task in it.
pub(crate) struct Row {
    pub(crate) situation: &'static str,
    pub(crate) place: Place,
    pub(crate) cells: [Cell; 8],
}

const fn row(situation: &'static str, place: Place, cells: [Cell; 8]) -> Row {
    Row { situation, place, cells }
}

const PROBE: Cell = Errored("it is not an assertion, and it failed");
const INCLUDE: Cell = Errored("what it includes may have assertions");
const UNEVALUATED: Cell = Errored("could not be evaluated");
const OVERRULED: Cell = Errored("contradict each other");
const EMPTY: Cell = Errored("has no items");
const NEVER: Cell = Errored("keeps it from failing");
const CHANGED: Cell = Errored("reports a change");
const PENDING: Cell = Errored("had not ended");
const ITSELF: Cell = Errored("not by its own `when`");
const UNREACHED: Cell = Errored("it ended before");

/// Evaluated as usual.
const USUAL: [Cell; 8] = [Passed, Failed, Failed, Passed, Failed, Nothing, PROBE, Nothing];
const OFF: [Cell; 8] = cells([DoesNotApply; 5], [Nothing; 2], Nothing);
const UNDEFINED: [Cell; 8] = cells([UNEVALUATED; 5], [PROBE; 2], INCLUDE);
/// Ansible's word for it stands against its own conditions.
const CONTRADICTED: [Cell; 8] = cells([OVERRULED, Failed, Failed, Failed, Failed], [PROBE; 2], Impossible);

/// Those of the assertions, of the probes and of the include.
const fn cells(assertions: [Cell; 5], probes: [Cell; 2], include: Cell) -> [Cell; 8] {
    let ([a, b, c, d, e], [f, g]) = (assertions, probes);
    [a, b, c, d, e, f, g, include]
}

/// `cells` for a keyword that Ansible does not allow on an include.
const fn no_include(mut cells: [Cell; 8]) -> [Cell; 8] {
    cells[7] = Impossible;
    cells
}

const IGNORES: [Cell; 8] = {
    let mut cells = USUAL;
    cells[6] = Noted;
    cells
};

pub(crate) const ROWS: [Row; 35] = [
    row("its play ignores errors", Play(""), USUAL),
    row("it ignores errors itself", Play("ignore_errors: true"), IGNORES),
    row("a `rescue` takes over", Place::Rescued, USUAL),
    row("`no_log`", Play("no_log: true"), USUAL),
    row("delegated to localhost", Play("DELEGATE: localhost"), no_include(USUAL)),
    row("`run_once`", Play("run_once: true"), USUAL),
    row("`debugger: on_failed`", Play("debugger: on_failed"), USUAL),
    row("in an `always`", Place::Always, USUAL),
    row("in `include_tasks`", Place::Included, USUAL),
    row("in `import_tasks`", Place::Imported, USUAL),
    row("in `include_role`", Place::Role, USUAL),
    row("a handler, notified", Place::Handler, USUAL),
    row("a handler, not notified", Place::IdleHandler, [Absent; 8]),
    row("in a `rescue` that nothing needs", Place::IdleRescue, [Absent; 8]),
    row("tagged `never`", Play("TAGS: [never]"), [Absent; 8]),
    row("its `when` is false", Play("when: 1 == 2"), OFF),
    row("its `when` is undefined", Play("when: nowhere"), UNDEFINED),
    row("a loop", Play("loop: [1, 2]"), USUAL),
    row("a loop, one item left out", Play("loop: [1, 2], when: item == 1"), USUAL),
    row("a loop, all items left out", Play("loop: [1, 2], when: item == 3"), OFF),
    row("a loop over nothing", Play("loop: []"), cells([EMPTY; 5], [Nothing; 2], EMPTY)),
    row("a loop over nothing, its `when` is false", Play("loop: [], when: 1 == 2"), OFF),
    row("a loop over something undefined", Play("loop: '{{ nowhere }}'"), UNDEFINED),
    row("a loop over no list", Play("loop: '{{ 5 }}'"), UNDEFINED),
    row("`failed_when: false`", Play("failed_when: false"), cells([NEVER; 5], [Nothing; 2], Impossible)),
    row("`failed_when` is true", Play("failed_when: 1 == 1"), CONTRADICTED),
    row("`failed_when` is undefined", Play("failed_when: nowhere"), no_include(UNDEFINED)),
    row(
        "it reports a change",
        Play("CHANGED: true"),
        cells([Passed, Failed, Failed, CHANGED, Failed], [Nothing, PROBE], Impossible),
    ),
    row("`until` never holds", Play("until: 1 == 2, retries: 1, delay: 0"), CONTRADICTED),
    row("`until` is undefined", Play("until: nowhere, retries: 1, delay: 0"), no_include(UNDEFINED)),
    row("`delegate_to` is undefined", Play("DELEGATE: '{{ nowhere }}'"), no_include(UNDEFINED)),
    row(
        "`async` with `poll`",
        Play("async: 300, poll: 1"),
        cells([UNEVALUATED, UNEVALUATED, UNEVALUATED, Passed, Failed], [PROBE; 2], Impossible),
    ),
    row(
        "`async` without `poll`",
        Play("async: 30, poll: 0"),
        cells([UNEVALUATED, UNEVALUATED, UNEVALUATED, PENDING, PENDING], [PROBE; 2], Impossible),
    ),
    row(
        "`check_mode`",
        Play("check_mode: true"),
        cells([Passed, Failed, Failed, ITSELF, ITSELF], [ITSELF; 2], Impossible),
    ),
    row("not reached", Place::AfterAFailure, cells([UNREACHED; 5], [Nothing; 2], UNREACHED)),
];

impl Cell {
    fn words(self) -> &'static str {
        match self {
            Passed => "passed",
            Failed => "failed",
            DoesNotApply => "does not apply",
            Nothing => "–",
            Noted => "noted",
            Errored(_) => "**errored**",
            Absent => "not counted",
            Impossible => "",
        }
    }
}

/// The table as Markdown.
pub(crate) fn markdown() -> String {
    let mut text = "| situation |".to_owned();
    for (kind, _) in KINDS {
        let _ = write!(text, " {kind} |");
    }
    text += &format!("\n|{}\n", "---|".repeat(KINDS.len() + 1));
    for Row { situation, cells, .. } in &ROWS {
        let _ = write!(text, "| {situation} |");
        for cell in cells {
            let _ = write!(text, " {} |", cell.words());
        }
        text.push('\n');
    }
    text
}

/// `verify.yml` with the cells of `rows`, and the files beside it. The name of a task is its row and its column.
pub(crate) fn playbook(rows: std::ops::Range<usize>) -> Vec<(String, String)> {
    let mut files = vec![("harness/more.yml".to_owned(), "- {name: included, debug: {}}\n".to_owned())];
    // An assertion that fails: then the verification has a list of all gaps.
    let mut tasks = "    - {name: start, assert: {that: false}}\n".to_owned();
    let mut handlers = "    - {name: idle, debug: {}}\n".to_owned();
    for index in rows {
        let row = &ROWS[index];
        for (column, (_, module)) in KINDS.iter().enumerate() {
            if row.cells[column] == Impossible {
                continue;
            }
            let name = name(index, column);
            let task = |more: &str| format!("{{name: {name}, {}}}", keywords(module, more));
            let is_ok = "{debug: {}}";
            let text = match row.place {
                Play(more) => task(more),
                Place::Rescued => {
                    format!("{{block: [{}], rescue: [{is_ok}]}}", task("ignore_errors: false"))
                }
                Place::AfterAFailure => format!(
                    "{{block: [{{name: 'before {name}', fail: {{}}, ignore_errors: false}}, {}], rescue: [{is_ok}]}}",
                    task("")
                ),
                Place::IdleRescue => format!("{{block: [{is_ok}], rescue: [{}]}}", task("")),
                Place::Always => format!("{{block: [{is_ok}], always: [{}]}}", task("")),
                Place::Included | Place::Imported => {
                    files.push((format!("harness/{name}.yml"), format!("- {}\n", task(""))));
                    let how = if row.place == Place::Included { "include" } else { "import" };
                    format!("{{{how}_tasks: {name}.yml}}")
                }
                Place::Role => {
                    let main = format!("harness/roles/{name}/tasks/main.yml");
                    files.push((main, format!("- {}\n", task(""))));
                    files.push((
                        format!("harness/roles/{name}/tasks/more.yml"),
                        "- {name: included, debug: {}}\n".to_owned(),
                    ));
                    format!("{{include_role: {{name: {name}}}}}")
                }
                Place::Handler => {
                    let _ = writeln!(handlers, "    - {}", task(""));
                    format!("{{raw: 'true', delegate_to: localhost, notify: {name}}}")
                }
                Place::IdleHandler => {
                    let _ = writeln!(handlers, "    - {}", task(""));
                    is_ok.to_owned()
                }
            };
            let _ = writeln!(tasks, "    - {text}");
        }
    }
    let head = "- hosts: all\n  gather_facts: false\n  ignore_errors: true\n";
    files.push(("harness/verify.yml".to_owned(), format!("{head}  tasks:\n{tasks}  handlers:\n{handlers}")));
    files
}

pub(crate) fn name(row: usize, column: usize) -> String {
    format!("r{row}c{column}")
}

/// A module and more keywords; those in capitals are of both, and the later ones win. Tags add up.
fn keywords(module: &str, more: &str) -> String {
    let is_tagged = module.contains("TAGS") && more.contains("TAGS: [never]");
    let module = if is_tagged { module.replace("TAGS: [assertion], ", "") } else { module.to_owned() };
    let more = if is_tagged { more.replace("[never]", "[assertion, never]") } else { more.to_owned() };
    let kept = module.split(", ").filter(|part| {
        let key = part.split(':').next().unwrap_or_default();
        !(key == key.to_uppercase() && more.contains(&format!("{key}:")))
    });
    let all: Vec<&str> = kept.chain(Some(more.as_str()).filter(|more| !more.is_empty())).collect();
    all.join(", ")
        .replace("TAGS", "tags")
        .replace("DELEGATE", "delegate_to")
        .replace("CHANGED", "changed_when")
}
