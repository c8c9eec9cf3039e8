//! The pid file: the process id in decimal, without a newline, for `--signal` and scripts.
//!
//! As with nats-server the file is only readable by its owner and stays after the end.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{StartError, path_error};

const FILE_MODE: u32 = 0o600;

/// Writes this process's id.
///
/// # Errors
///
/// [`StartError::PidFile`] when the file cannot be written. At start that is fatal.
pub fn write(path: &Path) -> Result<(), StartError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|error| StartError::PidFile(path_error("open", path, &error)))?;
    file.write_all(std::process::id().to_string().as_bytes())
        .map_err(|error| StartError::PidFile(path_error("write", path, &error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_holds_the_bare_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.pid");
        std::fs::write(dir.path().join("old.pid"), "123456789012").unwrap();
        for path in [&path, &dir.path().join("old.pid")] {
            write(path).unwrap();
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(text, std::process::id().to_string());
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn refusals_read_like_nats_servers() {
        let refusal = |path: &str| write(Path::new(path)).unwrap_err().to_string();
        assert_eq!(
            refusal("/nonexistent/x"),
            "Could not write pidfile: open /nonexistent/x: no such file or directory"
        );
        assert_eq!(
            refusal("/dev/full"),
            "Could not write pidfile: write /dev/full: no space left on device"
        );
    }
}
