//! The whole product of kinds of task and situations, with generated playbooks on a real Ansible: each verdict is that of the
//! table, and none contradicts what Ansible itself printed of the task.

mod kinds;
mod reached;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use boma_it::outcome::AssertionStatus;
use boma_it::site::{Gap, Phase, PlaybookReport, Verification, verification};
use boma_it::support::deadline::Deadline;
use boma_it::support::process::Process;

use crate::fixture::AnsibleVersion::{self, Newest, Oldest, Shipped};
use crate::fixture::{TestSite, checkout};
use table::{Cell, KINDS, ROWS, markdown, name, playbook};

/// How many rows a playbook has.
const CHUNK: usize = 6;

/// What Ansible's own output says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Printed {
    Skipped,
    Ok,
    Failed,
}

/// The worst that Ansible printed of each task: of the items of a loop, or of the task itself.
fn printed(log: &str) -> BTreeMap<String, Printed> {
    let mut tasks = BTreeMap::new();
    let mut current = String::new();
    for line in log.lines() {
        let header = line.strip_prefix("TASK [").or_else(|| line.strip_prefix("RUNNING HANDLER ["));
        if let Some((name, _)) = header.and_then(|rest| rest.split_once("] *")) {
            current = name.rsplit(" : ").next().unwrap_or(name).to_owned();
            continue;
        }
        let status = match line.split(": [askari").next() {
            Some("fatal" | "failed") => Printed::Failed,
            Some("ok" | "changed") => Printed::Ok,
            Some("skipping") => Printed::Skipped,
            _ => continue,
        };
        let worst = tasks.entry(current.clone()).or_insert(status);
        *worst = (*worst).max(status);
    }
    tasks
}

/// What was made of the task `name`: the verdict, in the words of the table.
fn cell_of(name: &str, found: &Verification) -> String {
    let is_it = |task: &str| task.rsplit(" : ").next() == Some(name);
    let gap = found.gaps.iter().find(|gap| match gap {
        Gap::Task { task, .. } => is_it(&task.task),
        Gap::NotReached(names) | Gap::LeftOut(names) => {
            names.iter().any(|it| it.starts_with(&format!("`{name}`")))
        }
        Gap::UnknownPlay { .. } => false,
    });
    if let Some(gap) = gap {
        return format!("errored: {gap}");
    }
    if found.notes.iter().any(|note| note.contains(&format!("`{name}`"))) {
        return "noted".to_owned();
    }
    match found.assertions.iter().find(|it| is_it(&it.name)).map(|it| it.status) {
        Some(AssertionStatus::Passed) => "passed".to_owned(),
        Some(AssertionStatus::Failed) => "failed".to_owned(),
        Some(AssertionStatus::Skipped) => "does not apply".to_owned(),
        None => "nothing".to_owned(),
    }
}

/// Whether a verdict is one that Ansible's own result allows: an assertion never passed or failed unless Ansible says so too.
fn is_allowed(verdict: &str, printed: Option<Printed>) -> bool {
    match verdict {
        "passed" => printed == Some(Printed::Ok),
        "failed" | "noted" => printed == Some(Printed::Failed),
        "does not apply" => printed == Some(Printed::Skipped),
        "nothing" => printed != Some(Printed::Failed),
        _ => true,
    }
}

/// Runs `verify.yml`. It has many tasks, and the machine may be busy.
fn run(site: &TestSite) -> PlaybookReport {
    let deadline = Deadline::uninterrupted(Duration::from_secs(600), "the test");
    let run = site.workspace().run(Phase::Assert, &site.vars("askari"), &deadline, &mut |_| {});
    run.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
}

