//! Leases, claim windows, wait timeouts and looks, on a clock that the tests
//! move.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_store::{ClientId, ConversationId, Issue, Issued, LockStore, Owner, Timing, WakeUp};
use support::probe::probe;
use support::table::Table;
use support::{tickets, two_stores};
use tokio::time::{Instant, advance, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn timing() -> Timing {
    Timing {
        lock_lifetime: 60 * SECOND,
        wait_timeout: Some(Duration::MAX),
        ..Timing::default()
    }
}

/// Puts tickets of a client that is dead into the queue.
async fn dead_tickets(store: &LockStore, lifetime: Duration, count: u64) -> Vec<Issued> {
    let client = ClientId::random();
    let id = ConversationId::new("a").unwrap();
    let mut issued = Vec::new();
    for sequence in 0..count {
        let issue = Issue {
            owner: Some(Owner { client, sequence }),
            lifetime,
            wait_timeout: 3600 * SECOND,
            claim_window: 5 * SECOND,
            queue: true,
            repeated: false,
            least_token: None,
            asked: Instant::now().into_std(),
        };
        issued.push(store.backend().issue(&id, &issue).resolve().await.unwrap());
    }
    issued
}

#[tokio::test(start_paused = true)]
async fn waiting_does_not_use_up_the_lease() {
    let store = LockStore::with_timing(lock_store::InMemoryLockStore::new(), timing()).unwrap();
    let holder = store.lock("a").keep_alive(true).await.unwrap();
    let mut waiter = probe(store.lock("a").lifetime(10 * SECOND));
    waiter.assert_pending();
    sleep(500 * SECOND).await;
    holder.release().await.unwrap();
    let guard = waiter.assert_ready().unwrap();
    advance(9 * SECOND).await;
    assert!(!guard.is_lost());
    advance(SECOND).await;
    assert!(guard.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_exactly_at_its_deadline() {
    let store = LockStore::in_memory();
    let began = Instant::now();
    let guard = store.lock("a").lifetime(7 * SECOND).await.unwrap();
    assert_eq!(guard.deadline(), (began + 7 * SECOND).into_std());
    let error = guard.lost().await;
    assert!(error.is_lost());
    assert_eq!(began.elapsed(), 7 * SECOND);
    // Nobody came, so it was ours to the end.
    assert!(guard.release().await.is_err());
    assert_eq!(tickets(&store, "a").await, 0);
}

#[tokio::test(start_paused = true)]
async fn lost_follows_an_extension() {
    let store = LockStore::in_memory();
    let began = Instant::now();
    let guard = store.lock("a").lifetime(5 * SECOND).await.unwrap();
    let extend = async {
        sleep(4 * SECOND).await;
        guard.extend(5 * SECOND).await.unwrap();
    };
    let (_, ()) = tokio::join!(guard.lost(), extend);
    assert_eq!(began.elapsed(), 9 * SECOND);
    assert!(guard.extend(SECOND).await.unwrap_err().is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_costs_what_was_left_of_its_lease() {
    let (store, _other) = two_stores(&timing());
    dead_tickets(&store, 20 * SECOND, 1).await;
    let began = Instant::now();
    drop(store.lock("a").await.unwrap());
    assert_eq!(began.elapsed(), 20 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_dead_client_with_100_tickets_costs_one_claim_window() {
    let (store, other) = two_stores(&timing());
    let holder = other.lock("a").await.unwrap();
    dead_tickets(&store, 20 * SECOND, 100).await;
    let place = store.take_ticket("a").await.unwrap();
    let began = Instant::now();
    holder.release().await.unwrap();
    drop(place.wait().await.unwrap());
    assert_eq!(began.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn several_dead_clients_cost_a_claim_window_each() {
    let (store, other) = two_stores(&timing());
    let holder = other.lock("a").await.unwrap();
    for _ in 0..3 {
        dead_tickets(&store, 20 * SECOND, 10).await;
    }
    let place = store.take_ticket("a").await.unwrap();
    let began = Instant::now();
    holder.release().await.unwrap();
    drop(place.wait().await.unwrap());
    assert_eq!(began.elapsed(), 15 * SECOND);
}

/// A ticket that comes first just before its owner gives up has the whole
/// claim window: otherwise its owner, alive, would be taken for dead, and its
/// other tickets with it.
#[tokio::test(start_paused = true)]
async fn giving_up_at_the_last_moment_is_no_sign_of_death() {
    let (one, other) = two_stores(&timing());
    let holder = one.lock("a").await.unwrap();
    let mut impatient = probe(other.lock("a").wait_timeout(10 * SECOND));
    impatient.assert_pending();
    let patient = other.take_ticket("a").await.unwrap();
    advance(Duration::from_millis(9_999)).await;
    holder.release().await.unwrap();
    drop(impatient);
    let guard = timeout(SECOND, patient.wait()).await.unwrap();
    assert_eq!(guard.unwrap().ticket_number(), 2);
}

#[tokio::test(start_paused = true)]
async fn tickets_that_waited_too_long_are_dropped_without_a_window() {
    let (store, other) = two_stores(&timing());
    let holder = other.lock("a").lifetime(7200 * SECOND).await.unwrap();
    // Their owner would have given up after an hour.
    dead_tickets(&store, 20 * SECOND, 10).await;
    sleep(3601 * SECOND).await;
    let place = store.take_ticket("a").await.unwrap();
    let began = Instant::now();
    holder.release().await.unwrap();
    drop(place.wait().await.unwrap());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wait_timeout_is_exact_and_told() {
    let (store, _) = two_stores(&timing());
    let _holder = store.lock("a").await.unwrap();
    for (seconds, ahead) in [(0, 1), (3, 1), (8, 1)] {
        let began = Instant::now();
        let error = store
            .lock("a")
            .wait_timeout(seconds * SECOND)
            .await
            .unwrap_err();
        assert_eq!(began.elapsed(), seconds * SECOND);
        assert_eq!(error.waited(), Some(seconds * SECOND));
        assert_eq!(error.ahead(), Some(ahead));
        assert_eq!(tickets(&store, "a").await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_wait_is_a_lifetime() {
    let store = LockStore::in_memory();
    let _holder = store.lock("a").keep_alive(true).await.unwrap();
    let began = Instant::now();
    assert!(store.lock("a").await.unwrap_err().is_timed_out());
    assert_eq!(began.elapsed(), 60 * SECOND);
    let began = Instant::now();
    assert!(
        store
            .lock("a")
            .lifetime(5 * SECOND)
            .await
            .unwrap_err()
            .is_timed_out()
    );
    assert_eq!(began.elapsed(), 5 * SECOND);
}

/// One look per conversation and process, not one per waiter.
#[tokio::test(start_paused = true)]
async fn many_idle_waiters_hardly_look() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let _holder = store.lock("a").keep_alive(true).await.unwrap();
    let mut places = Vec::new();
    for _ in 0..200 {
        places.push(store.take_ticket("a").await.unwrap());
    }
    let claims = &table.faults().claims;
    claims.store(0, Ordering::SeqCst);
    sleep(600 * SECOND).await;
    // The renewals of the holder, and one look for each lease.
    let made = claims.load(Ordering::SeqCst);
    assert!(made <= 60, "{made} commands in 600 seconds");
    assert!(
        made >= 30,
        "{made} commands in 600 seconds keep no lease alive"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_wake_up_costs_time_and_no_more() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let other = LockStore::with_timing(table.clone(), timing()).unwrap();
    let holder = store.lock("a").await.unwrap();
    let place = other.take_ticket("a").await.unwrap();
    table.faults().lost_wake_ups.store(1, Ordering::SeqCst);
    let began = Instant::now();
    holder.release().await.unwrap();
    // It was promoted, its wake-up was lost, and its claim window passed. No
    // other client is behind it that was told to check; so it finds out when the
    // old lease would have ended.
    let error = place.wait().await.unwrap_err();
    assert!(error.is_gone());
    assert!(began.elapsed() <= 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn after_a_reconnect_everybody_looks() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let holder = store.lock("a").await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    table.faults().lost_wake_ups.store(1, Ordering::SeqCst);
    holder.release().await.unwrap();
    table.announce(&WakeUp::Resumed);
    let began = Instant::now();
    drop(place.wait().await.unwrap());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn without_wake_ups_waiters_look_every_wait_time() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let holder = store.lock("a").await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    table.announce(&WakeUp::Suspended);
    table.faults().lost_wake_ups.store(1_000, Ordering::SeqCst);
    sleep(10 * SECOND).await;
    let began = Instant::now();
    holder.release().await.unwrap();
    drop(place.wait().await.unwrap());
    assert!(began.elapsed() <= SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_is_made_again() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let holder = store.lock("a").await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    table.faults().failed_claims.store(2, Ordering::SeqCst);
    let began = Instant::now();
    holder.release().await.unwrap();
    drop(place.wait().await.unwrap());
    assert!(began.elapsed() <= 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_made_again() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let guard = store.lock("a").keep_alive(true).await.unwrap();
    table.faults().failed_claims.store(10, Ordering::SeqCst);
    sleep(600 * SECOND).await;
    assert!(!guard.is_lost());
    guard.release().await.unwrap();

    // Down for longer than the lease: lost, at its deadline.
    let guard = store.lock("a").keep_alive(true).await.unwrap();
    table
        .faults()
        .failed_claims
        .store(1_000_000, Ordering::SeqCst);
    let began = Instant::now();
    guard.lost().await;
    assert_eq!(began.elapsed(), 60 * SECOND);
}

/// What cannot get better by waiting ends the wait, and the ticket leaves.
#[tokio::test(start_paused = true)]
async fn a_claim_that_finds_damage_ends_the_wait() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let other = LockStore::with_timing(table.clone(), timing()).unwrap();
    let holder = store.lock("a").await.unwrap();
    let place = other.take_ticket("a").await.unwrap();
    table.faults().damaged_claims.store(1, Ordering::SeqCst);
    holder.release().await.unwrap();
    let error = place.wait().await.unwrap_err();
    assert_eq!(error.kind(), lock_store::LockErrorKind::Corrupt);
    assert_eq!(error.conversation_id().unwrap().as_str(), "a");
    other.close().await.unwrap();
    assert!(table.is_empty());
}

/// A holder is told that it lost its lock when its lease is over, whatever
/// the storage says before.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_finds_damage_is_no_loss_yet() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let guard = store.lock("a").keep_alive(true).await.unwrap();
    table.faults().damaged_claims.store(2, Ordering::SeqCst);
    sleep(600 * SECOND).await;
    assert!(!guard.is_lost());
    table
        .faults()
        .damaged_claims
        .store(1_000_000, Ordering::SeqCst);
    assert!(guard.lost().await.is_lost());
}

/// Renewals of many guards leave together.
#[tokio::test(start_paused = true)]
async fn renewals_are_made_in_batches() {
    let table = Table::default();
    let store = LockStore::with_timing(table.clone(), timing()).unwrap();
    let mut guards = Vec::new();
    for i in 0..100 {
        guards.push(store.lock(format!("{i}")).keep_alive(true).await.unwrap());
        sleep(Duration::from_millis(37)).await;
    }
    let claims = &table.faults().claims;
    let mut moments = 0;
    let mut before = claims.load(Ordering::SeqCst);
    for _ in 0..200 {
        sleep(SECOND / 10).await;
        let now = claims.load(Ordering::SeqCst);
        moments += usize::from(now > before);
        before = now;
    }
    assert!(before >= 100, "{before} renewals");
    assert!(moments <= 4, "renewals at {moments} different moments");
    assert!(guards.iter().all(|guard| !guard.is_lost()));
}

#[tokio::test(start_paused = true)]
async fn an_extension_sets_how_far_later_ones_go() {
    let store = LockStore::in_memory();
    let guard = store
        .lock("a")
        .lifetime(6 * SECOND)
        .keep_alive(true)
        .await
        .unwrap();
    guard.extend(600 * SECOND).await.unwrap();
    sleep(1_000 * SECOND).await;
    assert!(!guard.is_lost());
    let left = guard.deadline() - Instant::now().into_std();
    assert!(left > 300 * SECOND, "{left:?} are left");
}

#[tokio::test(start_paused = true)]
async fn times_out_of_range_are_refused() {
    let store = LockStore::in_memory();
    for wrong in [Duration::ZERO, Duration::MAX] {
        let error = store.lock("a").lifetime(wrong).await.unwrap_err();
        assert_eq!(error.kind(), lock_store::LockErrorKind::Config);
    }
    let guard = store.lock("a").lifetime(SECOND / 1000).await.unwrap();
    assert!(guard.extend(Duration::ZERO).await.is_err());
    let wrong = Timing {
        claim_window: Duration::ZERO,
        ..Timing::default()
    };
    let error = LockStore::with_timing(lock_store::InMemoryLockStore::new(), wrong).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("claim_window is 0; it must be a number of seconds from 0.01")
    );
}

/// The storage drops the ticket of an owner that is too busy to notice that it
/// has waited too long.
#[tokio::test]
async fn who_waited_too_long_is_told_so_also_by_the_storage() {
    let store = LockStore::in_memory();
    let holder = store.lock("a").await.unwrap();
    let place = store
        .take_ticket("a")
        .wait_timeout(Duration::from_millis(20))
        .await
        .unwrap();
    // No timer rings while this thread does not let others run.
    let until = std::time::Instant::now() + Duration::from_millis(30);
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
    drop(holder);
    let error = place.wait().await.unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    assert_eq!(store.get_lock("a").await.unwrap(), None);
}
