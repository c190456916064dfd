//! The options of `watch`.

use std::time::Duration;

use super::Connection;
use super::values::positive_seconds;

/// Watch all locks, live: queues, hand-offs, waiting times
///
/// On a terminal a picture that is drawn anew after each look, with keys to
/// sort, filter, open a queue ticket by ticket, and release a ticket (`?` lists
/// them). Where standard input or output is no terminal, or with --plain, a
/// line of figures after each look, as `name=value` or, with --json, as JSON.
///
/// All figures are seen by looking, every --interval: at the head of each queue
/// and the number behind it. An acquisition is noticed when the head has
/// changed; the numbers on the tickets tell how many were served in between.
/// So acquisitions and hand-offs per second are lower bounds: a lock that comes
/// and goes between two looks is not seen. A ticket whose owner gave up while
/// it waited counts as served. The waiting times are those of the heads
/// that were seen, over the last 60 s, or at least the last look.
///
/// Looking never takes more than a tenth of the time: with very many locks the
/// interval is longer than asked for, and the real one is shown. If Redis is
/// away, the last picture stays, marked as old, until it is back.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES_AND_CODES)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// The time from one look to the next.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = positive_seconds)]
    pub(crate) interval: Duration,

    /// End after so many looks [default: go on until stopped].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Lines on a terminal, too.
    #[arg(long)]
    pub(crate) plain: bool,

    /// JSON lines instead of a picture.
    #[arg(long)]
    pub(crate) json: bool,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store watch --redis redis://localhost:6379/1
          The picture: w, a, o, l, i sort, / filters, Enter opens a queue
  lock-store watch --interval 10 >> locks.log
          A line every 10 s, of the Redis that endpoints.yml names
  lock-store watch --json | jq -c 'select(.dead > 0)'
          The looks that found dead tickets"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "

Fields of a line (times in seconds; those after `connected` are left out while
it is false; some are not known after the first look, and null in JSON):
  time_seconds             since 1970
  connected                whether Redis answered
  conversations            that have a lock
  waiting                  tickets behind the heads
  dead                     heads that expired and that nobody dropped yet
  damaged                  locks that cannot be read
  longest_queue            tickets behind one head, the most
  oldest_wait_seconds      of the tickets that come next
  acquired_per_second      since the look before; a lower bound
  handed_off_per_second    those that had to wait; a lower bound
  wait_median_seconds      waiting times that were seen in the last 60 s
  wait_p99_seconds
  survey_seconds           how long looking took
  interval_seconds         the real time since the look before
  error                    why Redis did not answer

Exit codes:
  0    ended by q or --count
  1    the terminal, or the output, failed
  2    wrong use or configuration, or Redis cannot be reached at the start
  130  interrupted by Ctrl-C (143: by SIGTERM, 129: by SIGHUP)"
);
