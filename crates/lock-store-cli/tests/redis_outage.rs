//! Redis goes away, and comes back with or without its data.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{
    Place, Running, assert_each_once_in_order, message, until, until_exists, wait_for, write_to,
};
use nix::sys::signal::Signal;
use redis_fixture::Server;
use serde_json::Value;

/// Longer than any close may take, on a busy machine, and shorter than a lease.
const SOON: Duration = Duration::from_secs(20);

/// Reads messages as they are written to it.
fn listening(place: &Place, server: &Server, options: &[&str]) -> Running {
    let mut command = place.command(["-", "--redis", &server.url()]);
    command.args(options).stdin(Stdio::piped());
    place.start(&mut command)
}

/// Ends the server, and waits until that was noticed.
fn away(place: &Place, server: &Server) {
    server.kill();
    until("the outage is noticed", || {
        place
            .read("stderr")
            .contains("lost the connection to Redis")
    });
}

fn results(place: &Place) -> usize {
    place.read("stdout").matches('\n').count()
}

fn hear_one(place: &Place, running: &mut Running) {
    write_to(running, &message("a", "first"));
    until("the first result", || results(place) == 1);
}

#[test]
fn an_outage_is_waited_out() {
    let server = Server::start();
    let place = Place::new();
    let mut running = listening(&place, &server, &["-v"]);
    hear_one(&place, &mut running);
    away(&place, &server);
    for i in 0..20 {
        write_to(&mut running, &message(["a", "b"][i % 2], &i.to_string()));
    }
    // All are read, and ask for their tickets.
    until("the progress", || {
        place.read("stderr").contains("1 messages done")
    });
    server.restart_empty();
    until("all results", || results(&place) == 21);
    drop(running.child().stdin.take());
    let results = running.ended().results(0);
    assert_each_once_in_order(&results, 21);
    assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
}

#[test]
fn with_a_wait_timeout_it_is_an_error_of_its_message() {
    let server = Server::start();
    let place = Place::new();
    let mut running = listening(&place, &server, &["--wait-timeout", "2"]);
    hear_one(&place, &mut running);
    away(&place, &server);
    write_to(&mut running, &message("a", "second"));
    write_to(&mut running, &message("a", "third"));
    until("the errors", || results(&place) == 3);
    server.restart_empty();
    // An error for each as long as it is not connected again.
    let mut count = 3;
    until("the first that succeeds", || {
        write_to(&mut running, &message("a", "more"));
        count += 1;
        until("its result", || results(&place) == count);
        place.read("stdout").lines().last().unwrap().contains("ok")
    });
    drop(running.child().stdin.take());
    let results = running.ended().results(1);
    assert_each_once_in_order(&results, count as u64);
    for result in &results[1..3] {
        assert_eq!(result["status"], "error");
        let error = result["error"].to_string();
        assert!(error.contains("the lock store is unavailable"), "{error}");
        assert!(result["ticket"].is_null());
        // Both have waited since they were read.
        let waited = result["waited_ms"].as_f64().unwrap();
        assert!(waited >= 2000.0, "{waited}");
    }
}

fn is_interrupted_in_an_outage(cut: impl Fn(&Place, &Server)) {
    let server = Server::start();
    let place = Place::new();
    let mut running = listening(&place, &server, &[]);
    hear_one(&place, &mut running);
    cut(&place, &server);
    write_to(&mut running, &message("a", "second"));
    write_to(&mut running, &message("b", "third"));
    until("the progress", || {
        place.read("stderr").contains("1 messages done")
    });
    running.signal(Signal::SIGINT);
    // Standard input is still open.
    let stdin = running.child().stdin.take();
    let ended = running.ended();
    assert_eq!(ended.results(130).len(), 1);
    ended.says(
        130,
        &["interrupted: 2 messages were read and not begun (seq 1-2)"],
    );
    drop(stdin);
}

#[test]
fn the_first_ctrl_c_ends_it_also_without_redis() {
    is_interrupted_in_an_outage(away);
}

#[test]
fn the_first_ctrl_c_ends_it_also_when_redis_is_frozen() {
    is_interrupted_in_an_outage(|_, server| server.freeze());
}

/// Two messages are done while Redis is away, so their tickets stay. The store
/// soon stops waiting for the answers to their releases.
fn done_without_redis(place: &Place, server: &Server) -> Running {
    place.messages([("a", "first".to_owned()), ("b", "second".to_owned())]);
    let script = format!(
        "touch begun.$LOCK_STORE_CONVERSATION_ID; {}",
        wait_for("go")
    );
    let url = server.url();
    let options = ["-v", "input.jsonl", "--redis", &url];
    let mut command = place.command(options);
    command.args(["--", "sh", "-c", &script]);
    command.env("LOCK_STORE_SOCKET_TIMEOUT", "0.5");
    command.env("LOCK_STORE_CLAIM_WINDOW", "1");
    let running = place.start(&mut command);
    until_exists(place.path("begun.a"));
    until_exists(place.path("begun.b"));
    away(place, server);
    place.write("go", "");
    until("both results", || results(place) == 2);
    running
}

