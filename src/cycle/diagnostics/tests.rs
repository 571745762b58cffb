use std::fs;
use std::sync::{Arc, Mutex};

use super::*;
use crate::event::{Event, Reporter};
use crate::machine::fake::{Fake, Verb};
use crate::support::interrupt::Interrupt;

const VM: &str = "boma-it-askari";

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn on_event(&self, event: &Event) {
        if let Event::Note(text) = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

/// Saves the logs of a VM into a run folder that has an older console and journal. Returns both as they are then, and the
/// notes.
fn save_again(fake: &Fake) -> ([String; 2], Vec<String>) {
    let root = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(root.path(), "askari", &jiff::Zoned::now()).unwrap();
    for name in ["console.log", "journal.log"] {
        fs::write(folder.join(name), "old").unwrap();
    }
    let notes = Arc::new(Notes::default());
    save_logs(fake, VM, &folder, &RunRecorder::new(notes.clone(), Interrupt::never()));
    let saved = ["console.log", "journal.log"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something else is left in the run folder");
    let notes = notes.0.lock().unwrap().clone();
    (saved, notes)
}

fn with_logs() -> Fake {
    let fake = Fake::new();
    fake.put_volume(&VmVolumes(VM).console(), b"a console");
    fake.put_volume(&VmVolumes(VM).journal(), b"a journal");
    fake
}

#[test]
fn a_saved_log_stays_until_a_whole_new_one_replaces_it() {
    for break_off in [Fake::fail, Fake::hang] {
        let fake = with_logs();
        break_off(&fake, Verb::Download, 1);
        let (saved, notes) = save_again(&fake);
        assert_eq!(saved, ["old", "a journal"]);
        assert!(notes.len() == 1 && notes[0].starts_with("cannot save console.log: "), "{notes:?}");
    }
}

/// A teardown after the last save removed it from the hypervisor.
#[test]
fn a_log_that_is_gone_from_the_hypervisor_stays_in_the_run_folder() {
    let fake = Fake::new();
    fake.put_volume(&VmVolumes(VM).console(), b"a console");
    assert_eq!(save_again(&fake), (["a console", "old"].map(str::to_owned), vec![]));
}

#[test]
fn the_earlier_parts_of_a_log_are_saved_even_if_they_cannot_be_listed() {
    for listed in [true, false] {
        let fake = with_logs();
        let [_, older, newer] = VmVolumes::rolled(&VmVolumes(VM).console());
        fake.put_volume(&older, b"once ");
        fake.put_volume(&newer, b"upon ");
        if !listed {
            fake.fail(Verb::Volumes, 1);
        }
        let (saved, notes) = save_again(&fake);
        assert_eq!(saved, ["once upon a console", "a journal"]);
        let note = "cannot list the earlier parts of the VM's logs, so each is tried: cannot deal with the hypervisor: the \
                    fake was told to fail at Volumes";
        assert_eq!(notes, if listed { vec![] } else { vec![note.to_owned()] });
    }
}
