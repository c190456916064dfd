//! Descriptors that do not block are waited for.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use common::{Place, assert_each_once_in_order, message, until};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use serde_json::Value;

fn does_not_block(end: &impl AsFd) {
    fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
}

/// A pipe of which the command gets the end that it writes to.
fn output() -> (File, OwnedFd) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    does_not_block(&write);
    (read.into(), write)
}

/// Whether a pipe takes no more.
fn is_full(write: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(write.as_fd(), PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO).unwrap() == 0
}

#[test]
fn a_full_output_is_waited_for() {
    let place = Place::new();
    let text = "x".repeat(1000);
    place.messages((0..2000).map(|i| (["a", "b", "c"][i % 3], text.clone())));
    let (mut read, write) = output();
    let ours = write.try_clone().unwrap();
    let mut command = place.command(["input.jsonl"]);
    let running = place.start(command.stdout(write));
    drop(command);
    until("the pipe is full", || is_full(&ours));
    drop(ours);
    let mut stdout = String::new();
    read.read_to_string(&mut stdout).unwrap();
    let ended = running.ended();
    ended.says(0, &["messages                     2000"]);
    let results: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_each_once_in_order(&results, 2000);
}

#[test]
fn an_input_that_has_nothing_yet_is_waited_for() {
    let place = Place::new();
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    does_not_block(&read);
    let mut command = place.command(["-"]);
    let running = place.start(command.stdin(read));
    drop(command);
    let mut write = File::from(write);
    write.write_all(message("a", "one").as_bytes()).unwrap();
    until("the first result", || place.read("stdout").ends_with('\n'));
    write.write_all(message("a", "two").as_bytes()).unwrap();
    drop(write);
    let results = running.ended().results(0);
    assert_each_once_in_order(&results, 2);
}

/// What is said to the user goes the same way.
#[test]
fn a_full_standard_error_is_waited_for() {
    let place = Place::new();
    place.write("input.jsonl", "broken\n".repeat(2000));
    let (mut read, write) = output();
    let ours = write.try_clone().unwrap();
    let mut command = place.command(["input.jsonl"]);
    let running = place.start(command.stderr(write));
    drop(command);
    until("the pipe is full", || is_full(&ours));
    drop(ours);
    let mut stderr = String::new();
    read.read_to_string(&mut stderr).unwrap();
    running.ended();
    let told = stderr.matches("it is not JSON").count();
    assert_eq!(told, 2000);
}
