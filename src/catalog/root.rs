//! The root (the folder that holds `harness/`, `profiles/`, `overrides/` and `scenarios/`), and paths as files write them.

use std::path::{Path, PathBuf};

use super::document::ENDINGS;
use super::problem::{Problem, ProjectError};

/// The root: `given`, or else the nearest folder from `start` upwards that has a `harness/harness.yml`. Absolute.
///
/// # Errors
/// If `given` has none, or no folder upwards has one.
pub fn find_root(start: &Path, given: Option<PathBuf>) -> Result<PathBuf, ProjectError> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| {
            Problem::of_request(format!("`{}` is not a usable path: {error}", path.display()))
        })
    };
    if let Some(given) = given {
        let root = absolute(&given)?;
        if is_root(&root) {
            return Ok(root);
        }
        let message = format!(
            "the root `{}` has no harness/harness.yml: give the folder that holds harness/, profiles/, overrides/ and \
             scenarios/",
            root.display()
        );
        return Err(Problem::of_request(message).into());
    }
    let start = absolute(start)?;
    start.ancestors().find(|folder| is_root(folder)).map(Path::to_owned).ok_or_else(|| {
        Problem::of_request(format!(
            "no harness/harness.yml in `{}` or any folder above it: change to the folder that holds it, or name that \
             folder in BOMA_IT_ROOT",
            start.display()
        ))
        .into()
    })
}

fn is_root(folder: &Path) -> bool {
    ENDINGS.iter().any(|ending| folder.join("harness/harness").with_extension(ending).is_file())
}

/// A path as a file writes it, made absolute: `~` is the home folder, and a relative path starts at `base`.
pub(super) fn expand(base: &Path, written: &str) -> Result<PathBuf, String> {
    let below_home = match written {
        "~" => Some(""),
        _ => written.strip_prefix("~/"),
    };
    match below_home {
        None if written.is_empty() => Err("the path is empty".to_owned()),
        None if written.starts_with('~') => {
            Err(format!("`{written}`: only `~/`, your own home folder, is supported"))
        }
        None => Ok(tidy(&base.join(written))),
        Some(rest) => match etcetera::home_dir() {
            Ok(home) => Ok(tidy(&home.join(rest))),
            Err(_) => {
                Err(format!("`{written}`: the home folder is unknown: set HOME, or write an absolute path"))
            }
        },
    }
}

/// Without `.` and trailing slashes. `..` stays: behind a symbolic link only the system knows its meaning.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_to_its_base_unless_it_is_absolute_or_starts_with_a_tilde() {
        let base = Path::new("/srv/site");
        assert_eq!(
            expand(base, "inventory/production").unwrap(),
            Path::new("/srv/site/inventory/production")
        );
        assert_eq!(expand(base, "./x/").unwrap(), Path::new("/srv/site/x"));
        assert_eq!(expand(base, "/etc/x").unwrap(), Path::new("/etc/x"));
        assert_eq!(expand(base, "~/runs").unwrap(), etcetera::home_dir().unwrap().join("runs"));
        assert_eq!(
            expand(base, "~root/x").unwrap_err(),
            "`~root/x`: only `~/`, your own home folder, is supported"
        );
    }

    #[test]
    fn the_root_is_the_nearest_folder_upwards_and_a_wrong_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let deep = root.join("site/roles/base");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir(root.join("harness")).unwrap();
        let none = find_root(&deep, None).unwrap_err().to_string();
        std::fs::write(root.join("harness/harness.yml"), "version: 1\n").unwrap();
        assert_eq!(find_root(&deep, None).unwrap(), root);
        assert_eq!(find_root(&deep, Some(root.to_owned())).unwrap(), root);
        let wrong = find_root(root, Some(deep)).unwrap_err().to_string();
        insta::assert_snapshot!(format!("{none}\n{wrong}").replace(root.to_str().unwrap(), "[folder]"));
    }
}
