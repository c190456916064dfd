//! `lock-store bench`, short.

#![allow(dead_code)] // not every test file needs all of it

use std::process::Command;

use redis_fixture::Server;
use serde_json::Value;

use crate::common::{Ended, Place, Running, until};

/// What the keys of a run begin with.
pub(crate) const KEYS: &str = "lock-store:tickets:lock-store-bench-*";

pub(crate) const SHORT: [&str; 4] = ["--seconds", "0.3", "--warm-up", "0.1"];
/// Surely not over before something is done to it.
pub(crate) const LONG: [&str; 4] = ["--seconds", "600", "--warm-up", "0"];

/// With these arguments, not yet started.
pub(crate) fn bench(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lock-store"));
    command
        .arg("bench")
        .args(arguments)
        .current_dir(place.path(""))
        .env_remove("RUST_LOG")
        .env_remove("TICKET_LOCK_LIFETIME")
        .stdin(std::process::Stdio::null())
        .stdout(std::fs::File::create(place.path("stdout")).unwrap())
        .stderr(std::fs::File::create(place.path("stderr")).unwrap());
    command
}

pub(crate) fn run(place: &Place, arguments: &[&str]) -> Ended {
    place.start(&mut bench(place, arguments)).ended()
}

/// Short, on this server, with more options.
pub(crate) fn run_on(place: &Place, server: &Server, more: &[&str]) -> Ended {
    run(
        place,
        &[&["--redis", &server.url()][..], &SHORT, more].concat(),
    )
}

/// Its document, if it ended with this exit code.
#[track_caller]
pub(crate) fn document(ended: &Ended, code: i32) -> Value {
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Long, on this server, and measuring its first part.
pub(crate) fn begun(place: &Place, server: &Server, more: &[&str]) -> Running {
    let url = server.url();
    let arguments = [&["--redis", &url, "--json"][..], &LONG, more].concat();
    let running = place.start(&mut bench(place, &arguments));
    until("it has begun", || has_locks(server));
    running
}

pub(crate) fn has_locks(server: &Server) -> bool {
    !server.command(&["KEYS", KEYS]).list().is_empty()
}

/// Asserts that nothing is left in any database.
#[track_caller]
pub(crate) fn is_empty(server: &Server) {
    let left = server.command(&["INFO", "keyspace"]).text();
    assert_eq!(left.trim(), "# Keyspace");
}

/// Asserts that all that the document says of these times fits together.
#[track_caller]
pub(crate) fn fit_together(times: &Value) {
    let count = times["count"].as_u64().unwrap();
    assert!(count > 0, "{times}");
    assert_eq!(sum(&times["histogram"], "count"), count);
    let names = ["min", "p50", "p90", "p99", "p999", "max"];
    let values = names.map(|name| times[format!("{name}_seconds")].as_f64().unwrap());
    assert!(values[0] > 0.0 && values.is_sorted(), "{values:?}");
    let mean = times["mean_seconds"].as_f64().unwrap();
    assert!((values[0]..=values[5]).contains(&mean), "{times}");
    let bins = times["histogram"].as_array().unwrap();
    assert!(
        bins.windows(2)
            .all(|pair| pair[0]["to_seconds"] == pair[1]["from_seconds"])
    );
    let (first, last) = (&bins[0], &bins[bins.len() - 1]);
    assert!(first["from_seconds"].as_f64().unwrap() <= values[0]);
    assert!(last["to_seconds"].as_f64().unwrap() >= values[5]);
}

pub(crate) fn sum(list: &Value, field: &str) -> u64 {
    let list = list.as_array().unwrap().iter();
    list.map(|item| item[field].as_u64().unwrap()).sum()
}
