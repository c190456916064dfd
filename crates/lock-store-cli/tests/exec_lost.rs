//! `exec`: the lock is lost, or we are killed.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use common::{Place, Running, until, until_exists, wait_for};
use fleet::Fleet;
use nix::sys::signal::Signal;

/// Longer than its end may take, on a busy machine, and shorter than a lease.
const SOON: Duration = Duration::from_secs(20);

/// Starts a command, and waits until it is at work.
fn at_work(fleet: &Fleet, options: &[&str], script: &str) -> Running {
    let running = fleet.exec("a", options, script);
    until_exists(fleet.place.path("begun"));
    running
}

fn is_running(pid: &str) -> bool {
    stat(pid).is_some_and(|stat| !stat.contains(") Z "))
}

/// What Linux says of a process, if it is there.
fn stat(pid: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()
}

#[test]
fn a_ticket_that_is_taken_away_ends_the_command() {
    let fleet = Fleet::new();
    let script = "trap 'echo stopped >> got; exit 3' TERM; touch begun; \
                  while :; do sleep 0.02; done";
    let running = at_work(&fleet, &[], script);
    fleet.take_away("a");
    let ended = running.ended();
    ended.says(
        79,
        &[
            "error: lost the lock of conversation \"a\"",
            "the command is ended",
        ],
    );
    assert_eq!(fleet.place.read("got"), "stopped\n");
}

#[test]
fn so_does_a_redis_that_lost_its_data() {
    let fleet = Fleet::new();
    let options = ["--lifetime", "5"];
    let running = at_work(&fleet, &options, "touch begun; exec sleep 1000");
    fleet.server.command(&["FLUSHALL"]).ok();
    running.ended().says(79, &["lost the lock"]);
}

#[test]
fn so_does_an_outage_that_is_longer_than_the_lease() {
    let fleet = Fleet::new();
    let options = ["--lifetime", "5"];
    let running = at_work(&fleet, &options, "touch begun; exec sleep 1000");
    fleet.server.freeze();
    let ended = running.ended();
    fleet.server.thaw();
    ended.says(79, &["lost the lock"]);
}

#[test]
fn without_redis_it_ends_soon_and_says_what_was_not_given_back() {
    let fleet = Fleet::new();
    let script = format!("touch begun; {}; exit 7", wait_for("go"));
    let running = at_work(&fleet, &[], &script);
    fleet.server.kill();
    fleet.place.write("go", "");
    let since = Instant::now();
    let ended = running.ended();
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    ended.says(
        7,
        &[
            "the lock could not be given back yet",
            "1 ticket was not given back within 2s",
        ],
    );
}

#[test]
fn a_signal_ends_it_soon_while_it_waits_for_the_lock_without_redis() {
    let fleet = Fleet::new();
    let held = fleet.lock("a");
    let running = fleet.exec("a", &[], "exit 0");
    until("its ticket", || fleet.tickets("a") == 2);
    fleet.server.kill();
    running.signal(Signal::SIGTERM);
    let since = Instant::now();
    let ended = running.ended();
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert_eq!(ended.status.signal(), Some(Signal::SIGTERM as i32));
    let told = "1 ticket was not given back within 2s";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    drop(held);
}

#[test]
fn one_that_does_not_end_is_killed_with_all_that_it_started() {
    let fleet = Fleet::new();
    let script = "trap '' TERM; (trap '' TERM; exec sleep 1000) & echo $! > child; echo $$ > pid; \
                  touch begun; while :; do sleep 0.02; done";
    let running = fleet.exec_without_terminal(&["--grace", "0.3"], script);
    until_exists(fleet.place.path("begun"));
    let (child, pid) = (fleet.place.read("child"), fleet.place.read("pid"));
    let since = Instant::now();
    fleet.take_away("a");
    running.ended().says(79, &["lost the lock"]);
    assert!(since.elapsed() >= Duration::from_millis(300));
    until("the end of both", || {
        !is_running(&child) && !is_running(&pid)
    });
}

/// What it started has its grace although it ended itself at once.
#[test]
fn those_that_it_started_have_the_grace_too() {
    let fleet = Fleet::new();
    let inner = format!(
        "trap '{}; echo tidy >> got; exit' TERM; touch begun; \
                         while :; do sleep 0.02; done",
        wait_for("go").replace('\'', "")
    );
    fleet.place.write("inner", &inner);
    let script = "sh ./inner & echo $! > child; wait";
    let running = fleet.exec_without_terminal(&["--grace", "100"], script);
    until_exists(fleet.place.path("begun"));
    until("its number", || fleet.place.read("child").ends_with('\n'));
    fleet.take_away("a");
    fleet.place.write("go", "");
    running.ended().says(79, &["lost the lock"]);
    assert_eq!(fleet.place.read("got"), "tidy\n");
    assert!(!is_running(&fleet.place.read("child")));
}

/// It has all the time that it wants, and can do nothing with it until it is
/// woken.
#[test]
fn a_stopped_command_is_woken_to_end() {
    let fleet = Fleet::new();
    let script = "trap 'echo woken > got; exit' TERM; echo $$ > pid; kill -STOP $$; \
                  while :; do sleep 0.02; done";
    let running = fleet.exec_without_terminal(&["--grace", "3600"], script);
    until("it is stopped", || {
        let stat = stat(&fleet.place.read("pid"));
        stat.is_some_and(|stat| stat.contains(") T "))
    });
    fleet.take_away("a");
    running.ended().says(79, &["lost the lock"]);
    assert_eq!(fleet.place.read("got"), "woken\n");
}

#[test]
fn when_we_are_killed_the_next_has_its_turn_within_the_lease() {
    let fleet = Fleet::new();
    let script = "trap 'echo told > got; exit' TERM; echo $$ > pid; touch begun; \
                  while :; do sleep 0.02; done";
    let mut killed = at_work(&fleet, &["--lifetime", "2"], script);
    let next = Place::new();
    let waiting = fleet.exec_in(&next, "a", &[], "touch ran");
    until("the queue", || fleet.tickets("a") == 2);
    killed.signal(Signal::SIGKILL);
    until("its end", || !killed.is_running());
    let since = Instant::now();
    waiting.ended().says(0, &[]);
    assert!(next.path("ran").exists());
    // A lease, and time for a busy machine.
    assert!(since.elapsed() < Duration::from_secs(10));
    let pid = fleet.place.read("pid");
    until("the end of the command", || !is_running(&pid));
    assert_eq!(fleet.place.read("got"), "told\n");
}

#[test]
fn one_that_is_killed_while_waiting_costs_a_claim_window() {
    let fleet = Fleet::new();
    let guard = fleet.lock("a");
    let mut killed = fleet.exec("a", &[], "touch never");
    until("the queue", || fleet.tickets("a") == 2);
    let next = Place::new();
    let waiting = fleet.exec_in(&next, "a", &[], "touch ran");
    until("the queue", || fleet.tickets("a") == 3);
    killed.signal(Signal::SIGKILL);
    until("its end", || !killed.is_running());
    fleet.block_on(guard.release()).unwrap();
    let since = Instant::now();
    waiting.ended().says(0, &[]);
    // A claim window of 5 s, and time for a busy machine.
    assert!(since.elapsed() < Duration::from_secs(20));
    assert!(next.path("ran").exists() && !fleet.place.path("never").exists());
}
