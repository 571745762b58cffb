//! `overrides/<host>.yml`: the explicit stub variables of a host. Ansible reads the file itself; here it is only
//! checked to be one that Ansible can take: a mapping, each key once, tags such as `!vault` welcome.

use std::path::Path;

use super::document::Document;
use super::problem::Problem;
use super::value::{Mapping, Tags};

/// Checks the override in `file`.
pub(super) fn check(root: &Path, file: &Path) -> Result<(), Problem> {
    Document::read(root, file)?.parse_seed(Mapping { tags: Tags::Accepted }).map(|_| ())
}
