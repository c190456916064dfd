//! The options of `exec`.

use std::ffi::OsString;
use std::time::Duration;

use lock_store::ConversationId;

use super::values::{conversation_id, positive_seconds, seconds};
use super::{Connection, MetricsOption};

/// Run a command while holding the lock of a conversation
///
/// Takes a ticket for ID, waits for its turn, runs COMMAND, and gives the lock
/// back when COMMAND ends. Meanwhile the lease is extended. COMMAND has our
/// standard input, output and error, and finds in its environment
///
///     LOCK_STORE_CONVERSATION_ID   ID
///     LOCK_STORE_TICKET            the number of its ticket
///     LOCK_STORE_FENCING_TOKEN     a number that only rises: whatever the lock
///                                  protects can refuse a lower one
///
/// Whoever handles messages of ID, by `lock-store process` or by the library,
/// waits meanwhile, and the other way round.
///
/// If the lock is lost (Redis lost its data or was away for longer than the
/// lease, somebody took the ticket away), COMMAND gets SIGTERM and, if it has
/// not ended after --grace, SIGKILL; the exit code is 79 then, whatever its own
/// was.
///
/// Signals: with a terminal, COMMAND is in our process group, so that Ctrl-C,
/// Ctrl-Z and reading from the terminal are as without us. Without one (cron,
/// CI, a container) it has a process group of its own, which gets the signals,
/// and so do all processes that it has started. A signal that is sent to us
/// alone (TERM, INT, HUP, QUIT, USR1, USR2, WINCH, TSTP, CONT) is passed on. We
/// end after COMMAND, never before it. The lock is held until COMMAND itself
/// ends: what it leaves in the background is not protected.
///
/// If lock-store itself is killed by SIGKILL, COMMAND gets SIGTERM (unless it
/// runs as another user), its lease is no longer extended, and the next in line
/// has its turn when that ends: after --lifetime at most. A COMMAND that does
/// not end by then goes on without protection: where that may do harm, have
/// what it writes to check the fencing token.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES_AND_CODES
)]
pub(crate) struct ExecArgs {
    /// The conversation whose lock is taken, a text of 1 to 1024 bytes.
    #[arg(value_name = "ID", value_parser = conversation_id)]
    pub(crate) id: ConversationId,

    /// The command to run, and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    #[command(flatten)]
    pub(crate) connection: Connection,

    /// Do not wait: if somebody has the lock, end at once with the exit code
    /// of --conflict-exit-code.
    #[arg(short, long, conflicts_with = "wait_timeout")]
    pub(crate) no_wait: bool,

    /// How long to wait for the turn at most [default: no limit]. The time in
    /// which Redis cannot be reached counts.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) wait_timeout: Option<Duration>,

    /// The length of a lease, instead of the configured one.
    ///
    /// It is extended every third of this time for as long as COMMAND runs. It
    /// is how long Redis may be away before the lock is lost, and how long the
    /// next in line waits if lock-store is killed.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    pub(crate) lifetime: Option<Duration>,

    /// How long COMMAND has, when the lock is lost, from SIGTERM to SIGKILL.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) grace: Duration,

    /// The exit code when the lock was not acquired: it was taken (--no-wait),
    /// or the turn did not come in time (--wait-timeout).
    #[arg(short = 'E', long, value_name = "N", default_value_t = 75)]
    pub(crate) conflict_exit_code: u8,

    #[command(flatten)]
    pub(crate) metrics: MetricsOption,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store exec nightly-import --redis redis://localhost:6379/1 -- ./import.sh
          One import at a time, on however many machines
  lock-store exec report --no-wait -- make report || [ $? = 75 ]
          Not at all if it is under way already; endpoints.yml says where
  lock-store exec anna --wait-timeout 10 --lifetime 15 -- sh -c '
      curl -H \"X-Fencing-Token: $LOCK_STORE_FENCING_TOKEN\" ...'
          Something in the place of a message of the conversation `anna`"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "\n\nExit codes:
  that of COMMAND, and 128+N if signal N ended it; or
  2    wrong use or configuration, or Redis cannot be reached: not run
  75   not acquired, so not run (see --conflict-exit-code)
  79   the lock was lost before COMMAND had ended
  126  COMMAND cannot be run
  127  COMMAND is not found
  128+N signal N came before the turn: not run"
);
