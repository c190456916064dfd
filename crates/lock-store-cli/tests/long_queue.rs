//! A conversation with a long queue never keeps others from their turn.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Stdio;

use common::{Place, assert_each_once_in_order, message, until, until_exists, wait_for, write_to};

/// The first message of each long queue is done only when a message that comes
/// last, of another conversation, has been seen; it fails if that never comes.
fn blocked_until_the_last(place: &Place, hot: &[&str], each: usize, options: &[&str]) {
    let mut messages = Vec::new();
    for i in 0..each {
        messages.extend(hot.iter().map(|name| (*name, i.to_string())));
    }
    messages.push(("quiet", "last".to_owned()));
    let count = messages.len() as u64;
    place.messages(messages);
    let script = format!(
        "[ $LOCK_STORE_CONVERSATION_ID = quiet ] && touch seen; {}",
        wait_for("seen")
    );
    let results = place.process_with(options, &script).results(0);
    assert_each_once_in_order(&results, count);
}

#[test]
fn one_long_queue() {
    let options = ["--read-ahead", "20"];
    blocked_until_the_last(&Place::new(), &["hot"], 200, &options);
}

#[test]
fn several_long_queues() {
    let hot = ["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9"];
    let options = ["--read-ahead", "20"];
    blocked_until_the_last(&Place::new(), &hot, 30, &options);
}

/// Waiting messages hold no slot: with two slots, one is left for the others.
#[test]
fn few_slots() {
    let options = ["--concurrency", "2"];
    blocked_until_the_last(&Place::new(), &["hot"], 100, &options);
}

/// More conversations than tickets: those without a ticket take turns.
#[test]
fn more_conversations_than_tickets() {
    let place = Place::new();
    let names: Vec<_> = (0..40).map(|i| format!("c{i}")).collect();
    let messages = (0..4000).map(|i| (names[i * 7 % 40].as_str(), i.to_string()));
    place.messages(messages);
    for read_ahead in ["1", "2", "7", "30"] {
        let results = place.process(&["--read-ahead", read_ahead]).results(0);
        assert_each_once_in_order(&results, 4000);
    }
}

/// Nothing is dropped in silence when there is no room for a long queue.
#[test]
fn without_a_temporary_file_it_stops() {
    let place = Place::new();
    let script = format!("touch begun; {}", wait_for("go"));
    let mut command = place.command(["-", "--read-ahead", "1", "--", "sh", "-c", &script]);
    command
        .env("TMPDIR", "/no/such/folder")
        .stdin(Stdio::piped());
    let mut running = place.start(&mut command);
    write_to(&mut running, &message("hot", "0"));
    until_exists(place.path("begun"));
    write_to(&mut running, &message("hot", "1"));
    until("the stop", || place.read("stderr").contains("stopping"));
    place.write("go", "");
    // Standard input is still open.
    let stdin = running.child().stdin.take();
    let ended = running.ended();
    assert_eq!(ended.results(1).len(), 1);
    ended.says(
        1,
        &[
            "stopped by a failure (the temporary file for long queues: No such file",
            "1 message was read and not begun (seq 1); the input was read up to line 2",
        ],
    );
    drop(stdin);
}
