//! A storage that takes its time to issue tickets: replies that come after the
//! limit, wake-ups that come before the ticket.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use lock_store::WakeUp;
use support::probe::probe;
use support::slow::Gate;
use support::slow_story::*;
use support::tickets;
use tokio::time::sleep;

// The reply to the request for a ticket, and the wait timeout.

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_ends_at_its_limit() {
    for hold in [Gate::hold_requests, Gate::hold_replies] {
        for others in 0..2 {
            let (slow, store) = slow_store();
            for _ in 0..others {
                stranger(&slow, 60 * SECOND).await;
            }
            hold(slow.issues());
            let mut acquiring = probe(store.lock("a").wait_timeout(SECOND));
            acquiring.assert_pending();
            sleep(999 * MS).await;
            acquiring.assert_pending();
            sleep(MS).await;
            settle().await;
            assert!(acquiring.is_woken());
            let error = acquiring.assert_ready().unwrap_err();
            assert!(error.is_unavailable());
            assert_eq!(error.conversation_id(), Some(&id()));
            assert_all_given_back(&store, others).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_after_the_limit_gives_no_guard() {
    for others in 0..2 {
        let (slow, store) = slow_store();
        for _ in 0..others {
            stranger(&slow, 60 * SECOND).await;
        }
        slow.issues().hold_replies();
        let mut acquiring = probe(store.lock("a").wait_timeout(SECOND));
        acquiring.assert_pending();
        // Its executor is blocked: the reply is there when it is polled next.
        sleep(2 * SECOND).await;
        slow.issues().let_go();
        assert!(acquiring.assert_ready().unwrap_err().is_unavailable());
        assert_all_given_back(&store, others).await;
    }
}

/// A request that was given up is not carried out any more, and its ticket is
/// given back in case that it was.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_up_leaves_no_ticket() {
    let (slow, store) = slow_store();
    slow.issues().hold_requests();
    let mut acquiring = probe(store.lock("a").wait_timeout(SECOND));
    acquiring.assert_pending();
    sleep(2 * SECOND).await;
    assert!(acquiring.is_woken());
    assert!(acquiring.assert_ready().unwrap_err().is_unavailable());
    settle().await;
    assert_eq!(slow.issues().held(), 0);
    assert_eq!(slow.finishes().begun(), 1);
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn work_is_not_begun_after_the_limit() {
    let (slow, store) = slow_store();
    slow.issues().hold_replies();
    let request = store.lock("a").wait_timeout(SECOND);
    let mut running = probe(request.run(async |_| panic!("without a lock")));
    running.assert_pending();
    sleep(2 * SECOND).await;
    slow.issues().let_go();
    assert!(running.assert_ready().unwrap_err().is_unavailable());
}

/// The limit is far, but the lease began when the ticket was issued.
#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_after_the_lease_gives_no_guard() {
    let (slow, store) = slow_store();
    slow.issues().hold_replies();
    let request = store.lock("a").lifetime(SECOND).wait_timeout(60 * SECOND);
    let mut acquiring = probe(request);
    acquiring.assert_pending();
    sleep(2 * SECOND).await;
    slow.issues().let_go();
    assert!(acquiring.assert_ready().unwrap_err().is_lost());
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_wait_waits_for_the_answer() {
    let (slow, store) = slow_store();
    slow.issues().hold_replies();
    let mut acquiring = probe(store.lock("a").wait_timeout(Duration::ZERO));
    acquiring.assert_pending();
    sleep(5 * MS).await;
    acquiring.assert_pending();
    slow.issues().let_go();
    let guard = acquiring.assert_ready().unwrap();
    sleep(59 * SECOND).await;
    assert!(!guard.is_lost());

    let mut second = probe(store.lock("a").wait_timeout(Duration::ZERO));
    second.assert_pending();
    sleep(5 * MS).await;
    second.assert_pending();
    slow.issues().let_go();
    second.assert_pending();
    settle().await;
    let error = second.assert_ready().unwrap_err();
    assert!(error.is_timed_out());
    assert_eq!(error.ahead(), Some(1));
    settle().await;
    assert_eq!(tickets(&store, "a").await, 1);
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

// Wake-ups and timers while a ticket is only asked for.

#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_only_asked_for_is_not_looked_at() {
    for taken in [false, true] {
        let (slow, store) = slow_store();
        let mut holder = None;
        if taken {
            holder = Some(store.lock("a").await.unwrap());
        }
        slow.issues().hold_requests();
        let mut acquiring = probe(store.lock("a").wait_timeout(Duration::MAX));
        acquiring.assert_pending();
        slow.announce(&WakeUp::Suspended);
        sleep(10 * SECOND).await;
        slow.announce(&WakeUp::Resumed);
        settle().await;
        acquiring.assert_pending();
        assert_eq!(slow.claims().begun(), 0);
        slow.issues().let_go();
        if let Some(holder) = holder {
            acquiring.assert_pending();
            settle().await;
            acquiring.assert_pending();
            holder.release().await.unwrap();
            settle().await;
        }
        let guard = acquiring.assert_ready().unwrap();
        assert!(!guard.is_lost());
        guard.release().await.unwrap();
        assert_all_given_back(&store, 0).await;
    }
}

/// A call may come for nothing. The storage knows no such ticket, as it is
/// not issued yet.
#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_only_asked_for_is_not_gone() {
    let (slow, store) = slow_store();
    slow.issues().hold_requests();
    let mut acquiring = probe(store.lock("a"));
    acquiring.assert_pending();
    slow.announce(&WakeUp::Turn {
        conversation: id(),
        owner: slow.last_owner(),
    });
    settle().await;
    acquiring.assert_pending();
    slow.issues().let_go();
    let guard = acquiring.assert_ready().unwrap();
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_may_come_before_the_ticket() {
    let (slow, store) = slow_store();
    let holder = store_on(&slow).lock("a").await.unwrap();
    slow.issues().hold_replies();
    let mut acquiring = probe(store.lock("a"));
    acquiring.assert_pending();
    holder.release().await.unwrap();
    settle().await;
    // The claim window is long over: it was claimed.
    sleep(10 * SECOND).await;
    slow.issues().let_go();
    // The answer is from before; so it is checked once more.
    acquiring.assert_pending();
    settle().await;
    let guard = acquiring.assert_ready().unwrap();
    assert_eq!(guard.ticket_number(), 1);
    sleep(49 * SECOND).await;
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    assert_all_given_back(&store, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_lost_before_the_ticket_comes_is_noticed() {
    let (slow, store) = slow_store();
    let holder = store_on(&slow).lock("a").await.unwrap();
    slow.issues().hold_replies();
    let mut acquiring = probe(store.lock("a"));
    acquiring.assert_pending();
    slow.pushes().lose();
    holder.release().await.unwrap();
    slow.pushes().deliver();
    slow.announce(&WakeUp::Resumed);
    settle().await;
    slow.issues().let_go();
    acquiring.assert_pending();
    settle().await;
    drop(acquiring.assert_ready().unwrap());
    assert_all_given_back(&store, 0).await;
}

/// Its turn came in time, whatever became of the reply.
#[tokio::test(start_paused = true)]
async fn a_turn_before_the_reply_does_not_count_without_it() {
    let (slow, store) = slow_store();
    let holder = store_on(&slow).lock("a").await.unwrap();
    slow.issues().hold_replies();
    let mut acquiring = probe(store.lock("a").wait_timeout(SECOND));
    acquiring.assert_pending();
    holder.release().await.unwrap();
    sleep(SECOND).await;
    settle().await;
    assert!(acquiring.assert_ready().unwrap_err().is_unavailable());
    assert_all_given_back(&store, 0).await;
}
