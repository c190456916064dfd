//! The options of `show`.

use lock_store::ConversationId;

use super::Connection;
use super::values::conversation_id;

/// Show the queue of a conversation, ticket by ticket
///
/// For each ticket: its state (`claimed`: it holds the lock; `promoted`: it was
/// called, and has not answered yet; `waiting`), how long ago it was taken,
/// after which time it is dropped unless something happens before (the lease of
/// the one that is served, the wait timeout of the others), its fencing token,
/// its owner (client and sequence), and whether the process of that client is
/// there: `yes` if it listens to calls, `no` if it does not (it is dead, or out
/// of reach), `?` if the server does not tell. A ticket marked `expired` is
/// dropped as soon as anybody looks for its turn.
///
/// Nothing is changed by looking.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES_AND_CODES
)]
pub(crate) struct ShowArgs {
    /// The conversation, a text of 1 to 1024 bytes.
    #[arg(value_name = "ID", value_parser = conversation_id)]
    pub(crate) id: ConversationId,

    #[command(flatten)]
    pub(crate) connection: Connection,

    /// One document in JSON.
    ///
    /// Its fields: conversation_id, waiting, time_to_live_seconds (of the key;
    /// null if it has no end, as it should have), and tickets, the one that is
    /// served first, each with ticket, state, expired, fencing_token, owner (or
    /// null), alive (or null), age_seconds, left_seconds, lifetime_seconds.
    #[arg(long)]
    pub(crate) json: bool,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store show anna --redis redis://localhost:6379/1
          Who holds the lock of `anna`, and who waits for it
  lock-store show anna --json | jq '.tickets[] | select(.alive == false)'
          The tickets of dead processes"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "\n\nExit codes:
  0    it was shown
  1    the conversation has no lock, or it is damaged
  2    wrong use or configuration, or Redis cannot be reached"
);
