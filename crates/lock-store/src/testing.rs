//! The conformance suite: what every [`Backend`](crate::Backend) must keep,
//! as a list of named checks over any [`LockStore`].
//!
//! For a backend of yours, in a test file:
//!
//! ```
//! use std::sync::Arc;
//! use lock_store::testing::Storage;
//! use lock_store::{InMemoryLockStore, LockStore};
//!
//! fn storage() -> Storage {
//!     // One storage, and a store of its own for everybody who asks.
//!     let backend = Arc::new(InMemoryLockStore::new());
//!     Storage::new(move |timing| {
//!         let store = LockStore::with_timing(backend.clone(), timing);
//!         Box::pin(async move { store.unwrap() })
//!     })
//! }
//!
//! // One `#[tokio::test]` for each check.
//! lock_store::conformance_tests!(storage());
//! ```
//!
//! A check fails by panicking. The checks use times of about a second, and
//! wait for what they expect, never for a time to pass; on a paused clock
//! (`conformance_tests!(storage(), paused)`) they take none.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a check fails by panicking

mod handing_over;
mod holding;
mod queueing;
mod rasa;
mod waiting;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Timing;
use crate::error::LockError;
use crate::store::LockStore;

/// The unit of time of the checks.
const SECOND: Duration = Duration::from_secs(1);

/// How long a check waits for what must happen: far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

type Made = Pin<Box<dyn Future<Output = LockStore> + Send>>;

/// A storage under test, which makes stores on itself.
#[derive(Clone)]
pub struct Storage(Arc<dyn Fn(Timing) -> Made + Send + Sync>);

impl Storage {
    /// `make` returns a new store, a client of its own, on the same storage
    /// each time.
    pub fn new(make: impl Fn(Timing) -> Made + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// A store whose times do not run out while a check lasts, however busy the
    /// machine.
    pub async fn store(&self) -> LockStore {
        self.store_with(Timing {
            lock_lifetime: 2 * PATIENCE,
            wait_timeout: Some(2 * PATIENCE),
            claim_window: PATIENCE,
            ..Timing::default()
        })
        .await
    }

    /// A store that takes others for dead after a second.
    async fn impatient_store(&self) -> LockStore {
        self.store_with(Timing {
            lock_lifetime: SECOND,
            wait_timeout: Some(PATIENCE),
            claim_window: SECOND,
            ..Timing::default()
        })
        .await
    }

    /// A store with these times.
    pub async fn store_with(&self, timing: Timing) -> LockStore {
        (self.0)(timing).await
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage")
    }
}

/// One promise, and how to see whether it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What is promised.
    pub name: &'static str,
    /// Panics if it is not kept.
    pub run: fn(Storage) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The list of checks, the only one there is.
#[doc(hidden)]
#[macro_export]
macro_rules! __with_checks {
    ($then:ident! $($arguments:tt)*) => {
        $crate::$then! {
            [$($arguments)*]
            holding::the_first_is_served_at_once
            holding::nobody_else_is_served
            holding::conversations_do_not_meet
            holding::try_lock_never_queues
            holding::tokens_only_rise
            holding::a_lease_is_extended
            holding::a_lease_runs_out
            holding::a_late_release_harms_nobody
            holding::a_lease_is_kept_alive
            holding::a_dropped_guard_releases
            holding::deleting_tells_the_holder
            holding::work_stops_when_the_lock_is_lost
            holding::a_closed_store_takes_no_locks
            queueing::tickets_are_served_in_order
            queueing::numbers_start_at_zero
            queueing::positions_count_down
            queueing::a_release_wakes_the_next
            queueing::a_dropped_wait_leaves
            queueing::a_dropped_place_leaves
            queueing::many_stores_share_fairly
            queueing::nothing_is_left_behind
            queueing::any_characters_are_an_id
            queueing::conversations_are_listed_once
            waiting::a_wait_times_out
            waiting::a_dead_holder_is_found
            waiting::a_dead_client_costs_one_claim_window
            waiting::a_client_that_waited_too_long_is_not_dead
            waiting::a_promoted_ticket_is_claimed_for_a_busy_caller
            waiting::deleting_tells_the_waiters
            waiting::repeated_steps_change_nothing_more
            handing_over::an_advance_serves_and_removes
            handing_over::an_advance_to_a_ticket_that_is_gone_changes_nothing
            handing_over::an_advance_passes_no_other_client
            handing_over::a_finish_removes_what_was_finished_before
            handing_over::a_finish_removes_no_ticket_of_a_later_queue
            handing_over::tickets_are_issued_in_the_order_of_first_polls
            handing_over::a_lock_goes_through_the_line_of_a_store
            rasa::numbers_are_as_in_rasa
            rasa::tickets_by_number_are_served_in_order
            rasa::locks_are_saved_and_deleted
            rasa::an_expired_ticket_by_number_is_dropped
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __list_checks {
    ([] $($module:ident :: $name:ident)*) => {
        &[$(Check {
            name: stringify!($name),
            run: |storage| Box::pin($module::$name(storage)),
        }),*]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __test_checks {
    ([$storage:expr] $($module:ident :: $name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::testing::run(stringify!($name), $storage).await;
            }
        )*
    };
    ([$storage:expr, paused] $($module:ident :: $name:ident)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                $crate::testing::run(stringify!($name), $storage).await;
            }
        )*
    };
}

/// Makes one `#[tokio::test]` of each check; see the
/// [module](crate::testing). With `, paused` behind the storage, on a paused
/// clock, for which tokio needs its feature `test-util`.
#[macro_export]
macro_rules! conformance_tests {
    ($storage:expr) => {
        $crate::__with_checks! { __test_checks! $storage }
    };
    ($storage:expr, paused) => {
        $crate::__with_checks! { __test_checks! $storage, paused }
    };
}

static CHECKS: &[Check] = __with_checks! { __list_checks! };

/// All checks.
pub fn checks() -> &'static [Check] {
    CHECKS
}

/// Runs one check by its name.
///
/// # Panics
///
/// When there is no such check, when the promise is not kept, and when it
/// takes minutes.
pub async fn run(name: &str, storage: Storage) {
    let check = CHECKS.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("there is no check {name:?}"));
    soon((check.run)(storage)).await;
}

/// Runs all checks, one after the other, each on a storage of its own.
///
/// # Panics
///
/// As [`run`].
pub async fn run_all(storage: impl Fn() -> Storage) {
    for check in CHECKS {
        run(check.name, storage()).await;
    }
}

/// Waits for what must happen.
async fn soon<T>(what: impl IntoFuture<Output = T>) -> T {
    let done = tokio::time::timeout(4 * PATIENCE, what.into_future()).await;
    done.expect("what must happen did not happen")
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    soon(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits in line in vain, for so long at least. Where the storage does not
/// even answer in that time, as it may on a busy machine, for longer.
async fn times_out(store: &LockStore, id: &str, at_least: Duration) -> LockError {
    let mut wait = at_least;
    loop {
        let refused = store.lock(id).wait_timeout(wait).await;
        let error = refused.expect_err("somebody else is served");
        if !error.is_unavailable() || wait > PATIENCE {
            assert!(error.is_timed_out(), "{error}");
            return error;
        }
        wait *= 4;
    }
}

/// How many tickets a conversation has.
async fn tickets(store: &LockStore, id: &str) -> usize {
    let lock = store.get_lock(id).await.expect("a lock can be read");
    lock.map_or(0, |lock| lock.tickets().len())
}
