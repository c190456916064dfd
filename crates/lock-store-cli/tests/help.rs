//! What the help says.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lock-store"));
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_has_examples_and_exit_codes() {
    for arguments in [&["--help"][..], &["process", "--help"]] {
        let text = help(arguments);
        let example = "lock-store process examples/messages.jsonl";
        for part in ["Examples:", example, "Exit codes:", "  130  interrupted"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}

#[test]
fn it_names_what_a_command_finds_in_its_environment() {
    let text = help(&["process", "--help"]);
    for part in [
        "LOCK_STORE_CONVERSATION_ID",
        "LOCK_STORE_TICKET",
        "LOCK_STORE_FENCING_TOKEN",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn the_short_help_has_an_example_too() {
    assert!(help(&["process", "-h"]).contains("-- jq .message"));
}

#[test]
fn it_shows_how_processes_share_their_conversations() {
    for part in [
        "lock-store process monday.jsonl --redis redis://localhost:6379/1",
        "Several processes, on one machine or many",
        "If the lock is lost while a message is processed",
    ] {
        let text = help(&["process", "--help"]);
        assert!(text.contains(part), "{part:?} in {text}");
    }
}
