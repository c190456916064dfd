//! What the tests on a slow storage have in common.

use std::time::Duration;

use lock_store::{
    Backend, Claim, ClientId, ConversationId, Issue, LockGuard, LockStore, Owner, Timing,
};

use super::slow::Slow;
use super::tickets;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MS: Duration = Duration::from_millis(1);
pub fn id() -> ConversationId {
    ConversationId::new("a").unwrap()
}

pub fn slow_store() -> (Slow, LockStore) {
    let slow = Slow::default();
    let store = store_on(&slow);
    (slow, store)
}

pub fn store_on(slow: &Slow) -> LockStore {
    LockStore::with_timing(slow.clone(), Timing::default()).unwrap()
}

/// Lets everything run that can run.
pub async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

/// A ticket of somebody who is not seen again, unless the test plays them.
pub async fn stranger(slow: &Slow, lifetime: Duration) -> Owner {
    let owner = Owner {
        client: ClientId::random(),
        sequence: 1,
    };
    let issue = Issue {
        owner: Some(owner),
        lifetime,
        wait_timeout: 3600 * SECOND,
        claim_window: 5 * SECOND,
        queue: true,
        repeated: false,
        least_token: None,
        asked: Instant::now().into_std(),
    };
    slow.memory().issue(&id(), &issue).resolve().await.unwrap();
    owner
}

pub async fn extend_of(slow: &Slow, owner: Owner, lifetime: Duration) {
    let claim = Claim {
        number: None,
        ..Claim::new(owner, lifetime, 5 * SECOND)
    };
    slow.memory().claim(&id(), &claim).resolve().await.unwrap();
}

/// Whoever else gets the lock gets it from somebody who knows that it is lost.
/// Returns when that was.
pub async fn taken_over(slow: &Slow, guard: &LockGuard, within: Duration) -> Option<Duration> {
    let other = store_on(slow);
    let began = Instant::now();
    while began.elapsed() < within {
        if let Some(second) = other.try_lock("a").await.unwrap() {
            assert!(guard.is_lost(), "two hold the lock");
            second.release().await.unwrap();
            return Some(began.elapsed());
        }
        sleep(10 * MS).await;
    }
    None
}

/// Nobody has a ticket any more, and nothing is left to be done.
pub async fn assert_all_given_back(store: &LockStore, left: usize) {
    timeout(SECOND, store.close()).await.unwrap().unwrap();
    assert_eq!(tickets(store, "a").await, left);
}

pub fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap()
}
