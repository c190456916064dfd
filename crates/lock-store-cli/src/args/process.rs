//! The options of `process`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;

use super::values::{positive_seconds, seconds};
use super::{Connection, MetricsOption};

/// Process messages, each conversation in order, conversations in parallel
///
/// Reads messages as JSON lines, such as
///
///     {"sender": "anna", "message": "I would like a pizza"}
///
/// takes a ticket for each in the order read, processes it when its turn has
/// come, and writes one JSON line when it is done: all fields of the input,
/// and `seq` (its number in the input, from 0), `ticket`, `fencing_token`,
/// `waited_ms` (from asking for its ticket to the begin of processing),
/// `held_ms` (from there to its end), `status` (`ok` or `error`), and `response` or `error`.
///
/// A message is processed by a COMMAND that is started for it, by a server
/// that it is posted to (--post), or, without either, it is echoed.
///
/// No message is lost: one that could not be processed has its line with the
/// status `error`, and a line that is not a message is reported with its
/// number on standard error.
///
/// Several processes, on one machine or many, share their conversations if
/// they share a Redis (--redis): of all messages of a conversation, whichever
/// process has them, one at a time is processed, in the order of the tickets.
/// While Redis cannot be reached, tickets are asked for until it can, or until
/// --wait-timeout. A ticket that is lost before its message was begun, as when
/// Redis lost its data, is replaced by a new one; the messages of an input stay
/// in order.
///
/// If the lock is lost while a message is processed (its lease ran out, or
/// Redis lost its data), the processing is stopped, as the next message of the
/// conversation may be processed elsewhere. The message is an error that says
/// so, with the response if that was complete; it is not processed again, as it
/// may have had its effects.
///
/// Ctrl-C stops reading, finishes what was begun, and says what was not; a
/// second one stops at once.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES_AND_CODES
)]
pub(crate) struct ProcessArgs {
    /// The file with the messages; `-` is standard input, which is also read
    /// when no file is named.
    pub(crate) file: Option<PathBuf>,

    /// The command that processes a message.
    ///
    /// Started for each message, with the message's line on its standard
    /// input, and LOCK_STORE_CONVERSATION_ID, LOCK_STORE_TICKET and
    /// LOCK_STORE_FENCING_TOKEN in its environment. Its standard output is the
    /// response, as JSON if it is JSON, else as text. If it does not end with
    /// exit status 0, that is an error of the message, with its standard
    /// error.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// Post each message as JSON to this http or https URL.
    ///
    /// The header X-Fencing-Token carries the fencing token. The reply is the
    /// response, as JSON if it is JSON, else as text. A reply that is not 2xx
    /// is an error of the message; redirects are not followed.
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    pub(crate) post: Option<String>,

    /// How long the processing of one message may take [default: 60 with
    /// --post, no limit for a command].
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    pub(crate) timeout: Option<Duration>,

    /// How many messages are processed at once; waiting ones do not count.
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) concurrency: u32,

    /// How many messages hold a ticket at once.
    ///
    /// Further messages of a conversation that already has many are kept, in
    /// order, in a temporary file without a name (in $TMPDIR or /tmp), so that
    /// a long queue of one conversation neither keeps others from their turn
    /// nor needs memory.
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) read_ahead: u32,

    /// The field that holds the conversation id, a text of 1 to 1024 bytes.
    #[arg(long, value_name = "NAME", default_value = "sender")]
    pub(crate) id_field: String,

    #[command(flatten)]
    pub(crate) connection: Connection,

    /// The length of a lease, instead of the configured one: how long a message
    /// may be processed under its lock, unless leases are extended.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    pub(crate) lifetime: Option<Duration>,

    /// How long a message waits for its turn before it is an error [default:
    /// no limit]. The time in which Redis cannot be reached counts.
    ///
    /// Counted from its ticket on, so not while it is kept in the temporary
    /// file (see --read-ahead).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) wait_timeout: Option<Duration>,

    /// Whether leases are extended while their messages are processed.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) keep_alive: bool,

    #[command(flatten)]
    pub(crate) metrics: MetricsOption,

    /// No progress and no summary on standard error; errors are still shown.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store process examples/messages.jsonl
          Echo each message: what a first run needs
  lock-store process examples/messages.jsonl -- jq .message
          Start a command for each message; its output is the response
  tail -F chat.jsonl | lock-store process - --id-field user --timeout 5 -- ./reply
          Follow a log whose conversations are named by the field `user`
  lock-store process examples/messages.jsonl --concurrency 8 \\
      --post http://localhost:5005/webhooks/rest/webhook > replies.jsonl
          Send each message to a Rasa server, at most 8 at once
  lock-store process monday.jsonl --redis redis://localhost:6379/1 -- ./reply &
  lock-store process tuesday.jsonl --redis redis://localhost:6379/1 -- ./reply
          Two processes, and more elsewhere, share the conversations"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "\n\nExit codes:
  0    every message was processed
  1    a message failed, a line was not a message, or not all could be read or
       written
  2    wrong use or configuration; nothing was processed
  130  interrupted by Ctrl-C (143: by SIGTERM, 129: by SIGHUP)"
);
