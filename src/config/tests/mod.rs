//! Tests of the configuration as a whole. What nats-server 2.15.1 says about the same texts is
//! recorded in `testdata/`.

mod grammar;
mod keys;
mod options;
mod random;
mod recorded;
mod reload;
mod rules;
mod shares;

use std::path::Path;

use super::{ConfigErrors, Finding, Loaded, Options, Source, load_text};

/// Files and variables that a test brings along.
#[derive(Default)]
pub(super) struct World {
    files: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, &'static str)>,
}

impl World {
    fn file(mut self, path: &'static str, text: impl Into<String>) -> Self {
        self.files.push((path, text.into()));
        self
    }

    fn variable(mut self, name: &'static str, text: &'static str) -> Self {
        self.variables.push((name, text));
        self
    }
}

impl Source for World {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let found = self.files.iter().find(|(name, _)| Path::new(name) == path);
        // The error that the system gives, with its own text.
        let missing = || std::io::Error::from_raw_os_error(2);
        found.map(|(_, text)| text.clone().into_bytes()).ok_or_else(missing)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_string())
    }
}

fn load_in(text: &str, world: &World) -> Result<Loaded, ConfigErrors> {
    load_text(text.as_bytes(), "t.conf", world)
}

/// The options of a text that must be right.
fn options_of(text: &str) -> Options {
    match load_in(text, &World::default()) {
        Ok(loaded) => loaded.options,
        Err(errors) => panic!("{text}\n{errors}"),
    }
}

/// The errors of a text that must be wrong, one a line.
fn errors_of(text: &str) -> Vec<String> {
    match load_in(text, &World::default()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => errors.errors.iter().map(Finding::to_string).collect(),
    }
}

/// The warnings of a text that must be right.
fn warnings_of(text: &str) -> Vec<String> {
    match load_in(text, &World::default()) {
        Ok(loaded) => loaded.warnings.iter().map(Finding::to_string).collect(),
        Err(errors) => panic!("{text}\n{errors}"),
    }
}
