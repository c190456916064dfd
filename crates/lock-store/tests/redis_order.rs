//! Tickets of a conversation are issued in the order in which they were first
//! polled, whatever happens to the connection or to the server meanwhile.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::try_join_all;
use lock_store::{LockError, LockGuard, LockStore, Place, Timing};
use redis_fixture::{Cut, Proxy, Server, until};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use support::order::{CONVERSATION, Tickets, WAIT, assert_consecutive, assert_rising, begun};
use support::probe::{Probe, probe};
use support::redis::{PATIENCE, aside, at, holds_soon, nothing_left_at, store};

const BURST: usize = 200;

/// How often a test repeats what may go well by chance.
const ROUNDS: usize = 5;

/// A server, and one lock on it: tickets that come later begin with number 1.
struct Setup {
    server: Server,
    proxy: Proxy,
    /// Reaches the server through the proxy.
    store: LockStore,
    /// Reaches the server directly.
    other: LockStore,
    held: LockGuard,
}

async fn setup() -> Setup {
    let server = aside(Server::start);
    let proxy = Proxy::to(&server.address());
    // A slow machine makes no client look dead.
    let timing = Timing {
        lock_lifetime: WAIT,
        claim_window: WAIT,
        ..Timing::default()
    };
    let other = store(&at(&server.url()), timing.clone()).await;
    let store = store(&at(&proxy.url()), timing).await;
    let held = other.lock(CONVERSATION).await.unwrap();
    assert_eq!(held.ticket_number(), 0);
    Setup {
        server,
        proxy,
        store,
        other,
        held,
    }
}

impl Setup {
    fn tickets(&self) -> Tickets {
        Tickets::of(&self.store)
    }

    fn forget_scripts(&self) {
        aside(|| self.server.command(&["SCRIPT", "FLUSH"]).ok());
    }

    /// Waits until both stores have a connection, and kills all that there are.
    fn kill_connections(&self) {
        aside(|| {
            until("both stores are connected", || {
                let addresses = self.server.client_addresses("normal");
                let stores = addresses.iter().filter(|it| it.starts_with("127.0.0.1"));
                stores.count() >= 2
            });
            let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
            self.server.command(&kill).integer();
        });
    }

    /// Gives everything back, and asserts that Redis is empty then.
    async fn ends(self, places: Vec<Place>) {
        drop(places);
        self.held.release().await.unwrap();
        nothing_left_at(&self.server).await;
        self.store.close().await.unwrap();
        self.other.close().await.unwrap();
    }
}