#[rstest::rstest]
fn each_kind_of_task_has_the_verdict_of_the_table_in_each_situation(
    #[values(Oldest, Shipped, Newest)] version: AnsibleVersion,
    #[values(0, 1, 2, 3, 4, 5)] chunk: usize,
) {
    let rows = chunk * CHUNK..ROWS.len().min((chunk + 1) * CHUNK);
    let files = playbook(rows.clone());
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let found = verification(&run(&site), "askari").unwrap();
    let log = fs::read_to_string(site.folder().join("assert.log")).unwrap();
    let printed = printed(&log);
    let mut wrong = Vec::new();
    for index in rows {
        for (column, (kind, _)) in KINDS.iter().enumerate() {
            let (row, name) = (&ROWS[index], name(index, column));
            let seen = cell_of(&name, &found);
            let holds = match row.cells[column] {
                Cell::Passed => seen == "passed",
                Cell::Failed => seen == "failed",
                Cell::DoesNotApply => seen == "does not apply",
                Cell::Nothing | Cell::Absent => seen == "nothing",
                Cell::Noted => seen == "noted",
                Cell::Errored(why) => seen.starts_with("errored: ") && seen.contains(why),
                Cell::Impossible => continue,
            };
            let what = format!("{}, {kind} ({name}): ", row.situation);
            if !holds {
                wrong.push(format!("{what}expected {:?}, seen {seen}", row.cells[column]));
            }
            let by_ansible = printed.get(&name).copied();
            if !is_allowed(&seen, by_ansible) {
                wrong.push(format!("{what}{seen}, but Ansible says {by_ansible:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), log.lines().take(5).collect::<String>());
}

/// What Ansible makes of the playbook by itself, without boma-it's configuration, callback and variables. It need not look for
/// an interpreter: where Python comes from a version manager, that takes minutes.
fn run_plainly(site: &TestSite) -> BTreeMap<String, Printed> {
    let folder = site.plan.verify.parent().unwrap();
    let config = folder.join("empty.cfg");
    fs::write(&config, "[defaults]\ninterpreter_python = /usr/bin/python3\n").unwrap();
    let program = match &site.plan.ansible {
        Some(programs) => programs.join("ansible-playbook"),
        None => "ansible-playbook".into(),
    };
    let finished = Process::new(program)
        .args(["--inventory", "askari,"])
        .arg(&site.plan.verify)
        .env("ANSIBLE_CONFIG", &config)
        .env("ANSIBLE_NOCOLOR", "1")
        .cwd(folder)
        .run(&Deadline::uninterrupted(Duration::from_secs(600), "Ansible by itself"))
        .unwrap();
    printed(&finished.stdout)
}

/// The callback wraps parts of Ansible: it must see what is there, and change nothing. In the chunk that is left out, a
/// debugger would wait for somebody.
#[rstest::rstest]
#[case(Shipped, 0)]
#[case(Oldest, 2)]
#[case(Shipped, 3)]
#[case(Newest, 4)]
#[case(Shipped, 5)]
fn no_verdict_contradicts_ansible_by_itself(#[case] version: AnsibleVersion, #[case] chunk: usize) {
    let rows = chunk * CHUNK..ROWS.len().min((chunk + 1) * CHUNK);
    let files = playbook(rows.clone());
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let Some(site) = TestSite::with_ansible(version, &files) else { return };
    let found = verification(&run(&site), "askari").unwrap();
    let log = fs::read_to_string(site.folder().join("assert.log")).unwrap();
    let plain = run_plainly(&site);
    assert_eq!(printed(&log), plain);
    let names = rows.flat_map(|row| (0..KINDS.len()).map(move |column| name(row, column)));
    let wrong: Vec<_> = names
        .map(|name| (cell_of(&name, &found), plain.get(&name).copied(), name))
        .filter(|(verdict, by_ansible, _)| !is_allowed(verdict, *by_ansible))
        .collect();
    assert!(wrong.is_empty() && plain.len() > KINDS.len(), "{wrong:#?}");
}

#[test]
fn every_row_is_in_one_of_the_playbooks() {
    assert!(
        ROWS.len() > 5 * CHUNK && ROWS.len() <= 6 * CHUNK,
        "the values of `chunk` above do not cover {}",
        ROWS.len()
    );
}

/// Between two lines of dashes in comments, so that the page around it can be written by hand.
#[test]
fn the_table_in_the_documents_is_this_one() {
    const PATH: &str = "docs/verdicts.md";
    let page = fs::read_to_string(checkout(PATH)).unwrap();
    let (head, rest) = page.split_once("<!-- table -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- end of table -->").unwrap();
    let expected = format!("{head}<!-- table -->\n{}<!-- end of table -->{tail}", markdown());
    snapbox::assert_data_eq!(expected, snapbox::Data::read_from(&checkout(PATH), None).raw());
}
