//! A server that misbehaves, and a person who does not wait for it.

use super::*;

#[test]
fn what_is_not_what_the_sums_promise_is_removed() {
    let bench = Bench::new();
    let mut tampered = contents(0);
    tampered[50_000] ^= 1;
    bench.image(BUILD, Act::Serve(tampered.clone()));
    let error = bench.fails(&bench.pinned());
    let expected = format!(
        "Debian's own image is not to be had; it was removed: damaged or tampered with on its way, or the server is \
         changing it just now. Run again later, and do not use it by hand: SERVER{} came with 100003 bytes and SHA-512 \
         {}…, expected {}…, which is what the server's SHA512SUMS promises",
        image_path(BUILD),
        &sum(&tampered)[..16],
        &sum(&contents(0))[..16]
    );
    assert_eq!(error, expected);
    assert!(bench.left().is_empty(), "{:?}", bench.left());
    bench.publish(BUILD, &contents(0));
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
}

#[test]
fn a_connection_that_breaks_is_gone_on_with_as_long_as_that_helps() {
    let bench = Bench::new();
    bench.image(BUILD, Act::Cut(contents(0), 40_000));
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
    let image = image_path(BUILD);
    assert_eq!(
        bench.server.asked()[1..],
        [image.clone(), format!("{image} from 40000"), format!("{image} from 80000")]
    );
    assert!(bench.told.borrow().contains(&"the connection broke; going on where it did".to_owned()));
}

#[test]
fn a_truncated_download_says_so_and_the_next_run_goes_on_from_there() {
    let bench = Bench::new();
    bench.image(BUILD, Act::CutIgnoringRange(contents(0), 40_000));
    let error = bench.fails(&bench.pinned());
    let start = format!(
        "Debian's own image is not to be had; what came of it is kept, and the next run goes on from there: SERVER{} broke \
         off after 40000 bytes of 100003",
        image_path(BUILD)
    );
    assert!(error.starts_with(&start), "{error}");
    assert_eq!(fs::read(bench.partial()).unwrap(), &contents(0)[..40_000]);
    bench.server.asked();
    bench.publish(BUILD, &contents(0));
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
    assert_eq!(bench.server.asked()[1..], [format!("{} from 40000", image_path(BUILD))]);
    assert!(!bench.partial().exists());
}

#[test]
fn a_server_that_knows_no_ranges_sends_it_all_again() {
    let bench = Bench::new();
    bench.begun(&contents(0)[..40_000]);
    bench.image(BUILD, Act::IgnoreRange(contents(0)));
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
}

#[test]
fn a_partial_that_is_not_the_beginning_of_the_file_does_no_harm() {
    let bench = Bench::new();
    // Of the right length and wrong: the sum tells, and the next run starts anew.
    bench.begun(&contents(7)[..40_000]);
    assert!(bench.fails(&bench.pinned()).contains("it was removed"));
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
    // Longer than the file, or whole already: the server has nothing after it.
    for (begun, requests) in [([contents(7), contents(7)].concat(), 2), (contents(0), 1)] {
        let bench = Bench::new();
        bench.begun(&begun);
        whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
        assert_eq!(bench.server.asked()[1..].len(), requests);
    }
    // The server answers with another part than was asked for.
    let bench = Bench::new();
    bench.begun(&contents(0)[..40_000]);
    bench.image(BUILD, Act::OtherPart(contents(0)));
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
}

#[test]
fn a_partial_of_another_digest_is_dropped() {
    let bench = Bench::new();
    bench.begun(&contents(0)[..40_000]);
    bench.publish(NEXT, &contents(1));
    whole(&bench.ensure(&bench.latest()).unwrap(), 1);
    assert!(!bench.partial().exists());
    assert_eq!(bench.server.asked().last().unwrap(), &image_path(NEXT));
}

#[test]
fn a_length_that_is_not_true_is_seen() {
    // Too short: what is missing shows in the sum.
    let bench = Bench::new();
    bench.image(BUILD, Act::Claim(contents(0), 70_000));
    assert!(bench.fails(&bench.pinned()).contains("came with 70000 bytes"));
    assert!(bench.left().is_empty());
    // Too long: nothing comes after the end, and the sum says that it was all.
    bench.image(BUILD, Act::Claim(contents(0), 200_000));
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
    // More than any image has: not a byte is taken.
    let bench = Bench::new();
    bench.image(BUILD, Act::Claim(contents(0), 1 << 60));
    let error = bench.fails(&bench.pinned());
    assert!(error.contains("nothing of it was kept; is `image.url` right?"), "{error}");
    assert!(
        error.ends_with("has 1152921504606846976 bytes, expected an image of no more than 4294967296"),
        "{error}"
    );
    assert!(bench.left().is_empty());
    // None: its end is the connection's.
    bench.image(BUILD, Act::Unsized(contents(0)));
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
}

