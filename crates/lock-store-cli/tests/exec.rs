//! `exec`: what the command gets, and how both end.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use common::{started_by, until, until_exists, wait_for};
use fleet::{Fleet, connections_are_checked};
use nix::sys::signal::Signal;

fn code(fleet: &Fleet, script: &str) -> Option<i32> {
    fleet.exec("a", &[], script).ended().status.code()
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let fleet = Fleet::new();
    assert_eq!(code(&fleet, "exit 0"), Some(0));
    assert_eq!(code(&fleet, "exit 42"), Some(42));
    assert_eq!(code(&fleet, "kill -TERM $$"), Some(128 + 15));
    assert_eq!(code(&fleet, "kill -KILL $$"), Some(128 + 9));
    // As a shell wants it, to know whether its script goes on.
    let interrupted = fleet.exec("a", &[], "kill -INT $$").ended();
    assert_eq!(interrupted.status.signal(), Some(2));
    assert_eq!(interrupted.stderr, "");
    assert_eq!(fleet.server.command(&["DBSIZE"]).integer(), 0);
}

#[test]
fn the_command_has_our_files_and_knows_its_ticket() {
    let fleet = Fleet::new();
    let script = "cat; echo \"$LOCK_STORE_CONVERSATION_ID/$LOCK_STORE_TICKET/\
                  $LOCK_STORE_FENCING_TOKEN\"; echo talk >&2";
    let mut command = fleet.command("exec", &["ä b", "--", "sh", "-c", script]);
    let mut running = fleet.place.start(command.stdin(Stdio::piped()));
    drop(command);
    let mut stdin = running.child().stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    until("the lock", || fleet.tickets("ä b") == 1);
    let seen = fleet.inspect("ä b").unwrap();
    let token = seen.lock.tickets().next().unwrap().fencing_token;
    drop(stdin);
    let ended = running.ended();
    ended.says(0, &[]);
    assert_eq!(ended.stdout, format!("hello\nä b/0/{token}\n"));
    assert_eq!(ended.stderr, "talk\n");
    assert_eq!(fleet.tickets("ä b"), 0);
}

/// A process inherits which signals are blocked or ignored.
#[test]
fn no_signal_is_kept_from_the_command() {
    let fleet = Fleet::new();
    let masks = |starter: &[&str]| {
        let begin = ["exec", "a", "--redis", &fleet.url, "--"];
        let arguments = [&begin[..], &["grep", "Sig[BI]", "/proc/self/status"]].concat();
        let mut command = started_by(starter, &fleet.place, &arguments);
        let ended = fleet.place.start(&mut command).ended();
        ended.says(0, &[]);
        ["SigBlk:", "SigIgn:"].map(|name| {
            let line = ended.stdout.lines().find(|line| line.starts_with(name));
            let mask = u64::from_str_radix(line.unwrap()[name.len()..].trim(), 16).unwrap();
            // What the system's own are for is not ours.
            mask & ((1 << 31) - 1)
        })
    };
    // Rust ignores SIGPIPE for itself, and not for others.
    assert_eq!(masks(&["env", "--default-signal"]), [0, 0]);
    let ignoring = ["env", "--default-signal", "--ignore-signal=HUP,INT,QUIT"];
    assert_eq!(masks(&ignoring), [0, 0b111]);
}

#[test]
fn the_lease_is_extended_while_it_runs() {
    let fleet = Fleet::new();
    let running = fleet.exec("a", &["--lifetime", "4"], &wait_for("go"));
    until("the lock", || fleet.tickets("a") == 1);
    let first = fleet.inspect("a").unwrap();
    let ends = |seen: &lock_store::Inspection| seen.lock.tickets().next().unwrap().expires;
    let begun = ends(&first);
    // A whole lease later it is the same ticket.
    until("extensions", || {
        let seen = fleet.inspect("a").unwrap();
        ends(&seen) - begun > std::time::Duration::from_secs(4)
    });
    fleet.place.write("go", "");
    running.ended().says(0, &[]);
}

