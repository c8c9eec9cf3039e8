//! The process around the shards: command line, configuration, logs, signals, start and stop.

pub mod check_command;
pub mod cli;
pub mod config;
pub mod error;
pub mod helpers;
pub mod logging;
pub mod notify;
pub mod pidfile;
pub mod portsfile;
pub mod probe;
pub mod signal_command;
pub mod signals;
pub mod streams;

mod advice;
mod boot;
mod facts;
mod shares;
mod steer;
pub mod translate;

use cli::Command;
use error::{EXIT_OK, fatal_text};

/// Runs the program with the process's arguments and returns its exit code.
#[must_use]
pub fn run() -> u8 {
    let command = match cli::process_args().and_then(|args| cli::parse(&args)) {
        Ok(command) => command,
        Err(error) => {
            error.printout().show();
            return error.exit_code();
        }
    };
    let outcome = match command {
        Command::Print(printout) => {
            printout.show();
            Ok(())
        }
        Command::CheckStore(words, flags) => return check_command::run(&words, &flags),
        Command::Signal(text) => signal_command::run(&text).map_err(Into::into),
        Command::Check(flags) => boot::check(&flags).map(|text| eprintln!("{}", fatal_text(&text))),
        Command::Serve(flags) => boot::serve(&flags),
    };
    match outcome {
        Ok(()) => EXIT_OK,
        Err(error) => {
            eprintln!("{}", error.report());
            error.exit_code()
        }
    }
}
