//! Several processes on one conversation, one after the other.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::time::Duration;

use redis_fixture::Server;

use support::processes::{Process, counter, nothing_is_left, obey, tokens};

const PROCESSES: usize = 4;
const TASKS: usize = 8;
const ROUNDS: usize = 125;

/// Nobody dies, so nobody is to be taken for dead, however slow.
const WINDOW: Duration = Duration::from_secs(60);

/// Lets all processes do it at once; says so many acquisitions did not meet.
fn never_meet(order: &str, all: usize) {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(counter(folder.path()), "0").unwrap();
    let start = |_| Process::start(&server, WINDOW);
    let mut processes: Vec<_> = (0..PROCESSES).map(start).collect();
    for process in &mut processes {
        process.say(&order.replace("FOLDER", &folder.path().display().to_string()));
    }
    for process in processes {
        process.hears("worked");
        process.ends();
    }
    assert_eq!(
        fs::read_to_string(counter(folder.path())).unwrap(),
        all.to_string()
    );
    let tokens = fs::read_to_string(tokens(folder.path())).unwrap();
    let tokens: Vec<u64> = tokens.lines().map(|token| token.parse().unwrap()).collect();
    assert_eq!(tokens.len(), all);
    assert!(tokens.is_sorted_by(|earlier, later| earlier < later));
    nothing_is_left(&server);
}

#[test]
fn thousands_of_acquisitions_never_meet() {
    let all = PROCESSES * TASKS * ROUNDS;
    never_meet(&format!("work FOLDER {TASKS} {ROUNDS}"), all);
}

/// Each process has several tickets in a row, and hands over between them while
/// the other processes queue.
#[test]
fn thousands_of_hand_overs_never_meet() {
    const TICKETS: usize = 20;
    let rounds = TASKS * ROUNDS / TICKETS;
    let all = PROCESSES * TICKETS * rounds;
    never_meet(&format!("line FOLDER {TICKETS} {rounds}"), all);
}

/// Not a test, but the other processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests"]
async fn child() {
    obey().await;
}
