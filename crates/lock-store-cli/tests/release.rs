//! `release`: tickets are taken away from their owners.

#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use common::{end_of, program, until};
use fleet::{Fleet, connections_are_checked};
use serde_json::{Value, json};

fn released(fleet: &Fleet, arguments: &[&str], code: i32) -> Value {
    let ended = fleet.run("release", &[arguments, &["--yes", "--json"]].concat());
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn the_one_that_is_served_loses_its_lock_and_the_next_is_called() {
    let fleet = Fleet::new();
    let guard = fleet.lock("anna");
    let next = fleet.queue("anna");
    fleet.until_heard_of("anna");
    let ended = fleet.run("release", &["anna", "--yes"]);
    ended.says(
        0,
        &[
            "ticket 0 of anna holds the lock, taken",
            "whose process is there",
        ],
    );
    assert_eq!(
        ended.stdout,
        "taken away: ticket 0\nserved now: ticket 1, with 0 waiting behind it\n"
    );
    assert!(fleet.block_on(guard.lost()).is_lost());
    let next = fleet.block_on(next.wait()).unwrap();
    assert_eq!(next.ticket_number(), 1);

    let last = fleet.run("release", &["anna", "--yes"]);
    last.says(0, &["ticket 1 of anna"]);
    assert!(last.stdout.contains("served now: nobody"));
}

#[test]
fn one_that_waits_or_all_of_them() {
    let fleet = Fleet::new();
    let guard = fleet.lock("a");
    let waiting: Vec<_> = (0..3).map(|_| fleet.queue("a")).collect();
    let one = released(&fleet, &["a", "--ticket", "2"], 0);
    let expected = json!({"conversation_id": "a", "released": [2], "gone": [], "serving": 0,
        "waiting": 2});
    assert_eq!(one, expected);
    assert!(!guard.is_lost());
    let mut waiting = waiting.into_iter();
    let (first, second) = (waiting.next().unwrap(), waiting.next().unwrap());
    assert!(fleet.block_on(second.wait()).unwrap_err().is_gone());

    let all = released(&fleet, &["a", "--all"], 0);
    assert_eq!(all["released"], json!([0, 1, 3]));
    assert_eq!(all["serving"], Value::Null);
    // None of them was called before its ticket was taken away.
    assert!(fleet.block_on(first.wait()).unwrap_err().is_gone());
    assert_eq!(fleet.tickets("a"), 0);
}

#[test]
fn what_is_not_there_cannot_be_released() {
    let fleet = Fleet::new();
    let guard = fleet.lock("a");
    let nobody = fleet.run("release", &["b", "--yes"]);
    nobody.says(1, &["error: the conversation \"b\" has no lock"]);
    let other = fleet.run("release", &["a", "--ticket", "7", "--yes"]);
    other.says(
        1,
        &["error: the conversation \"a\" has no ticket 7, but ticket 0"],
    );
    assert_eq!((other.stdout.as_str(), guard.is_lost()), ("", false));
}

#[test]
fn nobody_is_asked_where_there_is_no_terminal() {
    let fleet = Fleet::new();
    let _guard = fleet.lock("a");
    let ended = fleet.run("release", &["a"]);
    ended.says(2, &["error: nobody can be asked here", "--yes"]);
    assert_eq!(fleet.tickets("a"), 1);
}

#[test]
fn wrong_use_is_told() {
    let fleet = Fleet::new();
    fleet.run("release", &["--yes"]).says(2, &["<ID>"]);
    let both = ["a", "--all", "--ticket", "1"];
    fleet
        .run("release", &both)
        .says(2, &["cannot be used with"]);
    connections_are_checked("release", &["a", "--yes"]);
}

/// Starts it in a terminal, waits until it asks, and answers after `meanwhile`.
fn answered(fleet: &Fleet, answer: &str, meanwhile: impl FnOnce()) -> (i32, String) {
    let script = "\"$LOCK_STORE\" release a --redis \"$URL\"";
    let shown = fleet.place.path("terminal");
    let mut command = program(&["script", "-qefc", script, "/dev/null"]);
    command
        .env("SHELL", "/bin/sh")
        .env("LOCK_STORE", env!("CARGO_BIN_EXE_lock-store"))
        .env("URL", &fleet.url)
        .current_dir(fleet.place.path(""))
        .stdin(Stdio::piped())
        .stdout(fs::File::create(&shown).unwrap());
    let mut terminal = fleet.place.start(&mut command);
    until("the question", || {
        fleet
            .place
            .read("terminal")
            .contains("Take ticket 0 of a away? [y/N] ")
    });
    meanwhile();
    let stdin = terminal.child().stdin.as_mut().unwrap();
    stdin.write_all(answer.as_bytes()).unwrap();
    let status = end_of(terminal.child());
    (status.code().unwrap(), fleet.place.read("terminal"))
}

#[test]
fn on_a_terminal_it_asks() {
    let fleet = Fleet::new();
    let _guard = fleet.lock("a");
    for no in ["n\n", "\n", "yess\n"] {
        let (code, shown) = answered(&fleet, no, || {});
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("nothing was taken away"), "{shown}");
        assert_eq!(fleet.tickets("a"), 1);
    }
    let (code, shown) = answered(&fleet, "y\n", || {});
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("taken away: ticket 0"), "{shown}");
    assert_eq!(fleet.tickets("a"), 0);
}

/// A ticket that came in the place of the one that was shown, with the same
/// number, is not what was agreed to.
#[test]
fn it_takes_away_the_very_ticket_that_it_showed() {
    let fleet = Fleet::new();
    let first = fleet.lock("a");
    let mut second = None;
    let (code, shown) = answered(&fleet, "y\n", || {
        fleet.block_on(first.release()).unwrap();
        second = Some(fleet.lock("a"));
    });
    assert_eq!(code, 1, "{shown}");
    assert!(
        shown.contains("gone by itself meanwhile: ticket 0"),
        "{shown}"
    );
    assert!(shown.contains("served now: ticket 0"), "{shown}");
    let second = second.unwrap();
    assert_eq!(second.ticket_number(), 0);
    fleet.block_on(second.release()).unwrap();
}
