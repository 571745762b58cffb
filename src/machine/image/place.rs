//! Putting a finished image into place: looked at, renamed, and recorded. It appears whole or not at all.

use std::fs;
use std::path::Path;

use super::record::{Image, Origin};
use super::tools::Toolbox;
use super::{ImageError, local};
use crate::support::deadline::Deadline;

/// Makes `partial`, a file in the image folder `dir`, the image called `name`. Where it came from is asked last.
pub(super) fn put(
    dir: &Path,
    name: String,
    partial: &Path,
    tools: &Toolbox,
    deadline: &Deadline,
    origin: impl FnOnce() -> Origin,
) -> Result<Image, ImageError> {
    // Not `with_extension`: what follows a dot in the name is no extension.
    let [path, record] = ["qcow2", "json"].map(|extension| dir.join(format!("{name}.{extension}")));
    let info = local::info(partial, tools, deadline)?;
    let sha256 = local::digest("sha256sum", partial, tools, deadline)?;
    let file = fs::metadata(partial).map_err(ImageError::io("read", partial))?;
    let origin = origin();
    fs::rename(partial, &path).map_err(ImageError::io("put into place", &path))?;
    let (format, virtual_size, file_size) = (info.format, info.virtual_size, file.len());
    let image = Image { name, path, format, virtual_size, file_size, sha256, origin };
    image.save(&record).map_err(ImageError::io("write the record", record))?;
    Ok(image)
}
