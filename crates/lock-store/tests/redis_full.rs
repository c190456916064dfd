//! The memory of Redis is full (`maxmemory` is reached and `noeviction` is
//! set). Only new tickets are refused: held locks are extended and released,
//! and the tickets in line are served.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{Layout, LockError, LockErrorKind, LockStore, RedisConfig, Timing};
use redis_fixture::Server;
use tokio::time::timeout;

use support::redis::{aside, at, nothing_left_at, store};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A call to a server that answers takes milliseconds; this is for a busy
/// machine.
const SOON: Duration = Duration::from_secs(15);

/// What Redis says when it refuses a write.
const SAID: &str = "command not allowed when used memory > 'maxmemory'";

const LAYOUTS: [Layout; 2] = [Layout::Native, Layout::Rasa];

struct Setup {
    server: Server,
    one: LockStore,
    other: LockStore,
}

/// Two clients of a server, in this layout.
async fn setup(layout: Layout) -> Setup {
    let server = aside(Server::start);
    let redis = RedisConfig {
        layout,
        ..at(&server.url())
    };
    let timing = Timing {
        lock_lifetime: 5 * MINUTE,
        claim_window: 20 * SECOND,
        ..Timing::default()
    };
    Setup {
        one: store(&redis, timing.clone()).await,
        other: store(&redis, timing).await,
        server,
    }
}

impl Setup {
    fn fill(&self) {
        self.limit_memory("1");
        let reply = aside(|| self.server.command(&["SET", "probe", "1"]));
        assert!(reply.is_error("OOM"), "the server is not full: {reply:?}");
    }

    fn make_room(&self) {
        self.limit_memory("0");
    }

    fn limit_memory(&self, limit: &str) {
        let command = ["CONFIG", "SET", "maxmemory", limit];
        aside(|| self.server.command(&command).ok());
    }

    async fn ends(self) {
        nothing_left_at(&self.server).await;
    }
}

