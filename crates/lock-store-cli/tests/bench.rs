//! What `lock-store bench` measures, and how it says it.

#![allow(clippy::unwrap_used)]

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::process::Stdio;

use bench::{SHORT, document, fit_together, has_all, is_empty, measure, measure_on, run, sum};
use common::{Ended, Place, until};
use redis_fixture::{Cluster, Sentinels, Server, documented_rights};

#[test]
fn people_get_a_table_and_histograms() {
    let (server, place) = (Server::start(), Place::new());
    let url = server.url();
    let arguments = ["--redis", &url, "--tasks", "8", "--waiters", "4"];
    // In the head, and in each histogram.
    let marks = |ended: &Ended, mark| ended.stdout.matches(mark).count();
    let (ended, seconds) = measure(&place, &arguments, |ended| marks(ended, " p99") == 3);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines[0], format!("Redis at 127.0.0.1:{}", server.port()));
    let settings = "1 process, 8 tasks, 8 conversations";
    let times = format!("{seconds} s after a warm-up of 0.1 s");
    assert_eq!(lines[1], format!("{settings}; {times}"));
    for begin in [
        "cycles per second ",
        "errors              0",
        "round trip of PING ",
        "lock + release, 1 task ",
        "lock + release, 8 tasks at once ",
        "hand-off, 4 waiters ",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(begin)),
            "{begin}: {lines:#?}"
        );
    }
    // Of the load and of the hand-offs, each with all marks.
    for mark in [" p50", " p90", " p99"] {
        let marked = lines
            .iter()
            .filter(|line| line.contains('█') && line.contains(mark));
        assert!(marked.count() <= 2, "{lines:#?}");
        assert_eq!(marks(&ended, mark), 3, "{mark}: {lines:#?}");
    }
    is_empty(&server);
}

#[test]
fn programs_get_figures_that_fit_together() {
    let (server, place) = (Server::start(), Place::new());
    let (ended, seconds) = measure_on(&place, &server, &["--json", "--tasks", "8"]);
    let document = document(&ended, 0);
    let load = &document["load"];
    for times in [
        &document["round_trip"],
        &document["one_task"],
        &load["cycle"],
        &document["hand_off"],
    ] {
        fit_together(times);
    }
    let cycles = load["cycles"].as_u64().unwrap();
    assert_eq!(load["cycle"]["count"], cycles);
    assert_eq!(sum(&load["throughput"], "cycles"), cycles);
    assert_eq!(load["cycles_by_process"], serde_json::json!([cycles]));
    assert_eq!(load["measured_seconds"], seconds);
    #[allow(clippy::cast_precision_loss)]
    let per_second = cycles as f64 / seconds;
    assert!((load["cycles_per_second"].as_f64().unwrap() - per_second).abs() < 0.01);
    let lengths = load["throughput"].as_array().unwrap().iter();
    let length: f64 = lengths
        .map(|part| part["length_seconds"].as_f64().unwrap())
        .sum();
    assert!((length - seconds).abs() < 1e-9, "{length}");
    assert_eq!(load["contended"], false);
    assert_eq!(document["errors"]["count"], 0);
    assert_eq!(document["interrupted"], false);
    let clean_up = serde_json::json!({"complete": true, "removed": 0});
    assert_eq!(document["clean_up"], clean_up);
    assert_eq!(document["settings"]["conversations"], 8);
    assert_eq!(document["store"]["deployment_mode"], "standard");
    is_empty(&server);
}

#[test]
fn processes_share_their_conversations_and_their_line() {
    let (server, place) = (Server::start(), Place::new());
    let more = [
        "--processes",
        "3",
        "--tasks",
        "2",
        "--conversations",
        "2",
        "--waiters",
        "5",
    ];
    let more = [&["--json"][..], &more].concat();
    let document = document(&measure_on(&place, &server, &more).0, 0);
    let load = &document["load"];
    let by_process = load["cycles_by_process"].as_array().unwrap();
    assert_eq!(by_process.len(), 3);
    let all: Vec<_> = by_process
        .iter()
        .map(|cycles| cycles.as_u64().unwrap())
        .collect();
    assert!(all.iter().all(|cycles| *cycles > 0), "{all:?}");
    assert_eq!(all.iter().sum::<u64>(), load["cycles"].as_u64().unwrap());
    assert_eq!(
        sum(&load["throughput"], "cycles"),
        load["cycles"].as_u64().unwrap()
    );
    assert_eq!(load["contended"], true);
    for times in [&document["one_task"], &load["cycle"], &document["hand_off"]] {
        fit_together(times);
    }
    is_empty(&server);
}

#[test]
fn one_waiter_hands_on_from_client_to_client_and_none_is_left_out() {
    let (server, place) = (Server::start(), Place::new());
    let (ended, _) = measure_on(&place, &server, &["--json", "--waiters", "1"]);
    fit_together(&document(&ended, 0)["hand_off"]);
    let (ended, _) = measure_on(&place, &server, &["--json", "--waiters", "0"]);
    assert!(document(&ended, 0)["hand_off"].is_null());
    let url = server.url();
    let none = [&SHORT[..], &["--redis", &url, "--waiters", "0"]].concat();
    assert!(!run(&place, &none).stdout.contains("hand-off"));
}

