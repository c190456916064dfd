//! Tickets that a test requests in an order of its choice.

use std::future::ready;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::try_join_all;
use lock_store::{LockError, LockStore, Place};
use tokio::task::JoinHandle;

use super::probe::probe;

/// The conversation whose tickets are counted. Commands about it contain its
/// name, and other commands do not.
pub const CONVERSATION: &str = "the-ordered-conversation";

/// Longer than a test takes.
pub const WAIT: Duration = Duration::from_secs(300);

/// Requests for tickets, in the order of their first polls.
pub struct Tickets {
    store: LockStore,
    requests: Vec<JoinHandle<Result<Place, LockError>>>,
}

impl Tickets {
    pub fn of(store: &LockStore) -> Self {
        Self {
            store: store.clone(),
            requests: Vec::new(),
        }
    }

    /// Polls this many requests once, one after the other. Each of them is then
    /// awaited by its own task.
    pub fn poll(&mut self, count: usize) {
        for _ in 0..count {
            self.requests.push(begun(take_ticket(self.store.clone())));
        }
    }

    /// Polls this many requests once, and drops them.
    pub fn poll_and_drop(&mut self, count: usize) {
        for _ in 0..count {
            let _ = probe(take_ticket(self.store.clone())).poll();
        }
    }

    /// Waits for all replies.
    pub async fn places(self) -> Vec<Place> {
        let places = try_join_all(self.requests).await.unwrap();
        places.into_iter().map(Result::unwrap).collect()
    }

    /// Waits for all replies, and asserts that the numbers are consecutive.
    pub async fn places_from(self, first: u64) -> Vec<Place> {
        let places = self.places().await;
        let numbers: Vec<_> = places.iter().map(Place::ticket_number).collect();
        assert_consecutive(first, &numbers);
        assert_rising(places.iter().map(|place| place.fencing_token().get()));
        places
    }
}

async fn take_ticket(store: LockStore) -> Result<Place, LockError> {
    let request = store.take_ticket(CONVERSATION);
    request.wait_timeout(WAIT).await
}

/// Polls it once here, and the rest in its own task.
pub fn begun<T: Send + 'static>(
    request: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let mut request = probe(request);
    match request.poll() {
        Poll::Ready(output) => tokio::spawn(ready(output)),
        Poll::Pending => tokio::spawn(request.rest()),
    }
}

#[track_caller]
pub fn assert_consecutive(first: u64, numbers: &[u64]) {
    let expected = first..;
    let mut wrong = expected.zip(numbers).filter(|(at, number)| at != *number);
    let Some((at, number)) = wrong.next() else {
        return;
    };
    let wrong = 1 + wrong.count();
    panic!(
        "{wrong} of {} tickets are out of order: the first of them is number {number} instead of \
         {at}",
        numbers.len()
    );
}

#[track_caller]
pub fn assert_rising(numbers: impl IntoIterator<Item = u64>) {
    let numbers: Vec<_> = numbers.into_iter().collect();
    if let Some(at) = numbers.windows(2).position(|pair| pair[0] >= pair[1]) {
        let (one, next) = (numbers[at], numbers[at + 1]);
        panic!("the request at position {at} got {one}, and the next one got {next}");
    }
}
