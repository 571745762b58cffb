//! The FAT volume that carries the seed.

use std::io::{self, Cursor, Write};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};

use super::SeedError;

/// The volume's label, by which NoCloud finds it.
pub const LABEL: &str = "CIDATA";

/// Size of the volume, in bytes: the files are a few KiB.
const SIZE: usize = 512 << 10;

/// A volume with these files in its root folder.
pub(super) fn write(files: &[(&str, &str)]) -> Result<Vec<u8>, SeedError> {
    let bytes = files.iter().map(|(_, contents)| contents.len()).sum();
    write_files(files).map_err(|source| SeedError::Volume { bytes, source })
}

fn write_files(files: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    let mut disk = Cursor::new(vec![0; SIZE]);
    let mut label = [b' '; 11];
    label[..LABEL.len()].copy_from_slice(LABEL.as_bytes());
    format_volume(&mut disk, FormatVolumeOptions::new().volume_label(label))?;
    {
        let volume = FileSystem::new(&mut disk, FsOptions::new())?;
        for (name, contents) in files {
            let mut file = volume.root_dir().create_file(name)?;
            file.write_all(contents.as_bytes())?;
            file.flush()?;
        }
        volume.unmount()?;
    }
    Ok(disk.into_inner())
}