#[test]
fn it_closes_without_redis_and_says_what_was_not_given_back() {
    let server = Server::start();
    let place = Place::new();
    let running = done_without_redis(&place, &server);
    let since = Instant::now();
    let ended = running.ended();
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert_eq!(ended.results(0).len(), 2);
    ended.says(0, &["2 tickets were not given back within 5s"]);
}

#[test]
fn a_signal_is_heard_while_it_closes_without_redis() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::start();
        let place = Place::new();
        let running = done_without_redis(&place, &server);
        until("it closes", || {
            let log = place.read("stderr");
            log.matches("after its message was processed").count() == 2
        });
        running.signal(signal);
        let since = Instant::now();
        let ended = running.ended();
        assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
        ended.says(
            128 + signal as i32,
            &[
                "2 tickets were not given back within 2s",
                "interrupted: every message that was read was begun",
            ],
        );
    }
}

#[test]
fn a_signal_is_heard_while_a_lock_is_released_without_redis() {
    let server = Server::start();
    let place = Place::new();
    place.messages([("a", "first".to_owned())]);
    let script = format!("touch begun; {}", wait_for("go"));
    let url = server.url();
    let mut command = place.command(["input.jsonl", "--redis", &url, "--", "sh", "-c", &script]);
    let running = place.start(&mut command);
    until_exists(place.path("begun"));
    away(&place, &server);
    place.write("go", "");
    until("the result", || results(&place) == 1);
    running.signal(Signal::SIGTERM);
    let since = Instant::now();
    let ended = running.ended();
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    ended.says(143, &["1 ticket was not given back within 2s"]);
}

/// The first message is being processed when its lock is lost; the others had
/// tickets behind it.
#[test]
fn messages_whose_tickets_went_take_new_ones_in_order() {
    let server = Server::start();
    let place = Place::new();
    place.messages((0..12).map(|i| (["a", "b"][i % 2], i.to_string())));
    let script = format!(
        "touch begun.$LOCK_STORE_CONVERSATION_ID; {}; echo well",
        wait_for("go")
    );
    let url = server.url();
    let mut command = place.command(["input.jsonl", "--redis", &url, "--", "sh", "-c", &script]);
    let running = place.start(&mut command);
    until_exists(place.path("begun.a"));
    until_exists(place.path("begun.b"));
    until("all tickets", || tickets(&server) == 12);
    server.restart_empty();
    until("the losses", || results(&place) == 2);
    place.write("go", "");
    let results = running.ended().results(1);
    assert_each_once_in_order(&results, 12);
    for result in results {
        if result["seq"].as_u64() < Some(2) {
            assert_eq!(result["status"], "error");
            let error = result["error"].to_string();
            assert!(error.contains("lost the lock of conversation"), "{error}");
        } else {
            assert_eq!(result["status"], "ok", "{result}");
            assert_eq!(result["response"], "well");
        }
    }
    assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
}

/// How many tickets there are in all queues.
fn tickets(server: &Server) -> i64 {
    let keys = server.command(&["KEYS", "*tickets*"]).list();
    keys.into_iter()
        .map(|key| server.command(&["LLEN", &key.text()]).integer())
        .sum()
}

#[test]
fn none_is_lost_when_redis_loses_its_data_under_load() {
    const EACH: usize = 150;
    let names = ["a", "b", "c", "d", "e"];
    let server = Server::start();
    let url = server.url();
    let running: Vec<_> = (0..3)
        .map(|p| {
            let place = Place::new();
            place.messages((0..EACH).map(|i| (names[(i + p + i / 7) % 5], i.to_string())));
            let options = ["input.jsonl", "--lifetime", "60", "--redis", &url];
            let mut command = place.command(options);
            command.args(["--", "sh", "-c", "sleep 0.01; echo well"]);
            let running = place.start(&mut command);
            (place, running)
        })
        .collect();
    let done = || {
        running
            .iter()
            .map(|(place, _)| results(place))
            .sum::<usize>()
    };
    until("they are under way", || done() >= 30);
    server.restart_empty();
    let before = done();
    until("they go on", || done() >= (before + 100).min(3 * EACH));
    server.restart_empty();
    for (_place, running) in running {
        let ended = running.ended();
        let code = ended.status.code().unwrap_or(99);
        assert!(code <= 1, "{}", ended.stderr);
        let results = ended.results(code);
        assert_each_once_in_order(&results, EACH as u64);
        let lost = |result: &&Value| result["status"] == "error";
        let errors: Vec<_> = results.iter().filter(lost).collect();
        assert_eq!(errors.is_empty(), code == 0);
        for error in errors {
            assert!(
                error["error"].to_string().contains("lost the lock"),
                "{error}"
            );
        }
    }
    assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
}
