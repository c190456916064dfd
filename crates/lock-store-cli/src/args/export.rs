//! The options of `export`.

use std::time::Duration;

use super::values::{positive_seconds, seconds};
use super::{Connection, ListenAddress};

/// Serve what Redis knows about the locks of a fleet, for Prometheus
///
/// At http://ADDR/metrics: how many conversations have a lock, how many tickets
/// wait, how long the oldest has waited, which are dead, how long a round trip
/// takes, and, if this user may ask for INFO, the memory, evictions and clients
/// of the servers. One exporter is enough for a fleet. The processes have
/// metrics of their own: see `lock-store process --metrics`.
///
/// A scrape goes through all keys, in small steps that hold nobody up. Scrapes
/// that come together share one survey, and one that comes soon after another
/// has the same figures (--min-interval). While Redis cannot be reached,
/// lock_store_fleet_up is 0 and there are no figures, old ones least of all.
///
/// http://ADDR/healthz says whether the exporter itself is alive. Whoever may
/// reach ADDR may read the figures; they have no conversation ids.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES_AND_CODES)]
pub(crate) struct ExportArgs {
    /// Where to listen, such as 127.0.0.1:9465.
    ///
    /// Without a host, as in :9465, on all interfaces. With the port 0 the
    /// system chooses one; standard error says where it is.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: ListenAddress,

    #[command(flatten)]
    pub(crate) connection: Connection,

    /// Go through the keys at most this often; scrapes in between have the
    /// figures of the last time.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) min_interval: Duration,

    /// How long a survey may take; Redis counts as not reached then. Less if
    /// Prometheus' scrape_timeout is shorter, so that the answer is in time.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = positive_seconds)]
    pub(crate) timeout: Duration,
}

macro_rules! examples {
    () => {
        "Examples:
  lock-store export --listen 127.0.0.1:9465 --redis redis://localhost:6379/1
          Then: curl http://127.0.0.1:9465/metrics
  lock-store export --listen :9465 --endpoints endpoints.yml --min-interval 15
          On all interfaces, going through the keys at most every 15 seconds"
    };
}

const EXAMPLES: &str = examples!();
const EXAMPLES_AND_CODES: &str = concat!(
    examples!(),
    "\n\nExit codes:
  0    ended by SIGTERM or SIGINT (Ctrl-C)
  2    wrong use or configuration, the address cannot be listened at, or Redis
       cannot be reached at the start; later outages are waited out"
);
