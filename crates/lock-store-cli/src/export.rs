//! `lock-store export`: what Redis knows about a fleet, for Prometheus.
//!
//! `export/survey` looks, `export/figures` counts what was seen, `export/text`
//! writes it down.

mod figures;
mod survey;
mod text;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use lock_store::RedisLockStore;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::args::ExportArgs;
use crate::connection::{self, Fleet};
use crate::http::{Exposed, Listening};
use crate::log::Log;
use crate::screen::Screen;
use survey::Surveyor;
use text::About;

/// Serves until a signal asks for an end, and returns the exit code.
pub(crate) async fn run(args: ExportArgs, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    let end = ended_by_signal().context("signals cannot be listened to")?;
    // What is typed wrong is told before anything is tried.
    connection::fleet_config(&args.connection, "export")?;
    let listening = Listening::at(&args.listen, "--listen").await?;
    let held = log.hold();
    let fleet = Fleet::open(&args.connection, "export").await?;
    held.show();
    may_survey(&fleet.redis, args.timeout).await?;
    let about = About::new(&fleet.config.redis);
    let surveyor = Surveyor::new(fleet.redis, args.min_interval, args.timeout);
    screen.say(format_args!("metrics are at {}", listening.url()));
    let page = Page(Arc::new((surveyor, about)));
    listening.serve(page, end).await.context("serving failed")?;
    Ok(0)
}

/// Whether the user may do what locking does not need. Whatever else may be
/// wrong is told by the first survey.
async fn may_survey(redis: &RedisLockStore, limit: Duration) -> anyhow::Result<()> {
    let mut locks = redis.survey();
    if let Ok(Some(Err(error))) = timeout(limit, locks.next()).await {
        let refusal = error.source().map(ToString::to_string).unwrap_or_default();
        if refusal.contains("no permissions") {
            bail!(
                "Redis does not let this user look at the locks: {refusal}; docs/REDIS.md has the \
                 rights that it needs"
            );
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Page(Arc<(Surveyor, About)>);

impl Exposed for Page {
    async fn text(&self, within: Option<Duration>) -> String {
        let (surveyor, about) = &*self.0;
        text::of(&surveyor.look(within).await, about)
    }
}

/// Resolves at the first signal; a second one ends the process at once.
fn ended_by_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let asked = Arc::new(Notify::new());
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind)?;
        let asked = asked.clone();
        tokio::spawn(async move {
            let mut is_second = false;
            while signals.recv().await.is_some() {
                if is_second {
                    std::process::exit(128 + kind.as_raw_value());
                }
                is_second = true;
                asked.notify_one();
            }
        });
    }
    Ok(async move { asked.notified().await })
}
