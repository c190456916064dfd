//! The options of `doctor`.

use std::time::Duration;

use super::Connection;
use super::values::positive_seconds;

/// Check the configuration and the Redis that it names
///
/// One line for each check: `ok`, `warning`, `failure` or `skipped`, what was
/// found, and what to do about it. A check that needs one that failed is
/// skipped.
///
///   configuration       the file and the environment, keys and values
///   settings            where each setting comes from
///   fallback            what happens if Redis is not there at the start
///   timing              whether the times fit each other
///   connections         how many are opened
///   dns, tcp            whether the servers can be found and reached
///   tls                 whether encryption is wanted on both sides, whom the
///                       certificate is from, and for which name
///   certificate         when the server's certificates end
///   client_certificate  whether this client's is accepted, and when it ends
///   answer, login       whether it is a Redis that answers, and lets us in
///   sentinels, cluster  whether they agree, and are complete
///   server, role        its version, and whether it is the kind configured
///   rights              each command, key and channel that the store uses
///   memory_policy       whether Redis may throw locks away
///   memory, clients     how near the limits are
///   persistence         what a restart costs
///   replicas            how many there are, and how far behind
///   clock               the difference to this machine, and between nodes
///   round_trip          the median of some PINGs
///   slow_log            commands that held everybody up
///   hand_off            a whole lock, handed over from one client to another
///   leftovers           keys of the store that never expire
///   rasa_keys           locks that an older Rasa left behind
///
/// Nothing is changed but for the lock of `hand_off` and the keys that `rights`
/// tries, which are of conversations of its own, under the configured prefix,
/// and are deleted again. Some checks ask for what the store itself needs no
/// right for (INFO, CONFIG GET, SLOWLOG); they are skipped if this user may
/// not.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = EXAMPLES,
    after_long_help = EXAMPLES_AND_CODES
)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// One JSON array of objects with `check`, `status`, `message` and `remedy`.
    #[arg(long)]
    pub(crate) json: bool,

    /// How long connecting, and one answer, may take, instead of the configured
    /// socket_timeout.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    pub(crate) timeout: Option<Duration>,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store doctor
          Check endpoints.yml in this folder, and its Redis
  lock-store doctor --redis redis://localhost:6379/1 --timeout 2
          Check a Redis with everything else as it is by default
  lock-store doctor --endpoints bot.yml --json | jq -r '.[] | select(.status == \"failure\").check'
          Only what failed"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "\n\nExit codes, by the worst that was found:
  0  everything is ok
  1  a warning
  2  a failure; also wrong use"
);
