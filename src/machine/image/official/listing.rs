//! What lies where on Debian's server of cloud images, and the two small files that say what there is: the manifest of
//! the latest build, and the list of SHA-512 sums of each. Pure: text in, facts out.

use serde::Deserialize;

use crate::catalog::plan::BuildId;

/// The release's folder, and how Debian calls the image that needs no hardware's firmware or drivers.
const RELEASE: &str = "trixie";
const IMAGE: &str = "debian-13-genericcloud-amd64";

/// Address of the manifest that says which build is the latest.
pub(super) fn manifest(url: &str) -> String {
    format!("{url}/{RELEASE}/latest/{IMAGE}.json")
}

/// Address of a build's list of sums.
pub(super) fn sums(url: &str, build: &BuildId) -> String {
    format!("{url}/{RELEASE}/{build}/SHA512SUMS")
}

/// A build's image: its file's name.
pub(super) fn file(build: &BuildId) -> String {
    format!("{IMAGE}-{build}.qcow2")
}

/// Address of a build's image.
pub(super) fn image(url: &str, build: &BuildId) -> String {
    format!("{url}/{RELEASE}/{build}/{}", file(build))
}

/// Our name of the image.
pub(super) fn name(build: &BuildId, sha512: &str) -> String {
    format!("debian-13-genericcloud-{build}-{}", sha512.get(..12).unwrap_or(sha512))
}

#[derive(Deserialize)]
struct Manifest {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    kind: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

/// The build that a manifest is of.
pub(super) fn build_of(manifest: &str) -> Result<BuildId, String> {
    let manifest: Manifest = serde_json::from_str(manifest)
        .map_err(|error| format!("expected the JSON manifest of an image ({error})"))?;
    let mut builds = manifest.items.iter().filter(|item| item.kind == "Build");
    let build = builds.find_map(|item| item.metadata.labels.get("cloud.debian.org/version"));
    let build = build.ok_or("the manifest names no build (label `cloud.debian.org/version`)")?;
    build.parse().map_err(|error| format!("{error}"))
}

/// The SHA-512 of `file` in a list as sha512sum writes it: lower-case hexadecimal.
pub(super) fn sum_of(sums: &str, file: &str) -> Result<String, String> {
    let entries = sums.lines().filter_map(|line| line.split_once(char::is_whitespace));
    // The second column begins with a `*` where the file was read as binary.
    let mut found = entries.filter(|(_, name)| name.trim().trim_start_matches('*') == file);
    let (sum, _) = found.next().ok_or_else(|| format!("it has no sum of `{file}`"))?;
    if sum.len() != 128 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("`{sum}` is no SHA-512 sum (expected 128 hexadecimal digits)"));
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
    fn a_manifest_says_which_build_it_is_of() {
        let manifest = r#"{"kind": "List", "items": [
            {"kind": "Upload", "metadata": {"labels": {"cloud.debian.org/version": "20240101-1"}}},
            {"kind": "Build", "metadata": {"labels": {"cloud.debian.org/version": "20251117-2299"}}, "data": {}}]}"#;
        assert_eq!(build_of(manifest).unwrap().to_string(), "20251117-2299");
    }

    #[rstest::rstest]
    #[case("<html>log in</html>", "expected the JSON manifest")]
    #[case(r#"{"items": []}"#, "names no build")]
    #[case(
        r#"{"items": [{"kind": "Build", "metadata": {"labels": {"cloud.debian.org/version": "../../x"}}}]}"#,
        "`../../x` is not"
    )]
    fn what_is_no_manifest_is_refused(#[case] text: &str, #[case] why: &str) {
        let error = build_of(text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn a_sum_is_found_by_its_file() {
        let (one, two) = ("A".repeat(128), "b".repeat(128));
        let list = format!("{one}  x.qcow2\n{two} *x.qcow2.raw\n");
        assert_eq!(sum_of(&list, "x.qcow2").unwrap(), "a".repeat(128));
        assert_eq!(sum_of(&list, "x.qcow2.raw").unwrap(), two);
        assert_eq!(sum_of(&list, "x").unwrap_err(), "it has no sum of `x`");
        assert!(sum_of(&format!("{list}{two}  x.qcow2\n"), "x.qcow2").unwrap_err().contains("two different"));
        assert!(sum_of("abc  x", "x").unwrap_err().contains("128 hexadecimal digits"));
    }
}
