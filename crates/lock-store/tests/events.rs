//! The events of a store, as a log shows them.
//!
//! The only test of its process: tracing remembers of each place in the code
//! whether anybody listens, and another test, without a subscriber, could
//! answer first.

#![allow(clippy::unwrap_used)]

mod support;

use support::lines::Lines;
use support::scenario::{everything, on_a_paused_clock};

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
    tracing::subscriber::set_global_default(subscriber).unwrap();
    on_a_paused_clock(everything());
    let text = lines.text();
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
