//! `lock-store bench` does not come to its end undisturbed.

#![allow(clippy::unwrap_used)]

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::fs;

use bench::{begun, begun_with, document, has_locks, is_empty, sum};
use common::{Place, Running, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis_fixture::Server;

/// Measuring the load: a conversation with a number has a lock.
fn loaded(place: &Place, server: &Server, arguments: &[&str]) -> Running {
    begun_with(place, arguments, || {
        let keys = server.command(&["KEYS", bench::KEYS]).texts();
        let number = |key: &String| key.rsplit('-').next()?.parse::<u32>().ok();
        keys.iter().any(|key| number(key).is_some())
    })
}

/// Its children, by what Linux says of each process.
fn children(running: &Running) -> Vec<Pid> {
    let parent = running.pid().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name may have anything in it.
        let (pid, rest) = (stat.split(' ').next()?, stat.rsplit(')').next()?);
        let is_child = rest.split_whitespace().nth(1) == Some(parent.as_str());
        is_child
            .then(|| Pid::from_raw(pid.parse().ok()?).into())
            .flatten()
    });
    pids.collect()
}

/// Waits until nobody is connected any more.
fn until_alone(server: &Server) {
    until("all connections are closed", || {
        let clients = server.command(&["CLIENT", "LIST"]).text();
        clients.lines().count() == 1
    });
}

fn is_interrupted(signal: Signal, code: i32, more: &[&str]) {
    let (server, place) = (Server::start(), Place::new());
    let more = [&["--seconds", "4", "--plot", "so-far.svg"][..], more].concat();
    // Long enough that the load is not over before the signal comes.
    let arguments = ["--redis", &server.url(), "--json", "--warm-up", "0"];
    let running = loaded(&place, &server, &[&arguments[..], &more].concat());
    running.signal(signal);
    let ended = running.ended();
    let document = document(&ended, code);
    ended.says(
        code,
        &["stopping, and cleaning up", "these are the results so far"],
    );
    assert_eq!(document["interrupted"], true);
    bench::fit_together(&document["one_task"]);
    let load = &document["load"];
    assert!(load["measured_seconds"].as_f64().unwrap() < 4.0);
    assert_eq!(load["cycle"]["count"], load["cycles"]);
    assert_eq!(
        sum(&load["throughput"], "cycles"),
        load["cycles"].as_u64().unwrap()
    );
    assert_eq!(document["hand_off"]["count"], 0);
    assert_eq!(document["errors"]["count"], 0, "{document}");
    assert_eq!(document["clean_up"]["complete"], true);
    assert!(place.read("so-far.svg").contains("interrupted"));
    until_alone(&server);
    is_empty(&server);
}

#[test]
fn ctrl_c_leaves_nothing_and_tells_what_was_measured() {
    is_interrupted(Signal::SIGINT, 130, &[]);
}

#[test]
fn so_does_a_polite_kill_of_several_processes() {
    let more = ["--processes", "2", "--conversations", "3", "--tasks", "4"];
    is_interrupted(Signal::SIGTERM, 143, &more);
}

#[test]
fn a_second_one_stops_at_once_and_says_what_may_be_left() {
    let (server, place) = (Server::start(), Place::new());
    let running = begun(&place, &server, &["--processes", "2"]);
    server.freeze();
    running.signal(Signal::SIGINT);
    until("the first is noticed", || {
        place.read("stderr").contains("once more")
    });
    running.signal(Signal::SIGINT);
    let ended = running.ended();
    let left = "-… under the prefix lock-store may be left, and expire within 60 s";
    ended.says(
        130,
        &[
            "stopped at once; keys of conversations lock-store-bench-",
            left,
        ],
    );
    assert_eq!(ended.stdout, "");
    server.thaw();
    until_alone(&server);
}

#[test]
fn children_end_with_their_parent_however_it_ends() {
    let all_is_given_back = || {
        let (server, place) = (Server::start(), Place::new());
        let running = begun(&place, &server, &["--processes", "2"]);
        running.signal(Signal::SIGKILL);
        running.ended();
        until_alone(&server);
        server.command(&["DBSIZE"]).integer() == 0
    };
    // They have 2 s for that, which may be too few on a busy machine.
    assert!((0..3).any(|_| all_is_given_back()));
}

#[test]
fn a_process_that_dies_is_an_error_and_the_others_count() {
    let (server, place) = (Server::start(), Place::new());
    let url = server.url();
    let arguments = ["--redis", &url, "--json", "--processes", "2"];
    let arguments = [&arguments[..], &["--seconds", "1", "--warm-up", "0"]].concat();
    let running = begun_with(&place, &arguments, || has_locks(&server));
    let children = children(&running);
    assert_eq!(children.len(), 2);
    kill(children[1], Signal::SIGKILL).unwrap();
    let ended = running.ended();
    let document = document(&ended, 1);
    let kinds = document["errors"]["kinds"].as_array().unwrap();
    let died = kinds.iter().find(|kind| kind["kind"] == "process").unwrap();
    let example = died["example"].as_str().unwrap();
    assert!(example.starts_with("process ") && example.ends_with("killed by signal 9"));
    assert!(document["load"]["cycles"].as_u64() > Some(0));
    assert_eq!(document["clean_up"]["complete"], true);
    is_empty(&server);
}

/// A Redis that goes away while the load is measured.
#[track_caller]
fn loses_its_redis(cut: impl Fn(&Server)) {
    let (server, place) = (Server::start(), Place::new());
    let url = server.url();
    let block = format!("lock_store:\n  type: redis\n  url: {url}\n  socket_timeout: 0.5\n");
    place.write("endpoints.yml", block);
    let arguments = [
        "--seconds",
        "1",
        "--warm-up",
        "0",
        "--tasks",
        "5",
        "--plot",
        "lost.svg",
    ];
    let running = loaded(&place, &server, &arguments);
    cut(&server);
    let ended = running.ended();
    ended.says(
        1,
        &[
            "could not clean up (",
            "keys of conversations lock-store-bench-",
        ],
    );
    assert!(
        ended.stdout.contains(" × unavailable: "),
        "{}",
        ended.stdout
    );
    assert!(
        !ended.stdout.contains("errors              0\n"),
        "{}",
        ended.stdout
    );
    assert!(place.read("lost.svg").contains("errors: "));
    if server.is_running() {
        server.thaw();
    }
}

#[test]
fn a_redis_that_is_lost_is_named_and_counted() {
    loses_its_redis(Server::kill);
}

#[test]
fn so_is_one_that_is_frozen() {
    loses_its_redis(Server::freeze);
}

#[test]
fn lost_data_are_errors_of_their_own_kind() {
    let (server, place) = (Server::start(), Place::new());
    let arguments = [
        "--redis",
        &server.url(),
        "--json",
        "--tasks",
        "8",
        "--conversations",
        "1",
    ];
    let arguments = [&arguments[..], &["--seconds", "1", "--warm-up", "0"]].concat();
    let mut running = loaded(&place, &server, &arguments);
    while running.is_running() {
        server.command(&["FLUSHALL"]).ok();
    }
    let ended = running.ended();
    let document = document(&ended, 1);
    let kinds = document["errors"]["kinds"].as_array().unwrap();
    let known = ["gone", "lost"];
    assert!(
        kinds
            .iter()
            .all(|kind| known.contains(&kind["kind"].as_str().unwrap())),
        "{kinds:?}"
    );
    assert_eq!(
        sum(&document["errors"]["kinds"], "count"),
        document["errors"]["count"].as_u64().unwrap()
    );
}
