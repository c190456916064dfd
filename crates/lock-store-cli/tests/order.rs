//! Messages of a conversation in order and one at a time, conversations in
//! parallel.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, assert_each_once_in_order, wait_for};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn mixed(count: usize) -> impl Iterator<Item = (&'static str, String)> {
    // Bursts, and all of them in turn.
    (0..count).map(|i| (NAMES[(i / 3 + i % 5) % NAMES.len()], format!("text {i}")))
}

#[test]
fn each_message_is_echoed_once_and_in_order() {
    let place = Place::new();
    place.messages(mixed(3000));
    let results = place.process(&[]).results(0);
    assert_each_once_in_order(&results, 3000);
    for result in &results {
        let text = format!("text {}", result["seq"]);
        assert_eq!(result["message"], text);
        assert_eq!(result["response"], text);
        assert_eq!(result["status"], "ok");
    }
}

#[test]
fn order_is_kept_with_a_command_and_little_room() {
    let place = Place::new();
    place.messages(mixed(150));
    for options in [
        &["--read-ahead", "1"][..],
        &["--read-ahead", "9", "--concurrency", "3"],
    ] {
        let results = place.process_with(options, "cat").results(0);
        assert_each_once_in_order(&results, 150);
    }
}

#[test]
fn fencing_tokens_of_a_conversation_rise() {
    let place = Place::new();
    place.messages(mixed(500));
    let mut last = std::collections::HashMap::new();
    for result in place.process(&[]).results(0) {
        let token = result["fencing_token"].as_u64().unwrap();
        let before = last.insert(result["sender"].to_string(), token);
        assert!(before < Some(token));
    }
}

#[test]
fn a_conversation_has_one_command_at_a_time() {
    let place = Place::new();
    place.messages(mixed(70));
    let script = "f=log.$LOCK_STORE_CONVERSATION_ID; echo begin >> $f; sleep 0.02; echo end >> $f";
    let results = place
        .process_with(&["--concurrency", "20"], script)
        .results(0);
    assert_each_once_in_order(&results, 70);
    for name in NAMES {
        let log = place.read(&format!("log.{name}"));
        let lines: Vec<_> = log.lines().collect();
        assert!(!lines.is_empty());
        assert!(
            lines.chunks(2).all(|pair| pair == ["begin", "end"]),
            "{name}: {log}"
        );
    }
}

#[test]
fn conversations_are_processed_at_the_same_time() {
    let place = Place::new();
    place.messages(["anna", "ben"].map(|name| (name, "hello".to_owned())));
    // Each waits for the other to have begun.
    let script = format!(
        "touch begun.$LOCK_STORE_CONVERSATION_ID; {}; {}",
        wait_for("begun.anna"),
        wait_for("begun.ben")
    );
    let ended = place.process_with(&[], &script);
    ended.results(0);
    ended.says(0, &["most conversations at once   2 in progress"]);
}

#[test]
fn no_more_are_processed_at_once_than_wanted() {
    let place = Place::new();
    place.messages(NAMES.map(|name| (name, "hello".to_owned())));
    let script = "echo begin >> log; sleep 0.05; echo end >> log";
    let ended = place.process_with(&["--concurrency", "1"], script);
    ended.says(0, &["most conversations at once   1 in progress"]);
    let log = place.read("log");
    assert_eq!(log, "begin\nend\n".repeat(NAMES.len()));
}
