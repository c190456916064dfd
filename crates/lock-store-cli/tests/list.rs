//! `list`: what it shows, and what it asks of Redis.

#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use std::fs::File;
use std::process::Stdio;

use common::until;
use fleet::{Fleet, bare, connections_are_checked, json_lines};

/// Three locks: `a` with two waiting, `b` with one, `c\n` with none.
fn three() -> (Fleet, impl Sized) {
    let fleet = Fleet::new();
    let guards = ["a", "b", "c\n"].map(|id| fleet.lock(id));
    let waiting = ["a", "a", "b"].map(|id| fleet.queue(id));
    (fleet, (guards, waiting))
}

fn ids(fleet: &Fleet, options: &[&str]) -> Vec<String> {
    let ended = fleet.run("list", &[options, &["--json"]].concat());
    ended.says(0, &[]);
    assert_eq!(ended.stderr, "");
    let lines = json_lines(&ended);
    let id = |line: &serde_json::Value| line["conversation_id"].as_str().unwrap().to_owned();
    lines.iter().map(id).collect()
}

#[test]
fn a_table_for_people() {
    let (fleet, _locks) = three();
    let ended = fleet.run("list", &["--sort", "id"]);
    ended.says(0, &["3 conversations, 3 tickets waiting"]);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ended.stdout);
    let header: Vec<_> = lines[0].split("  ").map(str::trim).collect();
    let header: Vec<_> = header.into_iter().filter(|name| !name.is_empty()).collect();
    assert_eq!(
        header,
        [
            "TICKET",
            "WAITING",
            "OLDEST WAIT",
            "LEASE LEFT",
            "AGE",
            "CONVERSATION"
        ]
    );
    let words: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!((words[0], words[1]), ("0", "2"));
    assert!(lines[1].ends_with(" s  a"), "{}", lines[1]);
    // Nothing that an id has in it moves the cursor.
    assert!(lines[3].ends_with(r"c\n"), "{}", lines[3]);
    // Nobody waits there.
    assert_eq!(lines[3].split_whitespace().nth(2), Some("-"));
    let begins = lines[0].find("CONVERSATION").unwrap();
    assert!(
        lines
            .iter()
            .all(|line| line.chars().nth(begins - 1) == Some(' '))
    );
}

#[test]
fn json_for_scripts() {
    let (fleet, _locks) = three();
    let ended = fleet.run("list", &["--json", "--sort", "id"]);
    let lines = json_lines(&ended);
    let first = lines[0].as_object().unwrap();
    assert_eq!(first["conversation_id"], "a");
    assert_eq!(first["ticket"], 0);
    assert_eq!(first["waiting"], 2);
    assert_eq!(first["state"], "claimed");
    assert_eq!(first["expired"], false);
    assert!(first["fencing_token"].as_u64().unwrap() > 1_700_000_000_000_000);
    assert!(first["owner"].as_str().unwrap().contains('.'));
    for name in ["oldest_wait_seconds", "lease_left_seconds", "age_seconds"] {
        assert!(first[name].as_f64().unwrap() > 0.0, "{name}");
    }
    assert_eq!(lines[2]["conversation_id"], "c\n");
    assert_eq!(lines[2]["oldest_wait_seconds"], 0.0);
}

#[test]
fn chosen_and_put_in_order() {
    let (fleet, _locks) = three();
    let mut all = ids(&fleet, &[]);
    all.sort();
    assert_eq!(all, ["a", "b", "c\n"]);
    assert_eq!(ids(&fleet, &["--sort", "waiting"]), ["a", "b", "c\n"]);
    assert_eq!(ids(&fleet, &["--sort", "age", "--limit", "2"]), ["a", "b"]);
    assert_eq!(ids(&fleet, &["--sort", "wait"]), ["a", "b", "c\n"]);
    assert_eq!(ids(&fleet, &["--sort", "lease", "--limit", "1"]), ["a"]);
    assert_eq!(ids(&fleet, &["--limit", "2"]).len(), 2);
    assert_eq!(ids(&fleet, &["--waiting-more-than", "1"]), ["a"]);
    let some = ids(&fleet, &["--waiting-more-than", "0", "--sort", "id"]);
    assert_eq!(some, ["a", "b"]);
    fleet
        .run("list", &["--waiting-more-than", "9"])
        .says(0, &["no conversation has more than 9 waiting"]);
}

