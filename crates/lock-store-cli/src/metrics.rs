//! The metrics of the command itself, for Prometheus: `--metrics ADDR`.

use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;

use crate::args::MetricsOption;
use crate::http::{self, Exposed, Listening};
use crate::screen::Screen;

/// Buckets end here, in seconds. One call to Redis is far below a millisecond
/// where all is well, and ends at the `socket_timeout` where it is not.
const OPERATION: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Waiting and holding are as long as messages take, up to several leases.
const ACQUIRE_AND_HOLD: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0, 300.0,
];

/// Between two scrapes the samples of histograms are gathered this often, so
/// that they need no memory even if nobody scrapes.
const GATHERING: Duration = Duration::from_secs(5);

/// The endpoint, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Metrics {
    tasks: [JoinHandle<()>; 2],
}

impl Metrics {
    /// Begins to serve, if that is wanted. To be called before a store is
    /// made, whose first events count, too.
    pub(crate) async fn serve(
        option: &MetricsOption,
        screen: &Screen,
    ) -> anyhow::Result<Option<Self>> {
        let Some(address) = &option.metrics else {
            return Ok(None);
        };
        let listening = Listening::at(address, "--metrics").await?;
        let handle = recorder()?;
        lock_store::describe_metrics();
        if address.is_open() {
            screen.say(format_args!("metrics are at {}", listening.url()));
        } else {
            tracing::info!("metrics are at {}", listening.url());
        }
        let served = Own(handle.clone());
        let serving = async move {
            if let Err(error) = listening.serve(served, std::future::pending()).await {
                tracing::warn!(%error, "metrics are no longer served");
            }
        };
        let gathering = async move {
            let mut ticks = tokio::time::interval(GATHERING);
            loop {
                ticks.tick().await;
                handle.run_upkeep();
            }
        };
        Ok(Some(Self {
            tasks: [tokio::spawn(serving), tokio::spawn(gathering)],
        }))
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Installs what gathers the metrics of this process.
fn recorder() -> anyhow::Result<PrometheusHandle> {
    let of = |name: &str| Matcher::Full(format!("lock_store_{name}_duration_seconds"));
    PrometheusBuilder::new()
        .set_buckets_for_metric(of("operation"), OPERATION)
        .and_then(|builder| builder.set_buckets_for_metric(of("acquire"), ACQUIRE_AND_HOLD))
        .and_then(|builder| builder.set_buckets_for_metric(of("hold"), ACQUIRE_AND_HOLD))
        .and_then(PrometheusBuilder::install_recorder)
        .context("the metrics cannot be gathered")
}

#[derive(Clone)]
struct Own(PrometheusHandle);

impl Exposed for Own {
    async fn text(&self, _within: Option<Duration>) -> String {
        http::in_order(&self.0.render())
    }
}
