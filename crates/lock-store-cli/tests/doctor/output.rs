//! What is shown, and how it ends.

use std::process::Stdio;

use redis_fixture::Server;

use crate::common::{end_of, output_of};
use crate::support::{SECRET, command, doctor, doctor_with, healthy, redis, repeat_while, usual};

#[test]
fn all_is_well() {
    let server = healthy().start();
    let found = doctor(&redis(&server.url(), ""));
    found.is_well();
    found.says(
        "hand_off",
        "ok",
        &["from one client to another", "nothing is left"],
    );
    found.says("rights", "ok", &["all 21 commands", "lock-store:*"]);
    assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
    found.says("server", "ok", &[""]);
    assert_eq!(found.with("ok").len(), 24);
}

#[test]
fn a_url_and_a_socket_will_do() {
    let server = healthy().start();
    doctor_with("broken", &["--redis", &server.url()]).is_well();
    doctor_with("broken", &["--redis", &server.unix_url()]).is_well();
}

#[test]
fn people_see_a_line_for_each_check() {
    let server = usual().start();
    let folder = tempfile::tempdir().unwrap();
    let endpoints = redis(&server.url(), "");
    let look = || output_of(&mut command(&folder, &endpoints, &[]));
    // A busy machine has one more.
    let output = repeat_while(look, |output| {
        let text = String::from_utf8_lossy(&output.stdout);
        text.contains("warning  round_trip") || text.contains("warning  hand_off")
    });
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 24, "{text}");
    for line in text.lines() {
        let is_signed = ["ok       ", "warning  "]
            .iter()
            .any(|sign| line.starts_with(sign));
        assert!(is_signed, "{line}");
    }
    let line = text
        .lines()
        .find(|line| line.contains("persistence"))
        .unwrap();
    assert!(
        line.starts_with("warning  persistence         no persistence"),
        "{line}"
    );
    assert!(line.contains("; set `appendonly yes`"), "{line}");
    assert!(!text.contains('\x1b'), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "23 ok, 1 warnings, 0 failures, 0 skipped\n");
}

#[test]
fn a_closed_output_ends_it_quietly() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(&folder, &redis(&server.url(), ""), &[]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    end_of(&mut child);
    let said = std::io::read_to_string(child.stderr.unwrap()).unwrap();
    assert_eq!(said, "");
}

/// Whatever it meets, `doctor` asserts that no secret is shown.
#[test]
fn a_password_is_never_shown() {
    let server = healthy().password(SECRET).start();
    let url = server.url().replace("://", &format!("://:{SECRET}@"));
    let found = doctor(&redis(&url, ""));
    found.is_well();
    found.says("login", "ok", &["accepts the user and the password"]);
    let url = server
        .url()
        .replace("://", &format!("://{SECRET}:{SECRET}@"));
    doctor(&redis(&url, "")).fails("login", &["refused the user name or the password"]);
    let more = format!("  password: ${{NOT_SET}}\n  username: {SECRET}\n");
    doctor(&redis(&server.url(), &more)).fails("configuration", &["NOT_SET"]);
    let url = format!("redis://:{SECRET}@127.0.0.1:port");
    doctor(&redis(&url, "")).fails("configuration", &["redis://"]);
    let url = format!("redis://:{SECRET}@127.0.0.1:1");
    doctor(&redis(&url, "")).fails("tcp", &["127.0.0.1:1"]);
}

#[test]
fn wrong_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let output = output_of(&mut command(&folder, "", &["--timeout", "0"]));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--timeout"), "{said}");
}

#[test]
fn the_help_has_every_check_and_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let output = output_of(&mut command(&folder, "", &["--help"]));
    let help = String::from_utf8(output.stdout).unwrap();
    let server = Server::start();
    let found = doctor(&redis(&server.url(), ""));
    let checks = [found.with("ok"), found.with("warning")].concat();
    for text in checks
        .into_iter()
        .chain(["Examples:", "Exit codes", "  1  a warning"])
    {
        assert!(help.contains(text), "{text} in {help}");
    }
}
