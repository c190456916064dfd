//! What the user typed.

// Documentation is help text here, shown as it stands.
#![allow(clippy::doc_markdown)]

mod bench;
mod connection;
mod doctor;
#[cfg(target_os = "linux")]
mod exec;
mod export;
mod list;
mod listen;
mod pages;
mod process;
mod release;
mod show;
mod values;
mod watch;

use clap::{ArgAction, Parser, Subcommand};

pub(crate) use bench::BenchArgs;
pub(crate) use connection::{Connection, RedisUrl};
pub(crate) use doctor::DoctorArgs;
#[cfg(target_os = "linux")]
pub(crate) use exec::ExecArgs;
pub(crate) use export::ExportArgs;
pub(crate) use list::{ListArgs, Order};
pub(crate) use listen::{ListenAddress, MetricsOption};
pub(crate) use pages::{CompletionsArgs, ManArgs};
pub(crate) use process::ProcessArgs;
pub(crate) use release::ReleaseArgs;
pub(crate) use show::ShowArgs;
pub(crate) use watch::WatchArgs;

pub(crate) use crate::log::Format as LogFormat;

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

    /// How the log and the error that ends the command are written on standard
    /// error.
    ///
    /// `text` is coloured on a terminal, unless NO_COLOR is set. `json` is a
    /// line of JSON for each event: timestamp, level, target, fields.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    Process(ProcessArgs),
    #[cfg(target_os = "linux")]
    Exec(ExecArgs),
    List(ListArgs),
    Show(ShowArgs),
    Watch(WatchArgs),
    Release(ReleaseArgs),
    Doctor(DoctorArgs),
    Bench(BenchArgs),
    Export(ExportArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

const EXAMPLES: &str = "Examples:
  lock-store process examples/messages.jsonl
          Echo each message
  lock-store exec nightly --redis redis://localhost:6379/1 -- ./import.sh
          Run a command under a lock
  lock-store list
          See who has a lock; endpoints.yml says where
  lock-store process --help
          All about processing messages

Exit codes:
  0    all is well
  1    what was asked about is not so, or failed
  2    wrong use or configuration, or Redis cannot be reached at the start
  130  interrupted by Ctrl-C (143: by SIGTERM, 129: by SIGHUP)

`exec` has codes of its own; see lock-store COMMAND --help.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }
}
