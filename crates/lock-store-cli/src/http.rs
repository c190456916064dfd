//! A small server for what Prometheus reads.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::args::ListenAddress;

/// The text format of Prometheus.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// In which Prometheus says how long it waits for an answer, in seconds.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// How long whoever is being answered when the end comes has for that.
const FAREWELL: Duration = Duration::from_secs(5);

const INDEX: &str = "<!doctype html><title>lock-store</title>\
    <h1>lock-store</h1><p><a href=\"metrics\">metrics</a>, <a href=\"healthz\">healthz</a></p>\n";

/// Metrics as they are now.
pub(crate) trait Exposed: Clone + Send + Sync + 'static {
    /// `within` is how long whoever asks waits for it, if that was said.
    fn text(&self, within: Option<Duration>) -> impl Future<Output = String> + Send;
}

/// An address that is listened at.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// `option` is what named the address.
    pub(crate) async fn at(address: &ListenAddress, option: &str) -> anyhow::Result<Self> {
        let mut last = None;
        for socket in address.sockets() {
            match TcpListener::bind(socket).await {
                Ok(listener) => {
                    let address = listener.local_addr().context("no address")?;
                    return Ok(Self { listener, address });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    bail!(
                        "cannot listen at {address}: another program does; choose another port \
                         with {option}, or 0 for any that is free"
                    );
                }
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        bail!(
            "cannot listen at {address}: {error}; {option} must be an address of this machine, \
             such as 127.0.0.1:9464"
        );
    }

    /// Where the metrics are. Whoever listens on all interfaces is reached by
    /// any name of the machine.
    pub(crate) fn url(&self) -> String {
        let address = match self.address {
            all if all.ip().is_unspecified() => format!("localhost:{}", all.port()),
            one => one.to_string(),
        };
        format!("http://{address}/metrics")
    }

    /// Serves until `end` resolves and who is being answered has the answer.
    pub(crate) async fn serve(
        self,
        exposed: impl Exposed,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (ended, mut ending) = tokio::sync::watch::channel(false);
        let end = async move {
            end.await;
            ended.send_replace(true);
        };
        let serving = axum::serve(self.listener, router(exposed)).with_graceful_shutdown(end);
        let no_longer = async {
            // An error would be that the end was seen and its sender dropped.
            let _ = ending.wait_for(|ended| *ended).await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            served = serving => served,
            () = no_longer => Ok(()),
        }
    }
}

fn router<E: Exposed>(exposed: E) -> Router {
    Router::new()
        .route("/", get(async || Html(INDEX)))
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics::<E>))
        .with_state(exposed)
}

async fn metrics<E: Exposed>(State(exposed): State<E>, head: HeaderMap) -> impl IntoResponse {
    let text = exposed.text(scrape_timeout(&head)).await;
    ([(CONTENT_TYPE, TEXT_FORMAT)], text)
}

fn scrape_timeout(head: &HeaderMap) -> Option<Duration> {
    let seconds = head.get(SCRAPE_TIMEOUT)?.to_str().ok()?.parse().ok()?;
    let within = Duration::try_from_secs_f64(seconds).ok()?;
    (!within.is_zero()).then_some(within)
}

/// The same metrics, by name and label: the library that renders them has them
/// in another order each time, which nobody can read or compare.
pub(crate) fn in_order(text: &str) -> String {
    let mut blocks: Vec<&str> = text.split("\n\n").map(str::trim).collect();
    blocks.retain(|block| !block.is_empty());
    blocks.sort_unstable_by_key(|block| name_of(block));
    let mut ordered = String::with_capacity(text.len());
    for block in blocks {
        let is_histogram = block.contains(" histogram\n");
        let mut samples: Vec<&str> = block.lines().collect();
        // The buckets of a histogram belong together and are in order.
        if !is_histogram {
            samples.sort_by_key(|line| (!line.starts_with('#'), line.trim_start_matches('#')));
        }
        for line in samples {
            ordered.push_str(line);
            ordered.push('\n');
        }
    }
    ordered
}

/// The name in `# HELP name …` or `# TYPE name …`.
fn name_of(block: &str) -> Option<&str> {
    block.split_ascii_whitespace().nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_timeout_is_a_time_or_nothing() {
        let said = |text: &str| {
            let mut head = HeaderMap::new();
            head.insert(SCRAPE_TIMEOUT, text.parse().unwrap());
            scrape_timeout(&head)
        };
        assert_eq!(said("10.000000"), Some(Duration::from_secs(10)));
        assert_eq!(said("0.25"), Some(Duration::from_millis(250)));
        for wrong in ["", "soon", "0", "-1", "NaN", "inf", "1e300"] {
            assert_eq!(said(wrong), None, "{wrong}");
        }
        assert_eq!(scrape_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn blocks_and_samples_are_in_order_and_complete() {
        let text = "# HELP b two\n# TYPE b counter\nb{x=\"2\"} 1\nb{x=\"1\"} 3\n\n\
                    # TYPE a histogram\na_bucket{le=\"5\"} 1\na_bucket{le=\"10\"} 2\na_sum 7\n\n";
        assert_eq!(
            in_order(text),
            "# TYPE a histogram\na_bucket{le=\"5\"} 1\na_bucket{le=\"10\"} 2\na_sum 7\n\
             # HELP b two\n# TYPE b counter\nb{x=\"1\"} 3\nb{x=\"2\"} 1\n"
        );
    }
}