/// A burst right after each of several disturbances.
async fn bursts_after(disturb: fn(&Setup)) {
    let setup = setup().await;
    let mut places = Vec::new();
    for round in 0..ROUNDS {
        disturb(&setup);
        let mut tickets = setup.tickets();
        tickets.poll(BURST);
        places.extend(tickets.places_from(1 + (round * BURST) as u64).await);
    }
    setup.ends(places).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_without_a_disturbance() {
    bursts_after(|_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_after_forgotten_scripts() {
    bursts_after(Setup::forget_scripts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_after_killed_connections() {
    bursts_after(Setup::kill_connections).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_after_killed_connections_and_forgotten_scripts() {
    bursts_after(|setup| {
        setup.forget_scripts();
        setup.kill_connections();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_while_there_is_no_connection() {
    let setup = setup().await;
    let mut places = Vec::new();
    for round in 0..ROUNDS {
        setup.proxy.refuse(true);
        let accepted = setup.proxy.accepted();
        setup.proxy.cut_all();
        holds_soon("the store reconnects in vain", || {
            setup.proxy.accepted() > accepted
        })
        .await;
        let mut tickets = setup.tickets();
        tickets.poll(BURST);
        setup.proxy.refuse(false);
        places.extend(tickets.places_from(1 + (round * BURST) as u64).await);
    }
    setup.ends(places).await;
}

/// Some requests come before the store knows that the connection is cut, some
/// while there is none, and some as there is one again.
#[tokio::test(flavor = "multi_thread")]
async fn bursts_before_during_and_after_an_outage() {
    let setup = setup().await;
    let mut places = Vec::new();
    for round in 0..ROUNDS {
        let mut tickets = setup.tickets();
        tickets.poll(BURST / 4);
        let accepted = setup.proxy.accepted();
        setup.proxy.refuse(true);
        setup.proxy.cut_all();
        tickets.poll(BURST / 4);
        holds_soon("the store reconnects in vain", || {
            setup.proxy.accepted() > accepted
        })
        .await;
        tickets.poll(BURST / 4);
        setup.proxy.refuse(false);
        for _ in 0..BURST / 4 {
            tickets.poll(1);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        places.extend(tickets.places_from(1 + (round * BURST) as u64).await);
    }
    setup.ends(places).await;
}

/// The server stands still for a while, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_while_the_server_answers_late() {
    let setup = setup().await;
    setup.proxy.stall(true);
    let mut tickets = setup.tickets();
    for _ in 0..10 {
        tickets.poll(BURST / 10);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setup.proxy.stall(false);
    let places = tickets.places_from(1).await;
    setup.ends(places).await;
}

async fn a_stream_during(disturbances: &[fn(&Setup)]) {
    let setup = setup().await;
    let mut tickets = setup.tickets();
    for part in 0..15 {
        for _ in 0..10 {
            tickets.poll(10);
            yield_now().await;
        }
        // In the middle of the stream: what was polled is still under way.
        if !disturbances.is_empty() {
            disturbances[part % disturbances.len()](&setup);
        }
    }
    let places = tickets.places_from(1).await;
    assert_eq!(places.len(), 1_500);
    setup.ends(places).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_disturbance() {
    a_stream_during(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_while_scripts_are_forgotten() {
    a_stream_during(&[Setup::forget_scripts]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_while_connections_are_killed() {
    a_stream_during(&[Setup::kill_connections]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_while_scripts_are_forgotten_and_connections_are_killed() {
    a_stream_during(&[Setup::forget_scripts, Setup::kill_connections]).await;
}

/// Cuts the connection at every tenth of a burst.
async fn a_burst_with_cuts(cuts: &[fn(&'static str) -> Cut]) {
    let setup = setup().await;
    let mut tickets = setup.tickets();
    for part in 0..10 {
        let before = setup.proxy.cuts();
        setup.proxy.cut_when(cuts[part % cuts.len()](CONVERSATION));
        tickets.poll(BURST / 20);
        // Some requests are first polled after the cut, before or after the
        // store has another connection.
        if part % 2 == 0 {
            holds_soon("the connection is cut", || setup.proxy.cuts() > before).await;
        }
        tickets.poll(BURST / 20);
        holds_soon("the connection is cut", || setup.proxy.cuts() > before).await;
    }
    let places = tickets.places_from(1).await;
    setup.ends(places).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_whose_replies_are_lost() {
    a_burst_with_cuts(&[Cut::reply]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_whose_commands_are_lost() {
    a_burst_with_cuts(&[Cut::command]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_whose_commands_and_replies_are_lost() {
    a_burst_with_cuts(&[Cut::reply, Cut::command, Cut::reply]).await;
}

/// What a request became.
enum Outcome {
    Guard(LockGuard),
    Place(Place),
    Taken,
}

/// A request of a kind that depends on its position.
async fn mixed(store: LockStore, position: usize) -> Result<Outcome, LockError> {
    Ok(match position % 3 {
        0 => Outcome::Place(store.take_ticket(CONVERSATION).wait_timeout(WAIT).await?),
        1 => match store.try_lock(CONVERSATION).await? {
            Some(guard) => Outcome::Guard(guard),
            None => Outcome::Taken,
        },
        _ => Outcome::Guard(store.lock(CONVERSATION).wait_timeout(WAIT).await?),
    })
}

/// The number of the ticket, once it was served and released.
async fn number_when_done(outcome: Outcome) -> Option<u64> {
    let guard = match outcome {
        Outcome::Taken => return None,
        Outcome::Place(place) => place.wait().await.unwrap(),
        Outcome::Guard(guard) => guard,
    };
    let number = guard.ticket_number();
    guard.release().await.unwrap();
    Some(number)
}

async fn mixed_bursts_after(disturb: fn(&Setup)) {
    for _ in 0..ROUNDS {
        a_mixed_burst_after(disturb).await;
    }
}

/// All kinds of requests behind a held lock.
async fn a_mixed_burst_after(disturb: fn(&Setup)) {
    let setup = setup().await;
    disturb(&setup);
    let requests: Vec<_> = (0..BURST)
        .map(|position| {
            let request = mixed(setup.store.clone(), position);
            begun(async move { number_when_done(request.await.unwrap()).await })
        })
        .collect();
    // Those that only try are told while the lock is held.
    let (tries, others): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .enumerate()
        .partition(|(position, _)| position % 3 == 1);
    for (position, request) in tries {
        let number = request.await.unwrap();
        assert_eq!(number, None, "at position {position}");
    }
    setup.held.release().await.unwrap();
    let numbers = try_join_all(others.into_iter().map(|(_, request)| request)).await;
    let numbers: Vec<_> = numbers.unwrap().into_iter().map(Option::unwrap).collect();
    assert_consecutive(1, &numbers);
    nothing_left_at(&setup.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_requests_without_a_disturbance() {
    mixed_bursts_after(|_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_requests_after_forgotten_scripts() {
    mixed_bursts_after(Setup::forget_scripts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_requests_after_killed_connections() {
    mixed_bursts_after(Setup::kill_connections).await;
}

/// A `try_lock` that comes first gets the lock, though others come right after
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_comes_first_gets_the_lock() {
    let setup = setup().await;
    setup.other.delete_lock(CONVERSATION).await.unwrap();
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            setup.kill_connections();
        }
        setup.forget_scripts();
        let store = setup.store.clone();
        let first = begun(async move { store.try_lock(CONVERSATION).await });
        let mut tickets = Tickets::of(&setup.store);
        tickets.poll(BURST / 10);
        let guard = first.await.unwrap().unwrap();
        let guard = guard.expect("the first request gets the lock");
        assert_eq!(guard.ticket_number(), 0);
        drop(tickets.places_from(1).await);
        guard.release().await.unwrap();
        nothing_left_at(&setup.server).await;
    }
}

/// Requests of tasks on several threads. A mutex makes it known in which order
/// they enter the store.
async fn from_several_threads(disturb: fn(&Setup)) {
    let setup = Arc::new(setup().await);
    let requests = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (setup, requests) = (setup.clone(), requests.clone());
            tokio::spawn(async move {
                for round in 0..50 {
                    let store = setup.store.clone();
                    let request = async move {
                        let request = store.take_ticket(CONVERSATION);
                        request.wait_timeout(WAIT).await
                    };
                    requests.lock().unwrap().push(begun(request));
                    if task == 0 && round % 10 == 5 {
                        disturb(&setup);
                    }
                    yield_now().await;
                }
            })
        })
        .collect();
    try_join_all(tasks).await.unwrap();
    let requests: Vec<JoinHandle<_>> = std::mem::take(&mut requests.lock().unwrap());
    let places = try_join_all(requests).await.unwrap();
    let places: Vec<Place> = places.into_iter().map(Result::unwrap).collect();
    let numbers: Vec<_> = places.iter().map(Place::ticket_number).collect();
    assert_consecutive(1, &numbers);
    let Ok(setup) = Arc::try_unwrap(setup) else {
        panic!("a task has not ended");
    };
    setup.ends(places).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_threads_without_a_disturbance() {
    from_several_threads(|_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_threads_while_scripts_are_forgotten() {
    from_several_threads(Setup::forget_scripts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_threads_while_connections_are_killed() {
    from_several_threads(Setup::kill_connections).await;
}

/// A request that was polled once.
enum Sleeping<F> {
    Done(Place),
    Pending(Probe<F>),
}

/// Requests that were polled once and then neither polled nor dropped keep
/// their positions, and later ones do not wait for them.
async fn requests_that_are_not_polled_again_after(disturb: fn(&Setup)) {
    let setup = setup().await;
    disturb(&setup);
    let mut sleeping = Vec::new();
    let mut tickets = setup.tickets();
    // The position of each that sleeps is a multiple of ten.
    for _ in 0..10 {
        let request = setup.store.take_ticket(CONVERSATION);
        let mut request = probe(request.wait_timeout(WAIT));
        match request.poll() {
            // The reply may come as fast as that.
            Poll::Ready(place) => sleeping.push(Sleeping::Done(place.unwrap())),
            Poll::Pending => sleeping.push(Sleeping::Pending(request)),
        }
        tickets.poll(9);
    }
    let Ok(mut places) = timeout(PATIENCE, tickets.places()).await else {
        panic!("later requests wait for one that is not polled");
    };
    for request in sleeping {
        places.push(match request {
            Sleeping::Done(place) => place,
            Sleeping::Pending(request) => request.rest().await.unwrap(),
        });
    }
    let sleeping = places.split_off(90);
    let mut polled = places.iter();
    let mut numbers = Vec::new();
    for place in &sleeping {
        numbers.push(place.ticket_number());
        numbers.extend(polled.by_ref().take(9).map(Place::ticket_number));
    }
    assert_consecutive(1, &numbers);
    places.extend(sleeping);
    setup.ends(places).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_polled_again_without_a_disturbance() {
    requests_that_are_not_polled_again_after(|_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_polled_again_after_forgotten_scripts() {
    requests_that_are_not_polled_again_after(Setup::forget_scripts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_polled_again_after_killed_connections() {
    requests_that_are_not_polled_again_after(Setup::kill_connections).await;
}

/// Requests that are dropped leave, and the others keep their order.
async fn requests_that_are_dropped_after(disturb: fn(&Setup)) {
    for _ in 0..ROUNDS {
        some_are_dropped_after(disturb).await;
    }
}

async fn some_are_dropped_after(disturb: fn(&Setup)) {
    let setup = setup().await;
    disturb(&setup);
    let mut tickets = setup.tickets();
    for _ in 0..BURST / 4 {
        tickets.poll_and_drop(1);
        tickets.poll(3);
    }
    let Ok(places) = timeout(PATIENCE, tickets.places()).await else {
        panic!("later requests wait for one that was dropped");
    };
    assert_rising(places.iter().map(Place::ticket_number));
    assert_rising(places.iter().map(|place| place.fencing_token().get()));
    // Only the held lock and these are left.
    let key = format!("lock-store:tickets:{CONVERSATION}");
    holds_soon("the dropped tickets leave", || {
        let left = setup.server.command(&["LLEN", &key]).integer();
        left == 1 + i64::try_from(places.len()).unwrap()
    })
    .await;
    setup.ends(places).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_dropped_without_a_disturbance() {
    requests_that_are_dropped_after(|_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_dropped_after_forgotten_scripts() {
    requests_that_are_dropped_after(Setup::forget_scripts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_dropped_after_killed_connections() {
    requests_that_are_dropped_after(Setup::kill_connections).await;
}
