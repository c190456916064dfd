//! Several processes share the conversations of one Redis.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{Place, Running, assert_each_once_in_order, until_exists, wait_for};
use nix::sys::signal::Signal;
use redis_fixture::Server;

const NAMES: [&str; 5] = ["anna", "ben", "cleo", "dan", "eve"];

/// Enters and leaves a place of its conversation in which nobody else may be,
/// and writes that down, in the folder $ALL.
const CRITICAL: &str = r#"
    set -C
    id=$LOCK_STORE_CONVERSATION_ID
    : > "$ALL/inside.$id" || { echo "$id" >> "$ALL/overlaps"; exit 9; }
    echo "begin $id $LOCK_STORE_FENCING_TOKEN" >> "$ALL/journal"
    sleep 0.01
    echo "end $id $LOCK_STORE_FENCING_TOKEN" >> "$ALL/journal"
    rm "$ALL/inside.$id"
    echo well
"#;

/// Starts it over the input of `place`, with `script` for each message.
fn start(all: &Place, place: &Place, options: &[&str], script: &str) -> Running {
    let mut command = place.command(["input.jsonl"]);
    command
        .args(options)
        .args(["--", "sh", "-c", script])
        .env("ALL", all.path(""));
    place.start(&mut command)
}

/// Asserts that the processings of each conversation came one after the other,
/// under tokens that rise, and returns how many there were.
fn assert_in_turn(journal: &str) -> usize {
    let mut last: HashMap<&str, (&str, u64)> = HashMap::new();
    let mut count = 0;
    for line in journal.lines() {
        let mut words = line.split(' ');
        let (what, id) = (words.next().unwrap(), words.next().unwrap());
        let token: u64 = words.next().unwrap().parse().unwrap();
        match (what, last.insert(id, (what, token))) {
            ("begin", None) => count += 1,
            ("begin", Some(("end", before))) if before < token => count += 1,
            ("end", Some(("begin", before))) if before == token => {}
            (_, before) => panic!("{line:?} after {before:?}"),
        }
    }
    assert!(last.values().all(|(what, _)| *what == "end"));
    count
}

#[test]
fn three_processes_at_once() {
    const EACH: usize = 80;
    let server = Server::start();
    let all = Place::new();
    let places: Vec<_> = (0..3)
        .map(|p| {
            let place = Place::new();
            place.messages((0..EACH).map(|i| (NAMES[(i * 2 + p + i / 7) % 5], i.to_string())));
            place
        })
        .collect();
    let url = server.url();
    let options = ["--redis", &url];
    let running: Vec<_> = places
        .iter()
        .map(|place| start(&all, place, &options, CRITICAL))
        .collect();
    for running in running {
        let ended = running.ended();
        let results = ended.results(0);
        assert_each_once_in_order(&results, EACH as u64);
        assert!(results.iter().all(|result| result["response"] == "well"));
        assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
    }
    assert_eq!(all.read("overlaps"), "");
    assert_eq!(assert_in_turn(&all.read("journal")), 3 * EACH);
    assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
}

/// Ended by SIGKILL while it processes a message, and with more tickets behind
/// it: the lease of the first ends, and then its client is taken for dead.
#[test]
fn the_others_go_on_when_one_is_killed() {
    let server = Server::start();
    let all = Place::new();
    let block = format!(
        "lock_store:\n  type: redis\n  url: {}\n  fallback: none\n  claim_window: 1\n",
        server.url()
    );
    all.write("endpoints.yml", block);
    let endpoints = all.path("endpoints.yml");
    let options = [
        "--lifetime",
        "3",
        "--endpoints",
        endpoints.to_str().unwrap(),
    ];
    let victim = Place::new();
    victim.messages((0..10).map(|i| ("anna", i.to_string())));
    let script = format!("cd \"$ALL\"; touch begun; {}", wait_for("go"));
    let mut killed = start(&all, &victim, &options, &script);
    until_exists(all.path("begun"));
    // All ten have their tickets before the others come.
    common::until("the queue", || {
        server.command(&["KEYS", "*"]).list().len() == 1 && queue_length(&server) == 10
    });
    let others = [0, 1].map(|_| {
        let place = Place::new();
        place.messages((0..4).map(|i| ("anna", i.to_string())));
        let running = start(&all, &place, &options, CRITICAL);
        (place, running)
    });
    common::until("the queue", || queue_length(&server) == 18);
    killed.signal(Signal::SIGKILL);
    common::until("its end", || !killed.is_running());
    let since = Instant::now();
    until_exists(all.path("journal"));
    let took = since.elapsed();
    // A lease and a claim window, and time for a busy machine.
    assert!(took < Duration::from_secs(10), "{took:?}");
    for (_place, running) in others {
        let results = running.ended().results(0);
        assert_each_once_in_order(&results, 4);
    }
    assert_eq!(all.read("overlaps"), "");
    assert_eq!(assert_in_turn(&all.read("journal")), 8);
    assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
    // The command of the killed one goes on by itself.
    all.write("go", "");
}

/// How many tickets are in the only queue.
fn queue_length(server: &Server) -> i64 {
    let keys = server.command(&["KEYS", "*tickets*"]).list();
    match keys.first() {
        Some(key) => server.command(&["LLEN", &key.clone().text()]).integer(),
        None => 0,
    }
}
