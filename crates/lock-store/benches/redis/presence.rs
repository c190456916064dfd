//! What locks cost by being there: memory while they are held, commands while
//! somebody waits.

use std::time::Duration;

use futures_util::future::join_all;
use lock_store::LockStore;
use tokio::task::JoinSet;

use crate::contender::Contender;
use crate::figures::Figures;
use crate::rasa::{self, Rasa};
use crate::server::Watched;

pub(crate) const MEMORY: &str = "memory";
pub(crate) const MEMORY_OF_KEY: &str = "memory of a key";

/// So many are asked for at once.
const AT_ONCE: usize = 100;

/// The server makes its tables smaller in the background.
const SETTLED: Duration = Duration::from_millis(500);

/// A round of so many locks that are held at once: bytes of the server for
/// each.
#[allow(clippy::cast_precision_loss)]
pub(crate) async fn held<C: Contender>(
    contender: &C,
    server: &Watched,
    locks: usize,
    figures: &mut Figures,
) {
    tokio::time::sleep(SETTLED).await;
    let before = server.used_memory();
    let mut held = Vec::with_capacity(locks);
    for first in (0..locks).step_by(AT_ONCE) {
        let locking = (first..locks.min(first + AT_ONCE)).map(|lock| {
            let mut contender = contender.clone();
            async move { contender.lock(&format!("held-{lock:08}")).await }
        });
        held.extend(join_all(locking).await);
    }
    let used = server.used_memory() - before;
    figures.add(MEMORY, C::NAME, used / locks as f64);
    if let Some(bytes) = of_a_key(server) {
        figures.add(MEMORY_OF_KEY, C::NAME, bytes);
    }
    while !held.is_empty() {
        let releasing = held.drain(..held.len().min(AT_ONCE)).map(|held| {
            let mut contender = contender.clone();
            async move { contender.release(held).await }
        });
        join_all(releasing).await;
    }
}

/// The same of Rasa.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn held_by_rasa(rasa: &Rasa, server: &Watched, locks: usize, figures: &mut Figures) {
    std::thread::sleep(SETTLED);
    let before = server.used_memory();
    rasa.hold(locks);
    let used = server.used_memory() - before;
    figures.add(MEMORY, rasa::NAME, used / locks as f64);
    if let Some(bytes) = of_a_key(server) {
        figures.add(MEMORY_OF_KEY, rasa::NAME, bytes);
    }
    rasa.let_go();
}

/// What the server says of one of the keys.
fn of_a_key(server: &Watched) -> Option<f64> {
    let key = server
        .keys()
        .into_iter()
        .find(|key| key.contains("held-"))?;
    for db in ["1", "0"] {
        server.command(&["SELECT", db]).ok();
        if let redis_fixture::Reply::Integer(bytes) = server.command(&["MEMORY", "USAGE", &key]) {
            server.command(&["SELECT", "0"]).ok();
            #[allow(clippy::cast_precision_loss)]
            return Some(bytes as f64);
        }
    }
    None
}

/// Commands per second of waiters that only wait, so many for each of so many
/// held conversations.
pub(crate) async fn idle(
    url: &str,
    server: &Watched,
    conversations: usize,
    waiters: usize,
    time: Duration,
) -> f64 {
    // With times as they are by default.
    let config = lock_store::RedisConfig::from_url(url);
    let redis = lock_store::RedisLockStore::connect(&config).await.unwrap();
    let store = LockStore::new(redis);
    let mut guards = Vec::with_capacity(conversations);
    let mut waiting = JoinSet::new();
    for conversation in 0..conversations {
        let key = format!("idle-{conversation}");
        guards.push(store.lock(&key).await.unwrap());
        for _ in 0..waiters {
            let place = store.take_ticket(&key).await.unwrap();
            waiting.spawn(async move {
                drop(place.wait().await.unwrap());
            });
        }
    }
    // What goes with subscribing is over then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = server.commands();
    tokio::time::sleep(time).await;
    // The first look counts as a command, too.
    let commands = server.commands() - before - 1.0;
    waiting.shutdown().await;
    for guard in guards {
        guard.release().await.unwrap();
    }
    store.close().await.unwrap();
    commands / time.as_secs_f64()
}
