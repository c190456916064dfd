//! What the user typed.

// Documentation is help text here, shown as it stands.
#![allow(clippy::doc_markdown)]

mod connection;
mod doctor;
mod process;
mod values;

use clap::{ArgAction, Parser, Subcommand};

pub(crate) use connection::{Connection, RedisUrl};
pub(crate) use doctor::DoctorArgs;
pub(crate) use process::ProcessArgs;

/// Messages processed in order, one at a time per conversation.
///
/// Messages of one conversation are handled one at a time and in the order in
/// which they arrived; messages of different conversations in parallel.
#[derive(Debug, Parser)]
#[command(name = "lock-store", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) task: Task,

    /// Say more on standard error: -v what happens, -vv every ticket.
    ///
    /// The environment variable RUST_LOG says it in detail, such as
    /// RUST_LOG=lock_store=debug.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    Doctor(DoctorArgs),
    Process(ProcessArgs),
}

const EXAMPLES: &str = "Examples:
  lock-store process examples/messages.jsonl
          Echo each message
  lock-store process --help
          All about processing messages";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }
}
