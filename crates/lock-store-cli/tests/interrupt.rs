//! Ctrl-C: what was begun is finished, the rest is named.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Stdio;

use common::{Place, Running, started_by, until, until_exists, wait_for, write_to};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Two conversations of which each has begun its first message, and a third
/// that has begun the last line of the input, so that all was read. What was
/// begun is done when `go` exists.
fn begun(place: &Place, each: usize, options: &[&str]) -> Running {
    let mut messages = Vec::new();
    for i in 0..each {
        messages.extend(["a", "b"].map(|name| (name, i.to_string())));
    }
    messages.push(("c", "0".to_owned()));
    place.messages(messages);
    let script = format!(
        "echo $$ > pid.$LOCK_STORE_CONVERSATION_ID; {}",
        wait_for("go")
    );
    let script = ["--", "sh", "-c", &script];
    let arguments = [&["input.jsonl"], options, &script].concat();
    let running = place.start(&mut place.command(arguments));
    until("all have begun", || {
        ["pid.a", "pid.b", "pid.c"]
            .iter()
            .all(|name| place.read(name).ends_with('\n'))
    });
    running
}

/// Sends a signal, and waits until it was noticed: from then on nothing is
/// begun.
fn interrupt(place: &Place, running: &Running, signal: Signal) {
    running.signal(signal);
    until("the signal is noticed", || {
        place.read("stderr").contains("finishing what was begun")
    });
}

fn interrupted(signal: Signal, code: i32) {
    let place = Place::new();
    let running = begun(&place, 20, &[]);
    interrupt(&place, &running, signal);
    place.write("go", "");
    let ended = running.ended();
    let results = ended.results(code);
    assert_eq!(results.len(), 3);
    for result in &results {
        assert_eq!(result["status"], "ok");
        assert_eq!(result["message"], "0");
    }
    ended.says(
        code,
        &[
            "interrupted: 38 messages were read and not begun (seq 2-39); \
             the input was read up to line 41",
            "messages                     41",
        ],
    );
}

#[test]
fn what_was_begun_is_finished() {
    interrupted(Signal::SIGINT, 130);
}

#[test]
fn a_polite_kill_does_the_same() {
    interrupted(Signal::SIGTERM, 143);
}

#[test]
fn spooled_messages_count_as_not_begun() {
    let place = Place::new();
    let running = begun(&place, 50, &["--read-ahead", "8"]);
    interrupt(&place, &running, Signal::SIGINT);
    place.write("go", "");
    let ended = running.ended();
    assert_eq!(ended.results(130).len(), 3);
    ended.says(
        130,
        &[
            "98 messages were read and not begun (seq 2-99)",
            "up to line 101",
        ],
    );
}

#[test]
fn a_second_one_stops_at_once() {
    let place = Place::new();
    let running = begun(&place, 3, &[]);
    interrupt(&place, &running, Signal::SIGINT);
    running.signal(Signal::SIGINT);
    let ended = running.ended();
    assert!(ended.results(130).is_empty());
    ended.says(130, &["stopped at once"]);
    // `go` was never there: the commands were killed.
    for name in ["pid.a", "pid.b", "pid.c"] {
        let pid = Pid::from_raw(place.read(name).trim().parse().unwrap());
        until("the command has ended", || {
            kill(pid, None) == Err(Errno::ESRCH)
        });
    }
}

#[test]
fn an_idle_input_does_not_keep_it() {
    let place = Place::new();
    let mut running = place.start(place.command(["-"]).stdin(Stdio::piped()));
    write_to(&mut running, &common::message("a", "hello"));
    until("the first result", || place.read("stdout").ends_with('\n'));
    running.signal(Signal::SIGINT);
    // Standard input is still open.
    let stdin = running.child().stdin.take();
    let ended = running.ended();
    assert_eq!(ended.results(130).len(), 1);
    ended.says(
        130,
        &["every message that was read was begun", "up to line 1"],
    );
    drop(stdin);
}

#[test]
fn a_terminals_ctrl_c_does_not_reach_the_commands() {
    let place = Place::new();
    place.messages([("a", "hello".to_owned())]);
    let script = "ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat; touch done";
    let running = place.start(&mut place.command(["input.jsonl", "--", "sh", "-c", script]));
    let ours = running.pid();
    until_exists(place.path("done"));
    let group = &running.ended().results(0)[0]["response"];
    assert!(
        group.is_i64() && *group != i64::from(ours.as_raw()),
        "{group}"
    );
}

#[test]
fn under_nohup_it_outlives_its_terminal() {
    let place = Place::new();
    // What `nohup` does, but for the outputs.
    let nohup = ["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""];
    let mut command = started_by(&nohup, &place, &["process", "-"]);
    let mut running = place.start(command.stdin(Stdio::piped()));
    write_to(&mut running, &common::message("a", "one"));
    until("the first result", || place.read("stdout").ends_with('\n'));
    running.signal(Signal::SIGHUP);
    write_to(&mut running, &common::message("a", "two"));
    until("the second result", || {
        place.read("stdout").matches('\n').count() == 2
    });
    drop(running.child().stdin.take());
    let ended = running.ended();
    assert_eq!(ended.results(0).len(), 2);
    assert!(!ended.stderr.contains("finishing"), "{}", ended.stderr);
}

#[test]
fn without_it_the_end_of_the_terminal_ends_it() {
    interrupted(Signal::SIGHUP, 129);
}