#[rstest::rstest]
#[case::gone(
    Act::Status("404 Not Found"),
    "Debian keeps a build for some months",
    "the server says 404 Not Found to SERVER"
)]
#[case::overloaded(
    Act::Status("503 Service Unavailable"),
    "run again later",
    "the server says 503 Service Unavailable to"
)]
#[case::forbidden(
    Act::Status("403 Forbidden"),
    "is `image.url` right",
    "the server says 403 Forbidden to SERVER"
)]
#[case::hung_up(Act::HangUp, "is there a network", "cannot reach SERVER")]
fn an_image_that_is_not_to_be_had_leaves_nothing(#[case] act: Act, #[case] next: &str, #[case] why: &str) {
    let bench = Bench::new();
    bench.image(BUILD, act.clone());
    let error = bench.fails(&bench.pinned());
    assert!(error.contains(next) && error.contains(why) && error.contains(&image_path(BUILD)), "{error}");
    assert!(bench.left().is_empty(), "{:?}", bench.left());
    // What was there before is not thrown away for it.
    bench.begun(&contents(0)[..40_000]);
    bench.fails(&bench.pinned());
    assert_eq!(fs::metadata(bench.partial()).unwrap().len(), 40_000);
}

#[rstest::rstest]
#[case::login_page(Act::Serve(b"<html>log in</html>".to_vec()), "it has no sum of `debian-13-genericcloud-amd64-20251117-2299.qcow2`")]
#[case::no_text(Act::Serve(vec![0xff; 99]), "it is no text")]
#[case::endless(Act::Serve(vec![b'x'; 5 << 20]), "it has more than 4194304 bytes")]
#[case::cut(Act::Cut(vec![b'x'; 900], 100), "it broke off after 100 bytes")]
#[case::gone(Act::Status("404 Not Found"), "404 Not Found")]
fn without_a_list_of_sums_nothing_is_downloaded(#[case] act: Act, #[case] why: &str) {
    let bench = Bench::new();
    bench.server.put(&format!("/trixie/{BUILD}/SHA512SUMS"), act);
    let error = bench.fails(&bench.pinned());
    assert!(error.contains(why) && error.contains("SHA512SUMS"), "{error}");
    assert_eq!(bench.server.asked().len(), 1);
    assert!(bench.left().is_empty());
}

#[test]
fn what_is_no_whole_qcow2_image_is_refused_whatever_its_sum() {
    let bench = Bench::new();
    bench.qemu_img("raw");
    assert!(bench.fails(&bench.pinned()).ends_with("its format is raw, expected qcow2"));
    assert!(bench.left().is_empty());
}

#[test]
fn a_silent_server_is_given_up_and_what_came_is_kept() {
    let mut bench = Bench::new();
    bench.patience.silence = Duration::from_millis(300);
    bench.image(BUILD, Act::Silent(contents(0), 30_000));
    let error = bench.fails(&bench.pinned());
    assert!(error.contains("broke off after 30000 bytes of 100003") && error.contains("timeout"), "{error}");
    assert_eq!(fs::metadata(bench.partial()).unwrap().len(), 30_000);
}

#[test]
fn an_interrupted_download_ends_at_once_and_can_be_gone_on_with() {
    let bench = Bench::new();
    bench.image(BUILD, Act::Silent(contents(0), 30_000));
    let (interrupt, started, partial) = (Interrupt::never(), Instant::now(), bench.partial());
    let deadline = Deadline::after(Duration::from_secs(50), "the test", interrupt.clone(), Waited::default());
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while fs::metadata(&partial).map_or(0, |file| file.len()) < 30_000 {
                std::thread::yield_now();
            }
            interrupt.raise(2);
        });
        bench.store().ensure(&bench.pinned(), &deadline, &|_| {}).unwrap_err()
    });
    assert!(started.elapsed() < Duration::from_secs(4));
    let error = format!("{:#}", anyhow::Error::from(error));
    assert!(error.contains("the next run goes on from there: getting http://"), "{error}");
    assert!(error.ends_with("was stopped: stopped waiting: interrupted by signal 2"), "{error}");
    bench.publish(BUILD, &contents(0));
    bench.server.asked();
    whole(&bench.ensure(&bench.pinned()).unwrap(), 0);
    assert_eq!(bench.server.asked()[1..], [format!("{} from 30000", image_path(BUILD))]);
}