/// A new ticket was refused at once, and the error says why.
#[track_caller]
fn is_refusal<T>(layout: Layout, outcome: Result<T, LockError>, since: Instant) {
    let Err(error) = outcome else {
        panic!("{layout:?}: a ticket was issued");
    };
    assert_eq!(
        error.kind(),
        LockErrorKind::Unavailable,
        "{layout:?}: {error}"
    );
    assert!(error.to_string().contains(SAID), "{layout:?}: {error}");
    assert!(
        since.elapsed() < SOON,
        "{layout:?}: after {:?}",
        since.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_can_be_extended() {
    for layout in LAYOUTS {
        let setup = setup(layout).await;
        let guard = setup.one.lock("a").await.unwrap();
        setup.fill();
        let before = guard.deadline();
        let extended = guard.extend(10 * MINUTE).await;
        assert!(extended.is_ok(), "{layout:?}: {extended:?}");
        assert!(guard.deadline() > before + 4 * MINUTE);
        // The server knows of it, too.
        let lock = setup.other.get_lock("a").await.unwrap().unwrap();
        let ticket = lock.tickets().next().unwrap();
        assert_eq!(ticket.lifetime, 10 * MINUTE, "{layout:?}");
        guard.release().await.unwrap();
        setup.ends().await;
    }
}

/// The same with a ticket behind it: then the queue outlives the lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_that_others_wait_for_can_be_extended() {
    for layout in LAYOUTS {
        let setup = setup(layout).await;
        let guard = setup.one.lock("a").await.unwrap();
        let place = setup.other.take_ticket("a").await.unwrap();
        setup.fill();
        for _ in 0..3 {
            let extended = guard.extend(10 * MINUTE).await;
            assert!(extended.is_ok(), "{layout:?}: {extended:?}");
        }
        guard.release().await.unwrap();
        let guard = timeout(SOON, place.wait()).await.unwrap();
        guard.unwrap().release().await.unwrap();
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_kept_alive() {
    let lifetime = 5 * SECOND;
    for layout in LAYOUTS {
        let setup = setup(layout).await;
        let request = setup.one.lock("a").lifetime(lifetime).keep_alive(true);
        let guard = request.await.unwrap();
        setup.fill();
        let lost = timeout(2 * lifetime, guard.lost()).await;
        assert!(lost.is_err(), "{layout:?}: {}", lost.unwrap());
        let released = guard.release().await;
        assert!(released.is_ok(), "{layout:?}: {released:?}");
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_queue_is_served_to_its_end() {
    for layout in LAYOUTS {
        let setup = setup(layout).await;
        let mut guard = setup.one.lock("a").await.unwrap();
        let mut places = Vec::new();
        for store in [&setup.one, &setup.other, &setup.other, &setup.one] {
            places.push(store.take_ticket("a").await.unwrap());
        }
        setup.fill();
        for place in places {
            let (number, token) = (guard.ticket_number(), guard.fencing_token());
            guard.release().await.unwrap();
            let turn = timeout(SOON, place.wait()).await;
            let turn = turn.unwrap_or_else(|_| panic!("{layout:?}: no turn after {number}"));
            guard = turn.unwrap_or_else(|error| panic!("{layout:?}: {error}"));
            assert_eq!(guard.ticket_number(), number + 1, "{layout:?}");
            assert!(guard.fencing_token() > token);
            guard.extend(MINUTE).await.unwrap();
        }
        guard.release().await.unwrap();
        setup.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ticket_is_refused_until_there_is_room() {
    for layout in LAYOUTS {
        let setup = setup(layout).await;
        let held = setup.one.lock("held").await.unwrap();
        setup.fill();
        let begun = Instant::now();
        is_refusal(layout, setup.one.lock("free").await, begun);
        let begun = Instant::now();
        is_refusal(layout, setup.one.try_lock("free").await, begun);
        // In line as well.
        let begun = Instant::now();
        is_refusal(layout, setup.other.take_ticket("held").await, begun);
        // The store goes on by itself.
        setup.make_room();
        for store in [&setup.one, &setup.other] {
            let guard = timeout(SOON, store.lock("free").into_future()).await;
            guard.unwrap().unwrap().release().await.unwrap();
        }
        held.release().await.unwrap();
        setup.ends().await;
    }
}

/// With a full server or without.
#[tokio::test(flavor = "multi_thread")]
async fn try_lock_on_a_taken_lock_says_so_and_writes_nothing() {
    for layout in LAYOUTS {
        for is_full in [false, true] {
            let setup = setup(layout).await;
            let held = setup.one.lock("a").await.unwrap();
            if is_full {
                setup.fill();
            }
            aside(|| setup.server.command(&["CONFIG", "RESETSTAT"]).ok());
            for store in [&setup.one, &setup.other] {
                let outcome = store.try_lock("a").await;
                assert!(matches!(outcome, Ok(None)), "{layout:?}: {outcome:?}");
            }
            let written = writes(&setup.server);
            assert!(written.is_empty(), "{layout:?}, {is_full}: {written:?}");
            held.release().await.unwrap();
            setup.ends().await;
        }
    }
}

/// The commands that change a key, of those that the server has carried out or
/// refused since its statistics were reset.
fn writes(server: &Server) -> Vec<String> {
    const WRITES: [&str; 12] = [
        "del", "linsert", "lpop", "lpush", "lrem", "lset", "ltrim", "pexpire", "rpop", "rpush",
        "set", "unlink",
    ];
    let stats = aside(|| server.command(&["INFO", "commandstats"]).text());
    let names = stats.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        Some(name.to_owned())
    });
    let names: Vec<_> = names.collect();
    assert!(
        names.iter().any(|name| name.starts_with("eval")),
        "no step was seen: {names:?}"
    );
    let is_write = |name: &String| WRITES.contains(&name.as_str());
    names.into_iter().filter(is_write).collect()
}
