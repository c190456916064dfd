//! The metrics of a store, by the names that dashboards and alerts use.

#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use support::scenario::{everything, on_a_paused_clock};

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
    assert!(counted("lock_store_wakeups_total{by=push}") >= 1);
    // A dead client is found by the next one, which was told when to check.
    assert!(counted("lock_store_wakeups_total{by=timer}") >= 1);
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

/// Whoever looks at the metrics learns what they mean, and none is missing.
#[test]
fn every_metric_is_described_and_every_counter_begins_at_zero() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        lock_store::describe_metrics();
        let begun = snapshotter.snapshot().into_vec();
        assert!(begun.len() >= 14);
        for (key, _, _, value) in begun {
            assert!(
                matches!(value, DebugValue::Counter(0)) || value == DebugValue::Gauge(0.0.into()),
                "{key:?}"
            );
        }
        on_a_paused_clock(everything());
    });
    for (key, _, description, _) in snapshotter.snapshot().into_vec() {
        assert!(description.is_some(), "{key:?}");
    }
}
