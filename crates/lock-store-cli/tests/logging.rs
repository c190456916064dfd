//! The log: how much, in which form, in which colour.

#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use std::fs;
use std::process::{Command, Stdio};

use fleet::{Fleet, bare};
use serde_json::Value;

fn log(fleet: &Fleet, options: &[&str], environment: Option<(&str, &str)>) -> String {
    let mut command = fleet.command("exec", &[options, &["a", "--", "true"]].concat());
    command.envs(environment);
    let ended = fleet.place.start(&mut command).ended();
    ended.says(0, &[]);
    ended.stderr
}

#[test]
fn more_is_said_the_more_is_asked_for() {
    let fleet = Fleet::new();
    assert_eq!(log(&fleet, &[], None), "");
    let some = log(&fleet, &["-v"], None);
    assert!(
        some.contains(" INFO lock_store: ") && !some.contains("DEBUG"),
        "{some}"
    );
    assert!(log(&fleet, &["-vv"], None).contains("DEBUG lock_store: "));
    let chosen = log(&fleet, &[], Some(("RUST_LOG", "lock_store=debug")));
    assert!(chosen.contains("DEBUG lock_store: "));
}

#[test]
fn json_is_json_to_the_last_line() {
    let fleet = Fleet::new();
    let lines = log(&fleet, &["-v", "--log-format", "json"], None);
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["level"], "INFO");
        assert_eq!(event["target"], "lock_store");
        assert!(event["timestamp"].as_str().unwrap().contains('T'));
    }
    assert!(!lines.is_empty());
    // The error that ends it, too, whatever is logged.
    for quiet in [None, Some(("RUST_LOG", "off"))] {
        let mut command = bare(&fleet.place, &["--log-format", "json", "list"]);
        let ended = fleet.place.start(command.envs(quiet)).ended();
        ended.says(2, &[]);
        let event: Value = serde_json::from_str(&ended.stderr).unwrap();
        assert_eq!(event["level"], "ERROR");
        let message = event["fields"]["message"].as_str().unwrap();
        assert!(message.contains("the locks are in memory"), "{message}");
    }
    let mut wrong = bare(&fleet.place, &["--log-format", "xml", "list"]);
    fleet
        .place
        .start(&mut wrong)
        .ended()
        .says(2, &["text, json"]);
}

/// What is seen on a terminal with `-v`.
fn on_a_terminal(fleet: &Fleet, environment: &[(&str, &str)]) -> String {
    let status = Command::new("script")
        .args([
            "-qefc",
            "\"$LOCK_STORE\" -v list --redis \"$URL\"",
            "/dev/null",
        ])
        .env("SHELL", "/bin/sh")
        .env("LOCK_STORE", env!("CARGO_BIN_EXE_lock-store"))
        .env("URL", &fleet.url)
        .env_remove("NO_COLOR")
        .env_remove("RUST_LOG")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(fs::File::create(fleet.place.path("terminal")).unwrap())
        .status();
    assert!(status.unwrap().success());
    fleet.place.read("terminal")
}

#[test]
fn colours_are_for_terminals_and_can_be_refused() {
    let fleet = Fleet::new();
    let coloured = on_a_terminal(&fleet, &[]);
    // They are not the only sign.
    assert!(
        coloured.contains("\u{1b}[") && coloured.contains("INFO"),
        "{coloured}"
    );
    let plain = on_a_terminal(&fleet, &[("NO_COLOR", "1")]);
    assert!(
        !plain.contains("\u{1b}[") && plain.contains("INFO"),
        "{plain}"
    );
    assert!(!log(&fleet, &["-v"], None).contains('\u{1b}'));
}
