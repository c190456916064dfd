//! The metrics of a process while it works.

#![allow(clippy::unwrap_used)]

mod common;
mod scraping;

use std::net::{TcpListener, TcpStream};

use common::{Ended, Place, until, wait_for};
use scraping::Scraped;

/// Three messages of anna, one of bob; each waits for its file.
fn waiting_for_files(options: &[&str]) -> Scraped {
    let place = Place::new();
    place.messages(
        [("anna", "1"), ("anna", "2"), ("anna", "3"), ("bob", "4")]
            .map(|(sender, text)| (sender, text.to_owned())),
    );
    let script = format!(
        "read -r line; {}",
        wait_for("\"go-$LOCK_STORE_CONVERSATION_ID-$LOCK_STORE_TICKET\"")
    );
    let arguments = ["input.jsonl", "--metrics", "127.0.0.1:0"];
    let handler = ["--", "sh", "-c", &script];
    let command = place.command([&arguments, options, &handler].concat());
    Scraped::started(place, command)
}

#[test]
fn they_tell_what_the_process_does_and_end_with_it() {
    let process = waiting_for_files(&[]);
    let seen = process.scrape_until("both conversations are served", |seen| {
        seen.has("lock_store_held", 2) && seen.has("lock_store_waiting", 2)
    });
    seen.assert_has(&[
        ("lock_store_acquired_total{contended=\"false\"}", 2),
        ("lock_store_acquired_total{contended=\"true\"}", 0),
        ("lock_store_failed_total{reason=\"timed_out\"}", 0),
        ("lock_store_lost_total", 0),
        ("lock_store_degraded", 0),
    ]);
    // In memory there is no connection that could be missing.
    assert!(!seen.names().contains(&"lock_store_connected"));
    for go in ["go-anna-0", "go-anna-1"] {
        process.place.write(go, "");
    }
    let seen = process.scrape_until("the third is served", |seen| {
        seen.has("lock_store_acquired_total{contended=\"true\"}", 2)
    });
    seen.assert_has(&[
        ("lock_store_waiting", 0),
        ("lock_store_hold_duration_seconds_count", 2),
        (
            "lock_store_acquire_duration_seconds_count{contended=\"true\"}",
            2,
        ),
        (
            "lock_store_acquire_duration_seconds_bucket{contended=\"true\",le=\"+Inf\"}",
            2,
        ),
    ]);
    assert!(seen.value("lock_store_hold_duration_seconds_sum") > 0.0);
    // A lock goes from hand to hand in the process: no wake-up is needed.
    let advances = "lock_store_operation_duration_seconds_count{operation=\"advance\"}";
    assert!(seen.value(advances) >= 1.0);
    for bucket in ["0.0001", "0.001", "10"] {
        let labels = format!("operation=\"issue\",le=\"{bucket}\"");
        seen.value(&format!(
            "lock_store_operation_duration_seconds_bucket{{{labels}}}"
        ));
    }
    process.place.write("go-anna-2", "");
    process.place.write("go-bob-0", "");
    let address = process.address.clone();
    process.running.ended().results(0);
    assert!(TcpStream::connect(address).is_err());
}

/// Whoever wants nothing said still has to learn the port.
#[test]
fn the_port_is_said_to_the_quiet_too() {
    let process = waiting_for_files(&["--quiet"]);
    let said = process.place.read("stderr");
    let address = &process.address;
    assert_eq!(said, format!("metrics are at http://{address}/metrics\n"));
}

#[test]
fn a_port_that_was_asked_for_is_not_worth_a_line() {
    // Another program may take the port before it does.
    let mut tries = std::iter::repeat_with(listens_at_a_port).take(20);
    let ended = tries.find(|ended| !ended.stderr.contains("another program does"));
    let ended = ended.unwrap();
    ended.results(0);
    assert_eq!(ended.stderr, "");
}

/// Runs until somebody listens at a port that was free.
fn listens_at_a_port() -> Ended {
    let place = Place::new();
    place.messages([("anna", "1".to_owned())]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap();
    drop(listener);
    let script = wait_for("go");
    let address = port.to_string();
    let arguments = ["input.jsonl", "--quiet", "--metrics", &address];
    let handler = ["--", "sh", "-c", &script];
    let mut command = place.command([&arguments[..], &handler].concat());
    let mut running = place.start(&mut command);
    until("it listens", || {
        TcpStream::connect(port).is_ok() || !running.is_running()
    });
    place.write("go", "");
    running.ended()
}

#[test]
fn an_address_that_cannot_be_is_told_at_the_start() {
    let place = Place::new();
    place.messages([("anna", "1".to_owned())]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let ended = place.process(&["--metrics", &taken]);
    ended.says(
        2,
        &["cannot listen at", "another program does", "--metrics"],
    );
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.lines().count()),
        ("", 1)
    );
    for wrong in ["9464", "localhost", "127.0.0.1:http"] {
        let ended = place.process(&["--metrics", wrong]);
        ended.says(2, &["--metrics", "such as 127.0.0.1:9464"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn exec_serves_its_own_too() {
    let server = redis_fixture::Server::start();
    let place = Place::new();
    let (url, script) = (server.url(), wait_for("go"));
    let arguments = ["exec", "a", "--metrics", "127.0.0.1:0", "--redis", &url];
    let command = common::bare(
        &place,
        &[&arguments[..], &["--", "sh", "-c", &script]].concat(),
    );
    let exec = Scraped::started(place, command);
    let seen = exec.scrape_until("the lock is held", |seen| seen.has("lock_store_held", 1));
    seen.assert_has(&[
        ("lock_store_connected", 1),
        ("lock_store_acquired_total{contended=\"false\"}", 1),
    ]);
    exec.place.write("go", "");
    assert_eq!(exec.running.ended().status.code(), Some(0));
}
