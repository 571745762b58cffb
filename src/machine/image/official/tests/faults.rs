//! Downloads from a server that misbehaves, and interrupted ones.

use rstest::Context;

use super::*;

#[test]
fn a_download_with_another_digest_is_removed() {
    let fixture = Fixture::new();
    let mut tampered = contents(0);
    tampered[50_000] ^= 1;
    fixture.image(BUILD, Behavior::Serve(tampered.clone()));
    insta::assert_snapshot!(fixture.error(&fixture.pinned()), @"
    cannot download Debian's image; run again later (the download was removed: it was damaged or tampered with, or the server is just being updated), or set `image.source: build`: SERVER/trixie/20251117-2299/debian-13-genericcloud-amd64-20251117-2299.qcow2 has 100003 bytes and SHA-512 41040c6780b957d2…, expected bf6d83951dc81ace… as in the server's SHA512SUMS
    ");
    assert!(fixture.files().is_empty(), "{:?}", fixture.files());
    fixture.publish(BUILD, &contents(0));
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
}

#[test]
fn a_broken_connection_is_resumed_as_long_as_each_brings_more() {
    let fixture = Fixture::new();
    fixture.image(BUILD, Behavior::Cut(contents(0), 40_000));
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
    let image = image_path(BUILD);
    assert_eq!(
        fixture.server.requests()[1..],
        [image.clone(), format!("{image} from 40000"), format!("{image} from 80000")]
    );
    assert!(fixture.progress.borrow().contains(&"the connection broke: continuing the download".to_owned()));
}

#[test]
fn the_next_run_continues_a_truncated_download() {
    let fixture = Fixture::new();
    fixture.image(BUILD, Behavior::CutIgnoringRange(contents(0), 40_000));
    insta::assert_snapshot!(fixture.error(&fixture.pinned()), @"
    cannot download Debian's image; run again to continue the download, or set `image.source: build`: the download of SERVER/trixie/20251117-2299/debian-13-genericcloud-amd64-20251117-2299.qcow2 broke off after 40000 bytes of 100003: Peer disconnected
    ");
    assert_eq!(fs::read(fixture.partial()).unwrap(), &contents(0)[..40_000]);
    fixture.server.requests();
    fixture.publish(BUILD, &contents(0));
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
    assert_eq!(fixture.server.requests()[1..], [format!("{} from 40000", image_path(BUILD))]);
    assert!(!fixture.partial().exists());
}

#[test]
fn a_server_without_ranges_sends_the_whole_file_again() {
    let fixture = Fixture::new();
    fixture.write_partial(&contents(0)[..40_000]);
    fixture.image(BUILD, Behavior::IgnoreRange(contents(0)));
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
}

#[test]
fn a_partial_file_that_does_not_fit_is_downloaded_again() {
    let fixture = Fixture::new();
    // A wrong one of the right length shows in the digest, and the next run starts anew.
    fixture.write_partial(&contents(7)[..40_000]);
    assert!(matches!(fixture.failure(&fixture.pinned()), OfficialError::Digest { .. }));
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
    // One that is longer than the file, or complete: the server has nothing after it.
    for (begun, requests) in [([contents(7), contents(7)].concat(), 2), (contents(0), 1)] {
        let fixture = Fixture::new();
        fixture.write_partial(&begun);
        assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
        assert_eq!(fixture.server.requests()[1..].len(), requests);
    }
    // The server answers with another range than requested.
    let fixture = Fixture::new();
    fixture.write_partial(&contents(0)[..40_000]);
    fixture.image(BUILD, Behavior::WrongRange(contents(0)));
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
}

#[test]
fn a_partial_file_of_another_build_is_removed() {
    let fixture = Fixture::new();
    fixture.write_partial(&contents(0)[..40_000]);
    fixture.publish(NEXT, &contents(1));
    assert_contents(&fixture.ensure(&fixture.latest()).unwrap(), 1);
    assert!(!fixture.partial().exists());
    assert_eq!(fixture.server.requests().last().unwrap(), &image_path(NEXT));
}

#[test]
fn a_wrong_content_length_is_noticed() {
    // Too short: the digest shows it.
    let fixture = Fixture::new();
    fixture.image(BUILD, Behavior::Claim(contents(0), 70_000));
    assert!(matches!(fixture.failure(&fixture.pinned()), OfficialError::Digest { got: 70_000, .. }));
    assert!(fixture.files().is_empty());
    // Too long: the server has nothing after the end, and the digest shows that the file is complete.
    fixture.image(BUILD, Behavior::Claim(contents(0), 200_000));
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
    // Larger than any image: nothing is downloaded.
    let fixture = Fixture::new();
    fixture.image(BUILD, Behavior::Claim(contents(0), 1 << 60));
    insta::assert_snapshot!(fixture.error(&fixture.pinned()), @"
    cannot download Debian's image; check `image.url`, and that no login page of the network answers instead, or set `image.source: build`: SERVER/trixie/20251117-2299/debian-13-genericcloud-amd64-20251117-2299.qcow2 is not the expected file: it has 1152921504606846976 bytes, expected an image of at most 4294967296
    ");
    assert!(fixture.files().is_empty());
    // None: the file ends with the connection.
    fixture.image(BUILD, Behavior::Unsized(contents(0)));
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
}

#[rstest::rstest]
#[case::gone(Behavior::Status("404 Not Found"))]
#[case::overloaded(Behavior::Status("503 Service Unavailable"))]
#[case::forbidden(Behavior::Status("403 Forbidden"))]
#[case::hung_up(Behavior::HangUp)]
fn a_refused_image_leaves_nothing(#[case] behavior: Behavior, #[context] context: Context) {
    let fixture = Fixture::new();
    fixture.image(BUILD, behavior);
    let error = fixture.error(&fixture.pinned());
    insta::assert_snapshot!(format!("image_{}", context.description.unwrap_or_default()), error);
    assert!(fixture.files().is_empty(), "{:?}", fixture.files());
    // A partial file stays.
    fixture.write_partial(&contents(0)[..40_000]);
    assert_eq!(fixture.error(&fixture.pinned()), error);
    assert_eq!(fs::metadata(fixture.partial()).unwrap().len(), 40_000);
}

#[rstest::rstest]
#[case::login_page(Behavior::Serve(b"<html>log in</html>".to_vec()))]
#[case::no_text(Behavior::Serve(vec![0xff; 99]))]
#[case::endless(Behavior::Serve(vec![b'x'; 5 << 20]))]
#[case::cut(Behavior::Cut(vec![b'x'; 900], 100))]
#[case::gone(Behavior::Status("404 Not Found"))]
fn without_a_list_of_sums_nothing_is_downloaded(#[case] behavior: Behavior, #[context] context: Context) {
    let fixture = Fixture::new();
    fixture.server.set(&format!("/trixie/{BUILD}/SHA512SUMS"), behavior);
    let error = fixture.error(&fixture.pinned());
    insta::assert_snapshot!(format!("sums_{}", context.description.unwrap_or_default()), error);
    assert_eq!(fixture.server.requests().len(), 1);
    assert!(fixture.files().is_empty());
}

#[test]
fn a_download_that_is_not_a_qcow2_image_is_removed() {
    let fixture = Fixture::new();
    fixture.qemu_img("raw");
    insta::assert_snapshot!(fixture.error(&fixture.pinned()), @"
    cannot download Debian's image; check `image.url`, and that no login page of the network answers instead, or set `image.source: build`: SERVER/trixie/20251117-2299/debian-13-genericcloud-amd64-20251117-2299.qcow2 is not the expected file: its format is raw, expected qcow2
    ");
    assert!(fixture.files().is_empty());
}

#[test]
fn a_download_from_a_silent_server_times_out_and_its_part_stays() {
    let mut fixture = Fixture::new();
    fixture.patience.silence = Duration::from_millis(300);
    fixture.image(BUILD, Behavior::Silent(contents(0), 30_000));
    insta::assert_snapshot!(fixture.error(&fixture.pinned()), @"
    cannot download Debian's image; run again to continue the download, or set `image.source: build`: the download of SERVER/trixie/20251117-2299/debian-13-genericcloud-amd64-20251117-2299.qcow2 broke off after 30000 bytes of 100003: timeout: per read
    ");
    assert_eq!(fs::metadata(fixture.partial()).unwrap().len(), 30_000);
}

#[test]
fn an_interrupted_download_ends_at_once_and_the_next_run_continues_it() {
    let fixture = Fixture::new();
    fixture.image(BUILD, Behavior::Silent(contents(0), 30_000));
    let (interrupt, started, partial) = (Interrupt::never(), Instant::now(), fixture.partial());
    let deadline = Deadline::after(Duration::from_secs(50), "the test", interrupt.clone(), Waited::default());
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while fs::metadata(&partial).map_or(0, |file| file.len()) < 30_000 {
                std::thread::yield_now();
            }
            interrupt.raise(2);
        });
        fixture.store().ensure(&fixture.pinned(), &deadline, &|_| {}).unwrap_err()
    });
    assert!(started.elapsed() < Duration::from_secs(4));
    insta::assert_snapshot!(fixture.chain(error), @"
    cannot download Debian's image; run again to continue the download, or set `image.source: build`: the download of SERVER/trixie/20251117-2299/debian-13-genericcloud-amd64-20251117-2299.qcow2 was stopped: stopped waiting: interrupted by signal 2
    ");
    fixture.publish(BUILD, &contents(0));
    fixture.server.requests();
    assert_contents(&fixture.ensure(&fixture.pinned()).unwrap(), 0);
    assert_eq!(fixture.server.requests()[1..], [format!("{} from 30000", image_path(BUILD))]);
}
