//! Redis refuses all writes because it could not save its data (`MISCONF`).
//! That passes: the steps are tried again, and are done as soon as Redis saves
//! again.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lock_store::{LockStore, RedisConfig, Timing};
use redis_fixture::Server;
use tokio::time::timeout;

use support::redis::{aside, at, holds_soon, nothing_left_at, store};

const MINUTE: Duration = Duration::from_secs(60);

/// Long enough for a busy machine, and far below every limit of these tests.
const SOON: Duration = Duration::from_secs(20);

/// A server that is to save its data, and a client of it.
async fn setup() -> (Server, LockStore) {
    let server = aside(|| Server::builder().config("save", "3600 1").start());
    let timing = Timing {
        lock_lifetime: 5 * MINUTE,
        claim_window: MINUTE,
        ..Timing::default()
    };
    let redis = RedisConfig {
        socket_timeout: MINUTE,
        ..at(&server.url())
    };
    let store = store(&redis, timing).await;
    (server, store)
}

/// Where the server puts its data.
fn data(server: &Server) -> PathBuf {
    let url = server.unix_url();
    let socket = Path::new(url.strip_prefix("unix://").unwrap());
    socket.with_file_name("dump.rdb")
}

/// A folder stands where the file should be.
fn refuse_writes(server: &Server) {
    aside(|| {
        let _ = std::fs::remove_file(data(server));
        std::fs::create_dir(data(server)).unwrap();
        server.command(&["BGSAVE"]);
    });
    aside(|| {
        redis_fixture::until("writes are refused", || {
            server.command(&["DEL", "probe"]).is_error("MISCONF")
        });
        server.command(&["CONFIG", "RESETSTAT"]).ok();
    });
}

fn allow_writes(server: &Server) {
    aside(|| {
        std::fs::remove_dir(data(server)).unwrap();
        redis_fixture::until("the data are saved", || {
            let is_saved = server.info("rdb_last_bgsave_status").as_deref() == Some("ok");
            if !is_saved {
                // It may be saving already.
                let _ = server.command(&["BGSAVE"]);
            }
            is_saved
        });
    });
}

/// Waits until the server has refused a step. It refuses `PING`, too.
async fn is_refused(server: &Server) {
    holds_soon("the step is refused", || {
        let stats = server.command(&["INFO", "commandstats"]).text();
        let mut steps = stats
            .lines()
            .filter(|line| line.starts_with("cmdstat_") && !line.starts_with("cmdstat_ping:"));
        steps.any(|line| !line.trim_end().ends_with("rejected_calls=0,failed_calls=0"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_requested_meanwhile_is_served_afterwards() {
    let (server, store) = setup().await;
    refuse_writes(&server);
    let requested = tokio::spawn({
        let store = store.clone();
        async move { store.lock("a").wait_timeout(5 * MINUTE).await }
    });
    is_refused(&server).await;
    allow_writes(&server);
    let guard = timeout(SOON, requested).await.unwrap().unwrap();
    guard.unwrap().release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_released_meanwhile_is_given_back_afterwards() {
    let (server, store) = setup().await;
    let guard = store.lock("a").await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    refuse_writes(&server);
    let released = tokio::spawn(guard.release());
    is_refused(&server).await;
    allow_writes(&server);
    timeout(SOON, released).await.unwrap().unwrap().unwrap();
    let guard = timeout(SOON, place.wait()).await.unwrap();
    guard.unwrap().release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_extended_meanwhile_is_extended_afterwards() {
    let (server, store) = setup().await;
    let guard = store.lock("a").await.unwrap();
    refuse_writes(&server);
    let extended = guard.extend(10 * MINUTE);
    let allowed = async {
        is_refused(&server).await;
        allow_writes(&server);
    };
    let both = async { tokio::join!(extended, allowed).0 };
    timeout(4 * SOON, both).await.unwrap().unwrap();
    guard.release().await.unwrap();
    nothing_left_at(&server).await;
}
