//! The options of `release`.

use lock_store::ConversationId;

use super::Connection;
use super::values::conversation_id;

/// Take a ticket away, so that a stuck conversation goes on
///
/// Takes the ticket that is served away from its owner, or another one
/// (--ticket), or all that are in the queue (--all). The owner learns that its
/// lock is lost, or its ticket gone; who is next is called.
///
/// Whoever held the lock may be still at work, and does not stop before it
/// learns of it; so look first (`lock-store show ID`) whether it is alive.
///
/// Says what it is about to do and asks, on a terminal; elsewhere --yes is
/// needed. It takes away exactly the tickets that it showed, not what may have
/// come in their place meanwhile.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES_AND_CODES
)]
pub(crate) struct ReleaseArgs {
    /// The conversation, a text of 1 to 1024 bytes.
    #[arg(value_name = "ID", value_parser = conversation_id)]
    pub(crate) id: ConversationId,

    #[command(flatten)]
    pub(crate) connection: Connection,

    /// The number of the ticket to take away [default: the one that is
    /// served].
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub(crate) ticket: Option<u64>,

    /// Take away all tickets that are in the queue now.
    #[arg(long)]
    pub(crate) all: bool,

    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Say in JSON what happened, as one document.
    ///
    /// Its fields: conversation_id, released (the numbers of the tickets that
    /// were taken away), gone (of those that had left by themselves), serving
    /// (the number of the ticket that is served now, or null), waiting.
    #[arg(long)]
    pub(crate) json: bool,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store release anna --redis redis://localhost:6379/1
          Ask, then call the next message of `anna`
  lock-store release anna --ticket 7 --yes
          One ticket that waits, without asking"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "\n\nExit codes:
  0    taken away
  1    nothing was: there is no such lock or ticket, it had left by itself, or
       the answer was no; or not all could be
  2    wrong use or configuration, or Redis cannot be reached"
);
