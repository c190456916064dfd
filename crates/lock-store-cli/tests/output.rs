//! Where the results go.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use common::{Place, message, until_exists, wait_for, write_to};

#[test]
fn a_closed_pipe_ends_it_without_losing_count() {
    let place = Place::new();
    let script = format!(
        "[ $LOCK_STORE_CONVERSATION_ID = a ] || {{ touch $LOCK_STORE_CONVERSATION_ID; {}; }}; \
         echo well",
        wait_for("go")
    );
    let mut command = place.command(["-", "--", "sh", "-c", &script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = place.start(&mut command);
    write_to(&mut running, &message("a", "one"));
    let mut first = String::new();
    let mut stdout = BufReader::new(running.child().stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    assert!(first.contains("well"), "{first}");
    // What `head -1` does.
    drop(stdout);
    let more = ["b", "c"].map(|name| message(name, "x")).concat();
    write_to(&mut running, &more);
    until_exists(place.path("b"));
    until_exists(place.path("c"));
    place.write("go", "");
    // Standard input is still open.
    let stdin = running.child().stdin.take();
    let ended = running.ended();
    ended.says(
        1,
        &[
            "the output was closed (Broken pipe (os error 32)): 2 results could not be written",
            "nobody takes the results",
        ],
    );
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    drop(stdin);
}

#[test]
fn a_full_disk_is_an_error() {
    let place = Place::new();
    place.messages([("a", "hello".to_owned())]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = place
        .start(place.command(["input.jsonl"]).stdout(full))
        .ended();
    ended.says(
        1,
        &["No space left on device", "1 results could not be written"],
    );
}

/// Also when most of the input waits in a long queue.
#[test]
fn a_pipe_that_was_never_read_ends_it() {
    let place = Place::new();
    place.messages((0..20_000).map(|i| ("a", format!("text {i}"))));
    let mut command = place.command(["input.jsonl"]);
    let mut running = place.start(command.stdout(Stdio::piped()));
    drop(running.child().stdout.take());
    let ended = running.ended();
    ended.says(1, &["the output was closed", "could not be written"]);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
