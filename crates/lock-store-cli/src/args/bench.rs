//! The options of `bench`.

use std::path::PathBuf;
use std::time::Duration;

use super::Connection;
use super::values::{positive_seconds, seconds};

/// Measure what this Redis can do: cycles per second, latency, hand-off
///
/// Measures, one after the other and each for --seconds after a --warm-up that
/// does not count:
///
///     one task    a lock and its release, when nobody else is there; beside it
///                 the round trip of a PING
///     load        --tasks at once, each of which locks and releases again and
///                 again: cycles per second, and how long each cycle took
///     hand-off    from before a release until the next of --waiters runs
///
/// with the settings of a service: all that a `lock_store` block can say counts
/// here, also `wait_timeout`, `keep_alive`, `connections` and `replicas`.
/// Without a Redis the locks in memory are measured.
///
/// It is a load: do not run it against a Redis that is busy with something
/// that matters. Its conversations are called `lock-store-bench-...`, under the
/// configured prefix, so it needs no other rights than a service; their keys
/// are removed at the end, also after Ctrl-C, and if they could not be, that is
/// said. All of them expire by themselves.
///
/// If Redis is lost meanwhile, cycles that found no end are errors, with their
/// reason. Ctrl-C ends it early, with the results so far.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES_AND_CODES
)]
pub(crate) struct BenchArgs {
    /// How many tasks lock and release at once, in each process.
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tasks: u32,

    /// How many conversations they share, those of all processes [default: one
    /// for each task].
    ///
    /// With fewer than tasks they wait for each other, in whichever process
    /// they are. With more, each task goes through those that are its own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) conversations: Option<u32>,

    /// How many wait in the line through which a lock is handed on, spread over
    /// the processes and, in each, over two clients. 0: do not measure it.
    ///
    /// Measured are at most 200,000 hand-offs.
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) waiters: u32,

    /// How long each of the three parts is measured.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = positive_seconds)]
    pub(crate) seconds: Duration,

    /// How long each part runs before it is measured.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warm_up: Duration,

    /// How many processes do it together: as a fleet on one machine.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) processes: u32,

    #[command(flatten)]
    pub(crate) connection: Connection,

    /// The results as one JSON document.
    #[arg(long)]
    pub(crate) json: bool,

    /// A picture for a report: the distribution of latencies, and cycles per
    /// second over time. Its name must end with `.svg`.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,

    /// No progress on standard error; errors are still shown.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// A process of --processes: asks its standard input what to do.
    #[arg(long, hide = true)]
    pub(crate) worker: bool,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store bench --redis redis://localhost:6379/1
          What this Redis does for one service
  lock-store bench --endpoints endpoints.yml --processes 4 --plot bench.svg
          Four processes with the settings of a service, and a picture
  lock-store bench --redis redis://localhost:6379/1 --tasks 64 --conversations 8
          Contended: eight tasks for each conversation
  lock-store bench --redis redis://localhost:6379/1 --json | jq .load.cycles_per_second
          One figure, for a script"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "\n\nExit codes:
  0    measured, without an error
  1    measured, and something failed: a cycle, a process, or cleaning up
  2    wrong use or configuration, or Redis cannot be reached at the start
  130  interrupted by Ctrl-C (143: by SIGTERM, 129: by SIGHUP), with the
       results so far"
);