#[test]
fn in_memory_it_works_too() {
    let place = Place::new();
    let (ended, _) = measure(&place, &["--json", "--tasks", "2"], has_all);
    let document = document(&ended, 0);
    assert_eq!(document["store"]["place"], "in memory");
    assert_eq!(document["store"]["type"], "in_memory");
    assert!(document["round_trip"].is_null());
    assert!(document["store"]["deployment_mode"].is_null());
    for times in [
        &document["one_task"],
        &document["load"]["cycle"],
        &document["hand_off"],
    ] {
        fit_together(times);
    }
    let ended = run(&place, &["--processes", "2"]);
    refuses(
        &ended,
        &[
            "in memory",
            "--processes 2 makes no sense",
            "--redis redis://",
        ],
    );
}

/// With a configuration of this place, and nothing left on any server.
#[track_caller]
fn works_with(block: &str, mode: &str) {
    let place = Place::new();
    place.write(
        "endpoints.yml",
        format!("lock_store:\n  type: redis\n{block}"),
    );
    let options = ["--json", "--processes", "2", "--tasks", "4"];
    let document = document(&measure(&place, &options, has_all).0, 0);
    assert_eq!(document["store"]["deployment_mode"], mode);
    assert!(document["load"]["cycles"].as_u64() > Some(0));
    fit_together(&document["hand_off"]);
}

#[test]
fn it_works_with_sentinel() {
    let sentinels = Sentinels::start();
    let list = sentinels.sentinel_addresses().join(", ");
    let name = sentinels.master_name();
    let block =
        format!("  deployment_mode: sentinel\n  endpoints: [{list}]\n  sentinel_service: {name}\n");
    works_with(&block, "sentinel");
    is_empty(sentinels.master());
}

#[test]
fn it_works_on_a_cluster() {
    let cluster = Cluster::start();
    let list = cluster.addresses().join(", ");
    let block = format!("  deployment_mode: cluster\n  endpoints: [{list}]\n");
    works_with(&block, "cluster");
    for node in cluster.nodes() {
        until("the replicas have heard of it", || {
            node.command(&["DBSIZE"]).integer() == 0
        });
    }
}

#[test]
fn a_user_who_may_touch_its_prefix_only_can_run_it() {
    // Those of the documentation, for another prefix.
    let rights = documented_rights("bot").replace("lock-store:", "bot:");
    let server = Server::builder().acl_user("bot", "secret", &rights).start();
    let place = Place::new();
    let (url, rest) = (server.url(), "  username: bot\n  password: secret\n");
    let block = |prefix| format!("  url: {url}\n{rest}  key_prefix: {prefix}\n");
    let write = |prefix| {
        let text = format!("lock_store:\n  type: redis\n{}", block(prefix));
        place.write("endpoints.yml", text);
    };
    write("bot");
    let ended = run(
        &place,
        &[&SHORT[..], &["--json", "--processes", "2"]].concat(),
    );
    let document = document(&ended, 0);
    assert_eq!(document["clean_up"]["complete"], true);
    assert!(!format!("{document}{}", ended.stderr).contains("secret"));
    is_empty(&server);
    write("other");
    refuses(
        &run(&place, &SHORT),
        &["does not let this user do what is needed"],
    );
}

/// Asserts that it refused, with one line.
#[track_caller]
fn refuses(ended: &Ended, texts: &[&str]) {
    ended.says(2, texts);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[test]
fn without_a_redis_it_says_so() {
    let server = Server::start();
    server.kill();
    let place = Place::new();
    let url = server.url();
    refuses(
        &run(&place, &["--redis", &url]),
        &["cannot reach Redis at 127.0.0.1:"],
    );
    // Nothing to fall back to: that would be measured instead.
    place.write(
        "endpoints.yml",
        format!("lock_store:\n  type: redis\n  url: {url}\n"),
    );
    refuses(
        &run(&place, &["--processes", "2"]),
        &["cannot reach Redis at 127.0.0.1:"],
    );
}

#[test]
fn wrong_values_are_told_with_right_ones() {
    let place = Place::new();
    for (arguments, texts) in [
        (["--tasks", "0"], ["--tasks", "1..=10000"]),
        (["--conversations", "0"], ["--conversations", "1..=100000"]),
        (["--waiters", "many"], ["--waiters", "many"]),
        (["--processes", "300"], ["--processes", "1..=256"]),
        (["--seconds", "0"], ["--seconds", "from 0.001 to 2592000"]),
        (["--warm-up", "soon"], ["--warm-up", "from 0 to 2592000"]),
        (
            ["--plot", "bench.png"],
            ["--plot bench.png", "ends with .svg"],
        ),
        (
            ["--plot", "no/where.svg"],
            ["--plot no/where.svg", "No such file"],
        ),
    ] {
        let ended = run(&place, &arguments);
        ended.says(2, &texts);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    let place = Place::new();
    let arguments = [&SHORT[..], &["--tasks", "1"]].concat();
    let mut command = bench::bench(&place, &arguments);
    let mut running = place.start(command.stdout(Stdio::piped()));
    drop(running.child().stdout.take());
    let ended = running.ended();
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
}
