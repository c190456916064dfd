//! `exec`: signals, with a terminal and without one.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use common::{Running, end_of, program, until, until_exists};
use fleet::Fleet;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

/// Writes down each signal that it gets, and ends when `go` is there.
const WITNESS: &str = r#"
    for s in HUP INT QUIT TERM USR1 USR2 WINCH ALRM; do trap "echo $s >> got" $s; done
    echo $$ > pid.new; mv pid.new pid
    tries=0
    until [ -e go ]; do tries=$((tries+1)); [ $tries -lt 6000 ] || exit 99; sleep 0.02; done
    exit 7
"#;

fn pid_in(fleet: &Fleet, name: &str) -> Pid {
    until_exists(fleet.place.path(name));
    Pid::from_raw(fleet.place.read(name).trim().parse().unwrap())
}

/// The state of a process, as `T` for one that is stopped, and its group.
fn state_and_group(pid: Pid) -> (char, i32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1.to_owned();
    let fields: Vec<_> = rest.split(' ').collect();
    (
        fields[0].chars().next().unwrap(),
        fields[2].parse().unwrap(),
    )
}

#[test]
fn those_sent_to_us_alone_are_passed_on() {
    let fleet = Fleet::new();
    let mut running = fleet.exec("a", &[], WITNESS);
    let command = pid_in(&fleet, "pid");
    for name in [
        "HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH", "ALRM",
    ] {
        running.signal(format!("SIG{name}").parse().unwrap());
        until(name, || {
            fleet.place.read("got").lines().any(|line| line == name)
        });
    }
    // Each once, and both are there.
    assert_eq!(fleet.place.read("got").lines().count(), 8);
    assert!(running.is_running());
    kill(command, None).unwrap();
    assert_eq!(fleet.tickets("a"), 1);
    fleet.place.write("go", "");
    running.ended().says(7, &[]);
}

#[test]
fn without_a_terminal_all_that_it_started_get_them() {
    let fleet = Fleet::new();
    let script = "sh -c 'echo $$ > inner.new; mv inner.new inner; exec sleep 1000'; true";
    let running = fleet.exec_without_terminal(&[], script);
    let inner = pid_in(&fleet, "inner");
    let (_, group) = state_and_group(inner);
    let us = parent_of(Pid::from_raw(group));
    assert_ne!(state_and_group(us).1, group);
    // Stopped and continued with us, which go on.
    kill(us, Signal::SIGTSTP).unwrap();
    until("the stop", || state_and_group(inner).0 == 'T');
    assert_ne!(state_and_group(us).0, 'T');
    kill(us, Signal::SIGCONT).unwrap();
    until("the end of the stop", || state_and_group(inner).0 != 'T');
    kill(us, Signal::SIGTERM).unwrap();
    running.ended().says(128 + 15, &[]);
    until("the end of all", || has_ended(inner));
    assert_eq!(fleet.tickets("a"), 0);
}

fn parent_of(pid: Pid) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1.to_owned();
    Pid::from_raw(rest.split(' ').nth(1).unwrap().parse().unwrap())
}

/// Nobody may reap it where process 1 does not: then it stays a zombie.
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// Runs a script in a terminal of its own, typed on through its input.
fn on_a_terminal(fleet: &Fleet, script: &str) -> Running {
    let mut command = program(&["script", "-qefc", script, "/dev/null"]);
    command
        .current_dir(fleet.place.path(""))
        .env("SHELL", "/bin/sh")
        .env("LOCK_STORE", env!("CARGO_BIN_EXE_lock-store"))
        .env("URL", &fleet.url)
        .env("WITNESS", WITNESS)
        .stdin(Stdio::piped())
        .stdout(File::create(fleet.place.path("terminal")).unwrap())
        .process_group(0);
    fleet.place.start(&mut command)
}

fn type_in(terminal: &mut Running, text: &[u8]) {
    let stdin = terminal.child().stdin.as_mut().unwrap();
    stdin.write_all(text).unwrap();
    stdin.flush().unwrap();
}

#[test]
fn on_a_terminal_ctrl_c_reaches_the_command_once_and_ends_us_with_it() {
    let fleet = Fleet::new();
    let script = "\"$LOCK_STORE\" exec a --redis \"$URL\" -- sh -c \"$WITNESS\"; echo $? > code";
    let mut terminal = on_a_terminal(&fleet, script);
    let command = pid_in(&fleet, "pid");
    let us = parent_of(command);
    assert_eq!(state_and_group(us).1, state_and_group(command).1);
    // The shell that we are in gets it as well, and ends when we have.
    type_in(&mut terminal, b"\x03");
    until("Ctrl-C", || fleet.place.read("got").contains("INT"));
    // One that is sent to us alone comes through, after it.
    kill(us, Signal::SIGUSR1).unwrap();
    until("the other", || fleet.place.read("got").contains("USR1"));
    assert_eq!(fleet.place.read("got"), "INT\nUSR1\n");
    assert_eq!(fleet.tickets("a"), 1);
    fleet.place.write("go", "");
    end_of(terminal.child());
    until("the end", || fleet.tickets("a") == 0);
}

#[test]
fn a_script_in_a_terminal_ends_at_ctrl_c() {
    let fleet = Fleet::new();
    let script = "for i in 1 2; do echo $i >> runs; \
                  \"$LOCK_STORE\" exec a --redis \"$URL\" -- \
                  sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 1000'; done";
    let mut terminal = on_a_terminal(
        &fleet,
        &format!("bash -c '{}'", script.replace('\'', r"'\''")),
    );
    let command = pid_in(&fleet, "pid");
    until("the command proper", || {
        fs::read_to_string(format!("/proc/{command}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    type_in(&mut terminal, b"\x03");
    end_of(terminal.child());
    assert_eq!(fleet.place.read("runs"), "1\n");
    assert_eq!(fleet.tickets("a"), 0);
}

#[test]
fn on_a_terminal_ctrl_z_gives_the_shell_its_turn() {
    let fleet = Fleet::new();
    // An interactive shell has job control.
    let mut terminal = on_a_terminal(&fleet, "bash --norc --noprofile -i");
    mkfifo(&fleet.place.path("go"), Mode::S_IRWXU).unwrap();
    let go = fleet.place.path("go");
    let mut go = File::options().read(true).write(true).open(go).unwrap();
    // It waits without starting anything: a shell that is just starting a
    // program is not stopped before that runs, and that is stopped already.
    let line = "\"$LOCK_STORE\" exec a --redis \"$URL\" -- \
                sh -c 'echo $$ > pid.new; mv pid.new pid; read -r line < go; exit 7'; \
                echo $? > code\n";
    type_in(&mut terminal, line.as_bytes());
    let command = pid_in(&fleet, "pid");
    let us = parent_of(command);
    type_in(&mut terminal, b"\x1a");
    until("both are stopped", || {
        state_and_group(command).0 == 'T' && state_and_group(us).0 == 'T'
    });
    type_in(&mut terminal, b"touch turn\n");
    until_exists(fleet.place.path("turn"));
    type_in(&mut terminal, b"fg; echo $? > code\n");
    until("both go on", || {
        state_and_group(command).0 != 'T' && state_and_group(us).0 != 'T'
    });
    go.write_all(b"\n").unwrap();
    until("the end", || fleet.place.read("code").trim() == "7");
    type_in(&mut terminal, b"exit\n");
    end_of(terminal.child());
    assert_eq!(fleet.tickets("a"), 0);
}
