//! What a fuzzer, or a property test, does with any bytes: they are taken as a configuration, and
//! what must always hold is checked.

use std::path::Path;

use super::{FlagOverrides, Kind, Source, configure, load_text};

/// A world in which every file and every variable holds the same bytes.
struct Everywhere<'b>(&'b [u8]);

impl Source for Everywhere<'_> {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        if path.as_os_str().len() > 64 {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(self.0.to_vec())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name.len() < 64).then(|| String::from_utf8_lossy(self.0).into_owned())
    }
}

/// Reads `bytes` as a configuration file whose includes and variables are the same bytes again.
///
/// # Panics
/// When one of these does not hold: reading ends, the same text gives the same result, an error
/// has a text and names the file it is in, and warnings alone never make a load fail.
pub fn config(bytes: &[u8]) {
    let source = Everywhere(bytes);
    let first = load_text(bytes, "fuzz.conf", &source);
    let second = load_text(bytes, "fuzz.conf", &source);
    assert_eq!(first.is_ok(), second.is_ok());
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.digest, second.digest);
            assert_eq!(first.options, second.options);
            assert!(first.warnings.iter().all(|finding| finding.kind != Kind::Error));
        }
        (Err(first), Err(second)) => {
            assert_eq!(first, second);
            assert!(!first.errors.is_empty());
            for error in &first.errors {
                assert_eq!(error.kind, Kind::Error);
                assert!(!error.text.is_empty());
                assert!(error.pos.is_some(), "{error} has no place");
            }
        }
        _ => {}
    }
    let flags = FlagOverrides { config: Some("fuzz.conf".into()), ..FlagOverrides::default() };
    let _ = configure(&flags, &source);
}
