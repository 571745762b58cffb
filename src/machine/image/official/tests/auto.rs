//! `auto`: Debian's own where it can be had, else one that is built, with fake tools.

use super::*;

/// With fake tools for a build, too.
fn bench() -> Bench {
    let bench = Bench::new();
    for program in ["sfdisk", "mkfs.ext4", "mformat", "mcopy"] {
        bench.tool(program, ":");
    }
    bench.tool("unshare", r#"while case $1 in -*) ;; *) false;; esac; do shift; done; exec "$@""#);
    bench.tool("mmdebstrap", ":");
    let info = r#"if [ "$1" = info ]; then echo '{"format": "qcow2", "virtual-size": 4294967296}'; exit; fi"#;
    let convert = r#"[ "$1" = --version ] && exit; for last; do :; done; echo image > "$last""#;
    bench.tool("qemu-img", &format!("{info}\n{convert}"));
    bench
}

#[test]
fn debians_own_is_taken_where_it_can_be_had_and_it_is_said() {
    let bench = bench();
    let chosen = bench.ensure(&bench.auto()).unwrap();
    whole(&chosen, 0);
    assert_eq!(chosen.why.as_deref(), Some("`image.source` is `auto`, and Debian's own image is to be had"));
    assert_eq!(bench.ensure(&bench.auto()).unwrap(), chosen);
}

#[test]
fn else_one_is_built_here_said_loudly_and_the_server_left_alone_for_an_hour() {
    let bench = bench();
    let manifest = "/trixie/latest/debian-13-genericcloud-amd64.json";
    bench.server.put(manifest, Act::Status("503 Service Unavailable"));
    let first = bench.ensure(&bench.auto()).unwrap();
    assert!(matches!(first.image.origin, Origin::Build { .. }), "{first:?}");
    let why = first.why.clone().unwrap();
    let start = "the image is built here, as `image.source` is `auto` and Debian's own is not to be had: the server \
                 says 503 Service Unavailable to http://127.0.0.1";
    assert!(why.starts_with(start) && why.ends_with("or at once by `boma-it image build`)"), "{why}");
    assert!(
        bench.told.borrow().iter().any(|line| line.starts_with("no official image (the server says 503"))
    );
    assert_eq!(bench.ensure(&bench.auto()).unwrap(), first);
    assert_eq!(bench.server.asked(), [manifest]);
    // Asked again by hand: to no avail, and the image that is here serves.
    bench.store().ask_afresh().unwrap();
    assert_eq!(bench.ensure(&bench.auto()).unwrap().image, first.image);
    assert_eq!(bench.server.asked(), [manifest]);
    // An hour later it is mended.
    bench.publish(BUILD, &contents(0));
    bench.age_memory(2);
    whole(&bench.ensure(&bench.auto()).unwrap(), 0);
}

#[test]
fn a_tampered_one_is_never_used() {
    let bench = bench();
    bench.image(BUILD, Act::Serve(contents(3)));
    let chosen = bench.ensure(&bench.auto()).unwrap();
    assert!(matches!(chosen.image.origin, Origin::Build { .. }), "{chosen:?}");
    assert!(chosen.why.unwrap().contains("which is what the server's SHA512SUMS promises"));
    assert!(bench.left().iter().all(|name| !name.contains("genericcloud")), "{:?}", bench.left());
}

#[test]
fn an_interrupt_is_no_reason_to_build() {
    let bench = bench();
    let interrupt = Interrupt::never();
    interrupt.raise(15);
    let deadline = Deadline::after(Duration::from_secs(50), "the test", interrupt, Waited::default());
    bench.store().ensure(&bench.auto(), &deadline, &|_| {}).unwrap_err();
    assert!(bench.left().is_empty());
    whole(&bench.ensure(&bench.auto()).unwrap(), 0);
}
