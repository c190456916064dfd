//! What the store reports: events and metrics, by the names that dashboards
//! and alerts use.

#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lock_store::{ClientId, ConversationId, Issue, LockStore, Owner, Timing};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use support::two_stores;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn on_a_paused_clock(scenario: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(scenario);
}

/// Everything that is reported, once at least.
async fn everything() {
    let timing = Timing {
        wait_timeout: Some(60 * SECOND),
        ..Timing::default()
    };
    let (one, other) = two_stores(&timing);
    // Uncontended, contended, released.
    let first = one.lock("a").await.unwrap();
    let second = other.take_ticket("a").await.unwrap();
    sleep(2 * SECOND).await;
    first.release().await.unwrap();
    second.wait().await.unwrap().release().await.unwrap();
    // Timed out.
    let held = one.lock("a").await.unwrap();
    one.lock("a").wait_timeout(SECOND).await.unwrap_err();
    // Lost.
    held.lost().await;
    drop(held);
    // A dead client.
    let ghost = ClientId::from_u64(7);
    let id = ConversationId::new("b").unwrap();
    let holder = one.lock("b").await.unwrap();
    for sequence in 0..3 {
        let issue = Issue {
            owner: Some(Owner {
                client: ghost,
                sequence,
            }),
            lifetime: 60 * SECOND,
            wait_timeout: 60 * SECOND,
            claim_window: 5 * SECOND,
            queue: true,
            repeated: false,
            asked: Instant::now().into_std(),
        };
        one.backend().issue(&id, &issue).resolve().await.unwrap();
    }
    let place = one.take_ticket("b").await.unwrap();
    holder.release().await.unwrap();
    drop(place.wait().await.unwrap());
    // Deleted, and so gone.
    let holder = one.lock("c").await.unwrap();
    let place = other.take_ticket("c").await.unwrap();
    one.delete_lock("c").await.unwrap();
    place.wait().await.unwrap_err();
    drop(holder);
}

#[test]
fn metrics_have_the_documented_names_and_labels() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || on_a_paused_clock(everything()));
    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> = key
            .labels()
            .map(|l| format!("{}={}", l.key(), l.value()))
            .collect();
        seen.insert(format!("{}{{{}}}", key.name(), labels.join(",")), value);
    }
    let counted = |name: &str| match seen.get(name) {
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{name} is {other:?}; there are {:#?}", seen.keys()),
    };
    assert_eq!(counted("lock_store_acquired_total{contended=false}"), 4);
    assert_eq!(counted("lock_store_acquired_total{contended=true}"), 2);
    assert_eq!(counted("lock_store_failed_total{reason=timed_out}"), 1);
    assert_eq!(counted("lock_store_failed_total{reason=gone}"), 1);
    assert_eq!(counted("lock_store_lost_total{}"), 2);
    assert_eq!(counted("lock_store_expired_total{}"), 3);
    assert!(counted("lock_store_wakeups_total{by=push}") >= 2);
    for gauge in ["lock_store_waiting{}", "lock_store_held{}"] {
        assert!(
            matches!(seen.get(gauge), Some(DebugValue::Gauge(left)) if left.0 == 0.0),
            "{gauge}"
        );
    }
    let samples = |name: &str| match seen.get(name) {
        Some(DebugValue::Histogram(samples)) => samples.iter().map(|s| s.0).collect::<Vec<_>>(),
        other => panic!("{name} is {other:?}; there are {:#?}", seen.keys()),
    };
    let waited = samples("lock_store_acquire_duration_seconds{contended=true}");
    assert_eq!(waited, [2.0, 5.0]);
    assert_eq!(
        samples("lock_store_acquire_duration_seconds{contended=false}"),
        [0.0; 4]
    );
    let held = samples("lock_store_hold_duration_seconds{}");
    assert_eq!(held.len(), 6);
    assert!(held.contains(&60.0));
    for operation in ["issue", "claim", "finish", "delete"] {
        let name = format!("lock_store_operation_duration_seconds{{operation={operation}}}");
        assert!(!samples(&name).is_empty());
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn events_tell_the_story() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || on_a_paused_clock(everything()));
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "DEBUG lock_store: issued ticket conversation=a ticket=0",
        "DEBUG lock_store: acquired lock conversation=a ticket=0 contended=false",
        "DEBUG lock_store: waiting conversation=a ticket=1 ahead=1",
        "DEBUG lock_store: acquired lock conversation=a ticket=1 contended=true",
        "DEBUG lock_store: released lock conversation=a ticket=1",
        "DEBUG lock_store: deleted lock conversation=a",
        "DEBUG lock_store: did not acquire lock error=timed out waiting for the lock of conversation \"a\" after 1.000 s, with 1 ahead",
        "WARN lock_store: lost lock error=lost the lock of conversation \"a\"",
        "WARN lock_store: dropped the tickets of a dead client conversation=b client=0000000000000007 tickets=2",
        "DEBUG lock_store: did not acquire lock error=the ticket is gone",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert!(
        text.lines().all(|line| line.contains(" lock_store: ")),
        "{text}"
    );
}

#[test]
fn a_store_says_who_it_is() {
    let store = LockStore::in_memory();
    let text = format!("{store:?}");
    assert!(text.contains(&store.client_id().to_string()), "{text}");
    assert!(
        text.contains("InMemoryLockStore { conversations: 0"),
        "{text}"
    );
}