#[test]
fn nothing_is_no_failure() {
    let fleet = Fleet::new();
    let ended = fleet.run("list", &[]);
    ended.says(0, &["no conversation has a lock"]);
    assert_eq!(ended.stdout, "");
    assert_eq!(fleet.run("list", &["--json"]).stdout, "");
}

#[test]
fn a_damaged_lock_is_told_and_hides_no_other() {
    let (fleet, _locks) = three();
    let key = "lock-store:tickets:broken\u{1b}[2J";
    fleet.server.command(&["SET", key, "x"]).ok();
    let ended = fleet.run("list", &["--json"]);
    ended.says(1, &["error: the stored lock is damaged", "broken"]);
    assert!(!ended.stderr.contains('\u{1b}'));
    assert_eq!(json_lines(&ended).len(), 3);
}

#[test]
fn wrong_use_is_told() {
    let fleet = Fleet::new();
    fleet
        .run("list", &["--sort", "colour"])
        .says(2, &["waiting, wait, age, lease, id"]);
    fleet.run("list", &["--limit", "0"]).says(2, &["--limit"]);
    connections_are_checked("list", &[]);
}

/// So many that a step which looks at all of them would be seen.
const MANY: usize = 20_000;

/// Copies a lock to many conversations, behind the back of the store.
fn with_many() -> Fleet {
    let fleet = Fleet::new();
    let running = fleet.lock("c0");
    let copy = "local head = redis.call('LINDEX', KEYS[1], 0)
                for i = 1, tonumber(ARGV[1]) - 1 do
                    redis.call('RPUSH', 'lock-store:tickets:c' .. i, head)
                end";
    let key = "lock-store:tickets:c0";
    let reply = fleet
        .server
        .command(&["EVAL", copy, "1", key, &MANY.to_string()]);
    assert!(!reply.is_error(""), "{reply:?}");
    // It is to stay.
    std::mem::forget(running);
    fleet
}

#[test]
fn many_are_looked_at_in_small_steps() {
    let fleet = with_many();
    fleet.server.command(&["CONFIG", "RESETSTAT"]).ok();
    let ended = fleet.run("list", &["--json"]);
    ended.says(0, &[]);
    assert_eq!(ended.stdout.lines().count(), MANY);
    let stats = fleet.server.command(&["INFO", "commandstats"]).text();
    let calls = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name));
        let calls = line.and_then(|line| line.strip_prefix(":calls="));
        calls.map_or(0, |calls| {
            calls.split(',').next().unwrap().parse::<usize>().unwrap()
        })
    };
    // No command looks at more than a few hundred keys, or a whole queue.
    assert!(calls("cmdstat_scan") >= MANY / 1000, "{stats}");
    assert!(calls("cmdstat_lrange") >= MANY);
    for slow in ["keys", "sort", "smembers", "zrange", "hgetall", "flushall"] {
        assert_eq!(calls(&format!("cmdstat_{slow}")), 0, "{stats}");
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let fleet = with_many();
    let mut command = bare(&fleet.place, &["list", "--redis", &fleet.url]);
    command.stdout(Stdio::piped());
    let mut running = fleet.place.start(&mut command);
    drop(command);
    drop(running.child().stdout.take());
    until("its end", || !running.is_running());
    let ended = running.ended();
    ended.says(0, &[]);
    assert_eq!(ended.stderr, "");
    // A full disk is another matter.
    let mut command = bare(&fleet.place, &["list", "--redis", &fleet.url]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    fleet
        .place
        .start(&mut command)
        .ended()
        .says(2, &["cannot write to standard output"]);
}
