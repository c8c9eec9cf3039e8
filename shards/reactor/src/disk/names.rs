//! Paths of the store: relative, with `/`, and never out of the store's directory.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use store::disk::DiskError;

/// Bytes of one name, as file systems have it.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a path below the store's directory.
const PATH_BYTES_MAX: usize = 2048;

/// Where a path of the store lies. Refuses absolute paths, empty names, `.`, `..` and NUL.
///
/// # Errors
/// `EINVAL` for what could leave the directory, `ENAMETOOLONG` for what is too long.
pub(crate) fn resolve(root: &Path, path: &str) -> Result<PathBuf, DiskError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(DiskError::Os(Errno::NAMETOOLONG.raw_os_error()));
    }
    let mut full = root.to_path_buf();
    for name in path.split('/') {
        if name.is_empty() || name == "." || name == ".." || name.contains('\0') {
            return Err(DiskError::Os(Errno::INVAL.raw_os_error()));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(DiskError::Os(Errno::NAMETOOLONG.raw_os_error()));
        }
        full.push(name);
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_store() {
        let root = Path::new("/store");
        let good = resolve(root, "jetstream/ACC/streams/S/0.seg").unwrap();
        assert_eq!(good, Path::new("/store/jetstream/ACC/streams/S/0.seg"));
        // A name may contain a backslash or dots: only whole names of dots go up.
        assert!(resolve(root, r"a\..\b/...c").is_ok());
        for bad in ["", "/", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b"] {
            assert!(resolve(root, bad).is_err(), "{bad:?}");
        }
        assert!(resolve(root, &"x".repeat(256)).is_err());
        assert!(resolve(root, &"x/".repeat(2000)).is_err());
    }
}
