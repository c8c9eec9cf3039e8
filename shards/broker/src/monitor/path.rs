//! Cleaning of request paths: doubled slashes and dot segments, which are answered with a
//! redirect to the clean path.

/// The clean form of a raw (still encoded) path, or `None` if it is clean already. A path that
/// does not start with a slash is left to be "not found".
pub(crate) fn cleaned(path: &[u8]) -> Option<Vec<u8>> {
    let below = path.strip_prefix(b"/")?;
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_directory = false;
    for segment in below.split(|byte| *byte == b'/') {
        ends_in_directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let mut clean = vec![b'/'];
    clean.extend(kept.join(&b'/'));
    // A trailing slash (but not a trailing dot segment) is kept.
    if ends_in_directory && path.ends_with(b"/") && clean.len() > 1 {
        clean.push(b'/');
    }
    (clean != path).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_doubled_slashes_go() {
        for (path, expected) in [
            ("/varz", None),
            ("/", None),
            ("/varz/", None),
            ("//varz", Some("/varz")),
            ("/./healthz", Some("/healthz")),
            ("/x/../healthz", Some("/healthz")),
            ("//x//y", Some("/x/y")),
            ("/varz/../nope", Some("/nope")),
            ("/<x>/..", Some("/")),
            ("/../../..", Some("/")),
            ("/x/.", Some("/x")),
            ("//evil.example/..//x/", Some("/x/")),
            ("varz", None),
            ("", None),
        ] {
            assert_eq!(cleaned(path.as_bytes()).as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }
}
