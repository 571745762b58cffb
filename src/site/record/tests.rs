use std::os::unix::fs::PermissionsExt;

use super::*;

/// A reader in a new folder, and the folder.
fn reader() -> (RecordReader, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let reader = RecordReader::open(&folder.path().join("pipe"), &folder.path().join("kept")).unwrap();
    (reader, folder)
}

#[test]
fn whole_lines_are_read_and_kept_and_the_rest_waits_for_its_end() {
    let (mut reader, folder) = reader();
    assert_eq!(reader.lines().unwrap(), [""; 0], "nobody has written yet");
    let mut writer = File::options().write(true).open(folder.path().join("pipe")).unwrap();
    assert_eq!(reader.lines().unwrap(), [""; 0], "a writer has nothing to say yet");
    for (written, read) in [
        ("{\"a\":1}\n{\"b\"", vec!["{\"a\":1}"]),
        (":2", vec![]),
        ("}\n\n{\"c\":3}\n", vec!["{\"b\":2}", "", "{\"c\":3}"]),
    ] {
        writer.write_all(written.as_bytes()).unwrap();
        assert_eq!(reader.lines().unwrap(), read);
    }
    drop(writer);
    assert_eq!(reader.lines().unwrap(), [""; 0]);
    let kept = std::fs::read_to_string(folder.path().join("kept")).unwrap();
    assert_eq!(kept, "{\"a\":1}\n{\"b\":2}\n\n{\"c\":3}\n");
}

#[test]
fn only_the_owner_may_read_the_record() {
    let (_reader, folder) = reader();
    for name in ["pipe", "kept"] {
        let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_pipe_that_cannot_be_read_is_an_error() {
    let (mut reader, folder) = reader();
    reader.pipe = File::open(folder.path()).unwrap();
    assert_eq!(reader.lines().unwrap_err().kind(), std::io::ErrorKind::IsADirectory);
}
