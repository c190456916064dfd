//! `lock-store bench`, short.

#![allow(dead_code)] // not every test file needs all of it

use std::process::Command;
use std::time::Instant;

use redis_fixture::Server;
use serde_json::Value;

use crate::common::{Ended, FOR_EVER, Place, Running, bare, until};

/// What the keys of a run begin with.
pub(crate) const KEYS: &str = "lock-store:tickets:lock-store-bench-*";

pub(crate) const SHORT: [&str; 4] = ["--seconds", "0.3", "--warm-up", "0.1"];
/// Surely not over before something is done to it.
pub(crate) const LONG: [&str; 4] = ["--seconds", "600", "--warm-up", "0"];

/// With these arguments, not yet started.
pub(crate) fn bench(place: &Place, arguments: &[&str]) -> Command {
    bare(place, &[&["bench"], arguments].concat())
}

pub(crate) fn run(place: &Place, arguments: &[&str]) -> Ended {
    place.start(&mut bench(place, arguments)).ended()
}

/// Short, and then for twice as long while nothing was measured: on a busy
/// machine a short time may pass so. Returns how many seconds it was, too.
pub(crate) fn measure(
    place: &Place,
    arguments: &[&str],
    is_measured: impl Fn(&Ended) -> bool,
) -> (Ended, f64) {
    let mut seconds = 0.3;
    loop {
        let window = ["--seconds", &seconds.to_string(), "--warm-up", "0.1"];
        let ended = run(place, &[&window, arguments].concat());
        if !ended.status.success() || is_measured(&ended) || seconds > 10.0 {
            return (ended, seconds);
        }
        seconds *= 2.0;
    }
}

/// The same on this server, of which `--json` is one of the options.
pub(crate) fn measure_on(place: &Place, server: &Server, more: &[&str]) -> (Ended, f64) {
    let url = server.url();
    let arguments = [&["--redis", &url], more].concat();
    measure(place, &arguments, has_all)
}

/// Whether a document has a count of all that was measured, and of each process.
pub(crate) fn has_all(ended: &Ended) -> bool {
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let load = &document["load"];
    let times = [
        &document["round_trip"],
        &document["one_task"],
        &load["cycle"],
        &document["hand_off"],
    ];
    times.iter().all(|times| times["count"] != 0)
        && load["cycles_by_process"]
            .as_array()
            .unwrap()
            .iter()
            .all(|cycles| cycles != 0)
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
    begun_with(place, &arguments, || has_locks(server))
}

/// Starts it, and waits until it has begun. One that could not, or had ended
/// before that was seen, as on a busy machine, is started again.
pub(crate) fn begun_with(
    place: &Place,
    arguments: &[&str],
    has_begun: impl Fn() -> bool,
) -> Running {
    let since = Instant::now();
    loop {
        let mut running = place.start(&mut bench(place, arguments));
        let mut has_ended = false;
        until("it has begun", || {
            has_ended = !running.is_running();
            has_ended || has_begun()
        });
        if !has_ended {
            return running;
        }
        let ended = running.ended();
        let code = ended.status.code();
        let is_late = matches!(code, Some(0 | 2)) && since.elapsed() < FOR_EVER;
        assert!(is_late, "{code:?}: {}", ended.stderr);
    }
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
