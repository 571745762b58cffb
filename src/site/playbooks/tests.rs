use super::*;

const LIST: &str = r#"{"_meta": {"hostvars": {"bare": {}}}, "all": {"children": ["ungrouped", "debian", "monitoring"]},
    "debian": {"children": ["edge", "ops"]}, "edge": {"hosts": ["askari"]}, "ops": {"hosts": ["ubongo"]}}"#;

fn production() -> ProductionInventory {
    ProductionInventory::parse(LIST).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn play(pattern: &str, here: &[&str], there: &[&str], unmatched: &[&str]) -> Play {
    Play {
        name: "web".into(),
        path: "site/site.yml:3".into(),
        pattern: vec![pattern.into()],
        here: set(here),
        production: set(there),
        unmatched: unmatched.iter().map(|part| (*part).to_owned()).collect(),
        ..Play::default()
    }
}

fn nobody(play: &Play) -> String {
    match play.selection("askari", &production()) {
        Selection::Nobody(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_play_is_for_the_host_for_others_or_unknown() {
    let selection = |play: Play| play.selection("askari", &production());
    assert_eq!(selection(play("edge", &["askari"], &["askari"], &[])), Selection::Host);
    assert_eq!(selection(play("ops", &[], &["ubongo"], &[])), Selection::Others);
    // A part that selects nothing does not matter where another part selects somebody.
    assert_eq!(selection(play("ops:nope", &[], &["ubongo"], &["nope"])), Selection::Others);
    let unknown = Play { unknown: Some("'x' is undefined".into()), ..Play::default() };
    assert_eq!(selection(unknown), Selection::Unknown("'x' is undefined".into()));
}

#[test]
fn a_play_for_nobody_says_why_and_what_to_do() {
    insta::assert_snapshot!(nobody(&play("egde", &[], &[], &["egde"])), @"`egde` is not in the production inventory (did you mean `edge`?); a group that a task makes does not count: name a host or group of the inventory");
    insta::assert_snapshot!(nobody(&play("made_later", &[], &[], &["made_later"])), @"`made_later` is not in the production inventory; a group that a task makes does not count: name a host or group of the inventory");
    insta::assert_snapshot!(nobody(&play("monitoring", &[], &[], &["monitoring"])), @"`monitoring` has no host in the production inventory; a group that a task makes does not count: name a host or group of the inventory");
    insta::assert_snapshot!(nobody(&play("edge:!edge", &[], &[], &[])), @"its pattern leaves no host of the production inventory");
    let position = "it selects hosts by their position, and a run has one host: name the host or its group";
    assert_eq!(nobody(&play("debian[1:]", &[], &["askari"], &[])), position);
    assert_eq!(nobody(&play("debian[0]", &["askari"], &["ubongo"], &[])), position);
    let local = Play { local: true, ..play("localhost", &[], &[], &[]) };
    insta::assert_snapshot!(nobody(&local), @"a run is limited to the host under test: for a look from this machine, write `delegate_to: localhost` on a task of a play for the host");
}

#[test]
fn plays_for_others_are_counted_in_one_note_and_plays_for_nobody_are_named() {
    let books = Playbooks {
        site: vec![
            play("edge", &["askari"], &["askari"], &[]),
            play("ops", &[], &["ubongo"], &[]),
            play("egde", &[], &[], &["egde"]),
            Play { unknown: Some("'x' is undefined".into()), ..play("{{ x }}", &[], &[], &[]) },
        ],
        verify: vec![Play { name: "more".into(), ..play("ops", &[], &["ubongo"], &[]) }],
    };
    insta::assert_snapshot!(books.notes("askari", &production()).join("\n"), @r"
    whom play `web` (site/site.yml:3, hosts: `{{ x }}`) is for is unknown until it runs: 'x' is undefined
    2 plays are for other hosts of the production inventory: `web`, `more`
    ");
    insta::assert_snapshot!(books.for_nobody("askari", &production()).join("\n"), @"play `web` (site/site.yml:3, hosts: `egde`) runs on no host: `egde` is not in the production inventory (did you mean `edge`?); a group that a task makes does not count: name a host or group of the inventory");
}

/// How each kind of play may run: matched by a host, or by none.
#[test]
fn a_play_for_the_host_that_ran_on_nobody_is_missed() {
    let expected = |selection: Selection| vec![ExpectedPlay { label: "play `web`".into(), selection }];
    let ran = |is_matched| [PlayRecord { play: "web".into(), hosts: Vec::new(), is_matched }];
    let nobody = |selection| missed(&expected(selection), &ran(false)).unwrap();
    let why = || "why".to_owned();
    assert_eq!(nobody(Selection::Host), ["play `web` ran on no host, and is for this one"]);
    assert_eq!(
        nobody(Selection::Unknown(why())),
        [
            "play `web` ran on no host: use a pattern that is known before the run, or name a host or group of the inventory"
        ]
    );
    for selection in [Selection::Others, Selection::Nobody(why())] {
        assert!(nobody(selection).is_empty());
    }
    for selection in [Selection::Host, Selection::Others, Selection::Nobody(why()), Selection::Unknown(why())]
    {
        assert!(missed(&expected(selection), &ran(true)).unwrap().is_empty());
    }
    // The playbook ended before the play.
    assert!(missed(&expected(Selection::Host), &[]).unwrap().is_empty());
}

#[test]
fn a_record_with_more_plays_than_the_playbook_is_not_trusted() {
    let ran = [PlayRecord { play: "web".into(), hosts: Vec::new(), is_matched: true }];
    assert_eq!(
        missed(&[], &ran).unwrap_err().to_string(),
        "cannot trust the record of tasks: 1 plays ran, the playbook has 0"
    );
}
