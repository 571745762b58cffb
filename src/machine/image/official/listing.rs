//! Addresses on Debian's server of cloud images, and the two small files that it is asked for: the manifest of the latest
//! build, and a build's list of SHA-512 sums. Pure: text in, data out.

use serde_json::Value;

use crate::catalog::plan::BuildId;

/// The release's folder on the server.
const RELEASE: &str = "trixie";
/// Debian's name of the image for VMs, which has no firmware and no drivers for real hardware.
const IMAGE: &str = "debian-13-genericcloud-amd64";

/// Address of the latest build's manifest.
pub(super) fn manifest(url: &str) -> String {
    format!("{url}/{RELEASE}/latest/{IMAGE}.json")
}

/// Address of a build's list of sums.
pub(super) fn sums(url: &str, build: &BuildId) -> String {
    format!("{url}/{RELEASE}/{build}/SHA512SUMS")
}

/// File name of a build's image on the server.
pub(super) fn file(build: &BuildId) -> String {
    format!("{IMAGE}-{build}.qcow2")
}

/// Address of a build's image.
pub(super) fn image(url: &str, build: &BuildId) -> String {
    format!("{url}/{RELEASE}/{build}/{}", file(build))
}

/// Name of a build's image in the image folder.
pub(super) fn name(build: &BuildId, sha512: &str) -> String {
    format!("debian-13-genericcloud-{build}-{}", sha512.get(..12).unwrap_or(sha512))
}

/// Reads from a manifest which build it describes. The error says what is wrong with the manifest.
pub(super) fn build_of(manifest: &str) -> Result<BuildId, String> {
    let manifest: Value = serde_json::from_str(manifest)
        .map_err(|error| format!("expected the JSON manifest of an image ({error})"))?;
    let mut builds =
        manifest["items"].as_array().into_iter().flatten().filter(|item| item["kind"] == "Build");
    let build = builds.find_map(|item| item["metadata"]["labels"]["cloud.debian.org/version"].as_str());
    let build = build.ok_or("the manifest names no build (label `cloud.debian.org/version`)")?;
    build.parse().map_err(|error| format!("{error}"))
}

/// Finds the sum of `file` in a list that sha512sum wrote; lower-case hexadecimal. The error says what is wrong with the
/// list.
pub(super) fn sum_of(sums: &str, file: &str) -> Result<String, String> {
    let entries = sums.lines().filter_map(|line| line.split_once(char::is_whitespace));
    // sha512sum puts a `*` before the name of a file that it read as binary.
    let mut found = entries.filter(|(_, name)| name.trim().trim_start_matches('*') == file);
    let (sum, _) = found.next().ok_or_else(|| format!("it has no sum of `{file}`"))?;
    if sum.len() != 128 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("`{sum}` is not a SHA-512 sum (expected 128 hexadecimal digits)"));
    }
    let sum = sum.to_ascii_lowercase();
    match found.all(|(other, _)| other.eq_ignore_ascii_case(&sum)) {
        true => Ok(sum),
        false => Err(format!("it has two different sums of `{file}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::plan::DEBIAN_IMAGES;

    #[test]
    fn the_addresses_on_debians_server() {
        let build = "20251117-2299".parse().unwrap();
        let all = [
            manifest(DEBIAN_IMAGES),
            sums(DEBIAN_IMAGES, &build),
            image(DEBIAN_IMAGES, &build),
            name(&build, "0123456789abcdef"),
        ];
        insta::assert_snapshot!(all.join("\n"), @r"
        https://cloud.debian.org/images/cloud/trixie/latest/debian-13-genericcloud-amd64.json
        https://cloud.debian.org/images/cloud/trixie/20251117-2299/SHA512SUMS
        https://cloud.debian.org/images/cloud/trixie/20251117-2299/debian-13-genericcloud-amd64-20251117-2299.qcow2
        debian-13-genericcloud-20251117-2299-0123456789ab
        ");
    }

    #[test]
    fn the_build_comes_from_the_manifests_item_of_kind_build() {
        let manifest = r#"{"kind": "List", "items": [
            {"kind": "Upload", "metadata": {"labels": {"cloud.debian.org/version": "20240101-1"}}},
            {"kind": "Build", "metadata": {"labels": {"cloud.debian.org/version": "20251117-2299"}}, "data": {}}]}"#;
        assert_eq!(build_of(manifest).unwrap().to_string(), "20251117-2299");
    }

    #[rstest::rstest]
    #[case(
        "<html>log in</html>",
        "expected the JSON manifest of an image (expected value at line 1 column 1)"
    )]
    #[case(r#"{"items": []}"#, "the manifest names no build (label `cloud.debian.org/version`)")]
    #[case("[]", "the manifest names no build (label `cloud.debian.org/version`)")]
    #[case(
        r#"{"items": [{"kind": "Build", "metadata": {"labels": {"cloud.debian.org/version": 7}}}]}"#,
        "the manifest names no build (label `cloud.debian.org/version`)"
    )]
    #[case(
        r#"{"items": [{"kind": "Build", "metadata": {"labels": {"cloud.debian.org/version": "../../x"}}}]}"#,
        "`../../x` is not a build of Debian's cloud images (expected a date and a number, as in `20251117-2299`)"
    )]
    fn a_file_that_is_not_a_manifest_is_refused_with_the_reason(#[case] text: &str, #[case] why: &str) {
        assert_eq!(build_of(text).unwrap_err(), why);
    }

    #[test]
    fn the_sum_is_that_of_exactly_this_file() {
        let (one, two) = ("A".repeat(128), "b".repeat(128));
        let list = format!("{one}  x.qcow2\n{two} *x.qcow2.raw\n");
        assert_eq!(sum_of(&list, "x.qcow2").unwrap(), "a".repeat(128));
        assert_eq!(sum_of(&list, "x.qcow2.raw").unwrap(), two);
        let refused = [
            sum_of(&list, "x"),
            sum_of(&format!("{list}{two}  x.qcow2\n"), "x.qcow2"),
            sum_of("abc  x", "x"),
        ];
        insta::assert_snapshot!(refused.map(Result::unwrap_err).join("\n"), @r"
        it has no sum of `x`
        it has two different sums of `x.qcow2`
        `abc` is not a SHA-512 sum (expected 128 hexadecimal digits)
        ");
    }
}
