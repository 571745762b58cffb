//! `boma-it schema`: the JSON Schema of a kind of file, to be kept beside the files for editors.

use super::args::Kind;
use super::exit::Exit;
use super::print;
use crate::catalog::schema;

pub(super) fn run(kind: Kind) -> anyhow::Result<Exit> {
    print(&schema::text(kind.into()))?;
    Ok(Exit::Passed)
}
