//! `watch` where there is no terminal, and wrong use.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "watch/fleet.rs"]
mod fleet;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use common::{FOR_EVER, end_of, output_of};
use fleet::Fleet;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis_fixture::Server;
use serde_json::Value;

fn run(command: &mut Command) -> Output {
    output_of(command.stdin(Stdio::null()))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs `watch` with these arguments, which are wrong, and returns what it said.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lock-store"));
    let output = run(command
        .arg("watch")
        .args(arguments)
        .current_dir(&folder)
        .env_remove("RUST_LOG"));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr).to_owned()
}

/// Started, with its output in a pipe. It is read beside the test, which can
/// then give up.
struct Watching(Child, Receiver<String>);

impl Watching {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self(child, lines)
    }

    #[track_caller]
    fn line(&self) -> String {
        self.1.recv_timeout(FOR_EVER).expect("a line")
    }

    /// The first line that is as it should be.
    #[track_caller]
    fn until(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let line = self.line();
            let value: Value = serde_json::from_str(&line).unwrap();
            if is_so(&value) {
                return value;
            }
            assert!(begun.elapsed() < FOR_EVER, "still {line}");
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_line_of_figures_after_each_look() {
    let fleet = Fleet::new();
    let _held = [fleet.hold("anna", 3), fleet.hold("bob", 1)];
    let output = run(&mut fleet.watch(&["--count", "2", "--interval", "0.1"]));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert!(line.starts_with("time_seconds="), "{line}");
        let figures = "connected=true conversations=2 waiting=4 dead=0 damaged=0 longest_queue=3";
        assert!(line.contains(figures), "{line}");
    }
    let rates = "acquired_per_second=0.0 handed_off_per_second=0.0";
    assert!(!lines[0].contains(rates) && lines[1].contains(rates));
}

#[test]
fn hand_offs_as_json() {
    let fleet = Fleet::new();
    let mut held = fleet.hold("anna", 3);
    let watching = Watching::start(&mut fleet.watch(&["--json", "--interval", "0.02"]));
    let first = watching.until(|line| line["waiting"] == 3);
    assert_eq!(first["acquired_per_second"], Value::Null);
    held = fleet.hand_on(held);
    let line = watching.until(|line| line["handed_off_per_second"].as_f64() > Some(0.0));
    assert_eq!(line["handed_off_per_second"], line["acquired_per_second"]);
    assert!(line["wait_median_seconds"].as_f64() > Some(0.0), "{line}");
    drop(held);
}

#[test]
fn a_damaged_lock_is_counted_and_the_others_are_seen() {
    let fleet = Fleet::new();
    let _held = fleet.hold("anna", 1);
    fleet
        .server
        .command(&["SET", "lock-store:tickets:broken", "x"])
        .ok();
    let output = run(&mut fleet.watch(&["--count", "1", "--json"]));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["damaged"], &line["waiting"]), (&1.into(), &1.into()));
}

#[test]
fn an_outage_is_a_line_and_ends_by_itself() {
    let fleet = Fleet::new();
    let mut command = fleet.watch(&["--json", "--interval", "0.02"]);
    let watching = Watching::start(command.stderr(Stdio::null()));
    watching.until(|line| line["connected"] == true);
    fleet.server.kill();
    let away = watching.until(|line| line["connected"] == false);
    assert!(away["error"].is_string(), "{away}");
    assert_eq!(away.get("waiting"), None);
    fleet.server.restart();
    watching.until(|line| line["connected"] == true);
}

#[test]
fn signals_end_it() {
    let fleet = Fleet::new();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut watching = Watching::start(&mut fleet.watch(&[]));
        assert!(watching.line().contains("connected=true"));
        let pid = Pid::from_raw(i32::try_from(watching.0.id()).unwrap());
        kill(pid, signal).unwrap();
        assert_eq!(end_of(&mut watching.0).code(), Some(code));
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let fleet = Fleet::new();
    let command = &mut fleet.watch(&["--interval", "0.02"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(end_of(&mut child).code(), Some(0));
    let said = std::io::read_to_string(child.stderr.unwrap()).unwrap();
    assert_eq!(said, "");
}

#[test]
fn in_memory_there_is_nothing_to_watch() {
    let said = refused(&[]);
    assert!(
        said.contains("in memory") && said.contains("`watch`") && said.contains("--redis"),
        "{said}"
    );
}

#[test]
fn wrong_use_is_said() {
    let server = Server::start();
    server.kill();
    let nobody = refused(&["--redis", &server.url()]);
    assert!(
        nobody.starts_with("error: ") && nobody.lines().count() == 1,
        "{nobody}"
    );
    for wrong in [
        ["--interval", "0"],
        ["--interval", "soon"],
        ["--count", "0"],
    ] {
        let said = refused(&wrong);
        assert!(said.contains(wrong[0]), "{said}");
    }
}

#[test]
fn who_may_not_look_is_told_what_is_missing() {
    let rules = "~lock-store:* &lock-store:* +@all -scan";
    let server = Server::builder().acl_user("bot", "word", rules).start();
    let url = server.url().replace("://", "://bot:word@");
    let said = refused(&["--redis", &url, "--count", "1"]);
    assert!(said.contains("scan") && !said.contains("word@"), "{said}");
}

#[test]
fn the_help_says_what_the_figures_are() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lock-store"));
    let output = run(command.args(["watch", "--help"]));
    let said = text(&output.stdout);
    for part in [
        "lower bounds",
        "lock-store watch --json",
        "handed_off_per_second",
        "Exit codes:",
        "  130  interrupted",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}
