//! What can be wrong with a configuration: findings with the place they were found at, and the
//! set of them that a failed load reports at once.

use std::fmt;
use std::sync::Arc;

/// Where in a configuration text something stands.
///
/// The column counts bytes as nats-server prints them: from 1 on every line but the first, where
/// it counts from 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// The file as it was named, or empty for text that came from the environment.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, see above.
    pub column: u32,
}

impl Pos {
    /// A place in `file`.
    pub fn new(file: &Arc<str>, line: u32, column: u32) -> Self {
        Self { file: Arc::clone(file), line, column }
    }
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Why a warning was given; decides whether it makes a `-t` check fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration can not be used.
    Error,
    /// Accepted, but nats-server warns about it too; fails a `-t` check as it does there.
    Warning,
    /// A key that this server knows but does not serve yet; the file itself is valid.
    NotServed,
}

/// One thing that is wrong, or doubtful, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The place, when there is one.
    pub pos: Option<Pos>,
    /// How bad it is.
    pub kind: Kind,
    /// The text, without the place.
    pub text: String,
    /// Whether the text names its own place, as nats-server's grammar errors do.
    pub(super) placed_last: bool,
}

impl Finding {
    /// An error at a place.
    pub fn error(pos: &Pos, text: impl Into<String>) -> Self {
        Self { pos: Some(pos.clone()), kind: Kind::Error, text: text.into(), placed_last: false }
    }

    /// An error that belongs to no place in a file.
    pub fn bare(text: impl Into<String>) -> Self {
        Self { pos: None, kind: Kind::Error, text: text.into(), placed_last: false }
    }

    /// A warning at a place.
    pub fn warning(pos: &Pos, text: impl Into<String>) -> Self {
        Self { kind: Kind::Warning, ..Self::error(pos, text) }
    }

    /// A grammar error: nats-server's text comes first, since tools match it, the place after it.
    pub(super) fn grammar(pos: &Pos, text: impl Into<String>) -> Self {
        Self { placed_last: true, ..Self::error(pos, text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pos {
            Some(pos) if self.placed_last => write!(f, "{} ({pos})", self.text),
            Some(pos) => write!(f, "{pos}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Everything found wrong with a configuration, in the order of the file.
///
/// `Display` prints the warnings first and then the errors, one a line, as nats-server does.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// What makes the configuration unusable; not empty unless only a check failed.
    pub errors: Vec<Finding>,
    /// What was doubtful beside it.
    pub warnings: Vec<Finding>,
}

impl ConfigErrors {
    /// A single error.
    pub fn one(finding: Finding) -> Self {
        Self { errors: vec![finding], warnings: Vec::new() }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for finding in self.warnings.iter().chain(&self.errors) {
            if !first {
                f.write_str("\n")?;
            }
            first = false;
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// The text of an I/O error as Go prints it: `open <path>: no such file or directory`.
pub(super) fn io_text(verb: &str, path: &str, err: &std::io::Error) -> String {
    let text = err.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let lowered = match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect::<String>(),
        None => String::new(),
    };
    let verb = if err.kind() == std::io::ErrorKind::IsADirectory { "read" } else { verb };
    format!("{verb} {path}: {lowered}")
}