#[test]
fn who_does_not_want_to_wait_does_not() {
    let fleet = Fleet::new();
    let guard = fleet.lock("a");
    let ran = "touch ran";
    let taken = fleet.exec("a", &["--no-wait"], ran).ended();
    taken.says(75, &["error: the lock of \"a\" is taken"]);
    let own = fleet.exec("a", &["-n", "-E", "1"], ran).ended();
    assert_eq!(own.status.code(), Some(1));
    let late = fleet.exec("a", &["--wait-timeout", "0.2"], ran).ended();
    late.says(75, &["was taken for 0.2 s", "--wait-timeout"]);
    assert!(!fleet.place.path("ran").exists());
    assert_eq!(fleet.tickets("a"), 1);
    fleet.block_on(guard.release()).unwrap();
    fleet.exec("a", &["--no-wait"], ran).ended().says(0, &[]);
    assert!(fleet.place.path("ran").exists());
}

#[test]
fn it_waits_for_its_turn() {
    let fleet = Fleet::new();
    let guard = fleet.lock("a");
    let running = fleet.exec("a", &["-w", "100"], "touch ran");
    until("the ticket", || fleet.tickets("a") == 2);
    assert!(!fleet.place.path("ran").exists());
    fleet.block_on(guard.release()).unwrap();
    running.ended().says(0, &[]);
    until_exists(fleet.place.path("ran"));
}

#[test]
fn whoever_is_ended_while_waiting_leaves_no_ticket() {
    let fleet = Fleet::new();
    let _guard = fleet.lock("a");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let running = fleet.exec("a", &[], "touch ran");
        until("the ticket", || fleet.tickets("a") == 2);
        running.signal(signal);
        let ended = running.ended();
        assert_eq!(ended.status.signal(), Some(signal as i32));
        assert_eq!(fleet.tickets("a"), 1);
    }
    assert!(!fleet.place.path("ran").exists());
}

#[test]
fn a_command_that_cannot_be_run_takes_no_lock() {
    let fleet = Fleet::new();
    let _guard = fleet.lock("a");
    let run = |program: &str| fleet.run("exec", &["a", "--", program]);
    run("no-such-command-here").says(127, &["error: the command no-such-command-here is in no"]);
    run("./nothing").says(127, &["./nothing is not a file"]);
    fleet.place.write("text", "hello");
    run("./text").says(126, &["./text is not executable; chmod +x"]);
    assert_eq!(fleet.tickets("a"), 1);

    // What is found out only by starting it gives the lock back.
    let program = |name: &str, text: &str| {
        fleet.place.write(name, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(fleet.place.path(name), mode).unwrap();
        fleet.run("exec", &["b", "--", &format!("./{name}")])
    };
    program("lost", "#!/no/such/interpreter\n").says(127, &["its #! line"]);
    // One without such a line is run by sh, as in a shell.
    program("plain", "echo $LOCK_STORE_TICKET\n").says(0, &[]);
    assert_eq!(fleet.place.read("stdout"), "0\n");
    assert_eq!(fleet.tickets("b"), 0);
}

#[test]
fn wrong_use_is_told() {
    let fleet = Fleet::new();
    fleet.run("exec", &["a"]).says(2, &["COMMAND"]);
    fleet.run("exec", &["--", "true"]).says(2, &["<ID>"]);
    fleet
        .run("exec", &["", "--", "true"])
        .says(2, &["1 to 1024 bytes"]);
    let both = ["a", "--no-wait", "--wait-timeout", "3", "--", "true"];
    fleet.run("exec", &both).says(2, &["cannot be used with"]);
    let never = ["a", "--lifetime", "0", "--", "true"];
    fleet
        .run("exec", &never)
        .says(2, &["number of seconds from 0.001"]);
    connections_are_checked("exec", &["a", "--", "true"]);
}

/// The lock goes when its Redis does not answer at the end.
#[test]
fn an_outage_at_the_end_is_told_and_not_waited_for() {
    let fleet = Fleet::new();
    let running = fleet.exec(
        "a",
        &[],
        &format!("touch begun; {}; exit 5", wait_for("go")),
    );
    until_exists(fleet.place.path("begun"));
    fleet.server.kill();
    fleet.place.write("go", "");
    running
        .ended()
        .says(5, &["could not be given back yet", "ends by itself in"]);
}
