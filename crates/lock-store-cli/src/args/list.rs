//! The options of `list`.

use super::Connection;

/// List the conversations that have a lock
///
/// A line for each conversation: the ticket that is served, how many wait
/// behind it, for how long the next of them has waited, what is left of the
/// lease, and how long ago the ticket that is served was taken.
///
/// Goes through the keys of Redis in small steps that hold nobody up, so it is
/// no picture of one moment. Without --sort, lines come as they are found, in
/// no order.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES_AND_CODES
)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// Only conversations in which more than N tickets wait: 0 are those in
    /// which somebody waits.
    #[arg(long, value_name = "N")]
    pub(crate) waiting_more_than: Option<u64>,

    /// In this order, which needs all of them in memory.
    #[arg(long, value_name = "BY")]
    pub(crate) sort: Option<Order>,

    /// At most N lines: the first ones of the order.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,

    /// A line of JSON for each conversation.
    ///
    /// Its fields: conversation_id, ticket, fencing_token, state (`claimed`: it
    /// holds the lock; `promoted`: called, and has not answered yet), expired
    /// (nobody has dropped it yet), owner (or null), waiting,
    /// oldest_wait_seconds (0 if nobody waits), lease_left_seconds,
    /// age_seconds.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// Most tickets waiting
    Waiting,
    /// Longest wait of whoever is next
    Wait,
    /// Longest since the ticket that is served was taken
    Age,
    /// Shortest lease left
    Lease,
    /// By conversation id
    Id,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store list --redis redis://localhost:6379/1
          Everything that has a lock; needs no endpoints.yml
  lock-store list --sort wait --limit 10
          Where messages have waited for longest
  lock-store list --waiting-more-than 100 --json | jq -r .conversation_id
          For a script"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "\n\nExit codes:
  0    all were listed, be it none
  1    a lock is damaged, or Redis went away meanwhile: not all were listed
  2    wrong use or configuration, or Redis cannot be reached"
);
