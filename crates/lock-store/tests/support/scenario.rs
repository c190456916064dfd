//! A story in which everything happens that a store reports.

use std::time::Duration;

use lock_store::{ClientId, ConversationId, Issue, Owner, Timing};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use super::two_stores;

const SECOND: Duration = Duration::from_secs(1);

pub fn on_a_paused_clock(scenario: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(scenario);
}

/// Everything that is reported, once at least.
pub async fn everything() {
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
            least_token: None,
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
