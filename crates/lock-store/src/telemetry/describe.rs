//! What the metrics mean, for recorders that pass it on.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::error::LockErrorKind;

/// Tells the current recorder of the `metrics` facade what the metrics of a
/// store mean, and begins the counters at zero, so that a rate over the first
/// event is seen. Call it once, after the recorder was installed and before a
/// store is made.
///
/// `lock_store_connected` is left out: there is none for a store in memory.
///
/// ```
/// // After the installation of a recorder:
/// lock_store::describe_metrics();
/// ```
pub fn describe_metrics() {
    describe_histogram!(
        "lock_store_acquire_duration_seconds",
        Unit::Seconds,
        "From asking for a lock to holding it"
    );
    describe_histogram!(
        "lock_store_hold_duration_seconds",
        Unit::Seconds,
        "From holding a lock to giving it back"
    );
    describe_histogram!(
        "lock_store_operation_duration_seconds",
        Unit::Seconds,
        "One call into the storage, such as a round trip to Redis"
    );
    describe_counter!("lock_store_acquired_total", "Locks that were acquired");
    describe_counter!(
        "lock_store_failed_total",
        "Locks that were asked for and not acquired"
    );
    describe_counter!(
        "lock_store_lost_total",
        "Locks that were lost while they were held"
    );
    describe_counter!(
        "lock_store_expired_total",
        "Tickets that this process found dead and dropped"
    );
    describe_counter!(
        "lock_store_max_hold_total",
        "Locks whose lease was extended no more, as max_hold was reached"
    );
    describe_counter!(
        "lock_store_wakeups_total",
        "Checks of waiters, by what made them check"
    );
    describe_counter!(
        "lock_store_reconnects_total",
        "Connections to Redis that were opened again"
    );
    describe_gauge!("lock_store_waiting", "Tickets that wait for their turn");
    describe_gauge!("lock_store_held", "Locks that are held");
    describe_gauge!("lock_store_connected", "Connections to Redis");
    describe_gauge!(
        "lock_store_degraded",
        "1 while the locks are in memory because Redis was not reached at the start"
    );
    begin_at_zero();
}

fn begin_at_zero() {
    for contended in ["false", "true"] {
        counter!("lock_store_acquired_total", "contended" => contended).increment(0);
    }
    for reason in [
        LockErrorKind::TimedOut,
        LockErrorKind::Gone,
        LockErrorKind::Unavailable,
        LockErrorKind::Lost,
        LockErrorKind::NotReplicated,
        LockErrorKind::Corrupt,
    ] {
        counter!("lock_store_failed_total", "reason" => reason.as_str()).increment(0);
    }
    for by in ["push", "timer", "reconnect"] {
        counter!("lock_store_wakeups_total", "by" => by).increment(0);
    }
    counter!("lock_store_lost_total").increment(0);
    counter!("lock_store_expired_total").increment(0);
    counter!("lock_store_reconnects_total").increment(0);
    gauge!("lock_store_waiting").increment(0.0);
    gauge!("lock_store_held").increment(0.0);
    gauge!("lock_store_degraded").increment(0.0);
}
