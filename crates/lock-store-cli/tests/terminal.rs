//! What is seen on a terminal.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use common::{Place, until, wait_for};
use nix::pty::openpty;

#[test]
fn a_bar_while_it_lasts_and_the_summary_at_the_end() {
    let place = Place::new();
    place.messages([("anna", "hello".to_owned())]);
    let terminal = openpty(None, None).unwrap();
    let script = wait_for("go");
    let mut command = place.command(["input.jsonl", "--", "sh", "-c", &script]);
    let running = place.start(command.stderr(terminal.slave));
    // The command holds the other end until it is dropped.
    drop(command);

    let seen = Arc::new(Mutex::new(String::new()));
    let reader = {
        let (seen, mut master) = (seen.clone(), File::from(terminal.master));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            // The end of a terminal is an error.
            while let Ok(length @ 1..) = master.read(&mut part) {
                let text = String::from_utf8_lossy(&part[..length]);
                seen.lock().unwrap().push_str(&text);
            }
        })
    };
    let shown = |text| seen.lock().unwrap().contains(text);
    until("the bar", || shown("1 in progress"));
    place.write("go", "");
    running.ended().results(0);
    reader.join().unwrap();
    for text in [
        "100%",
        "messages                     1",
        "conversations                1",
    ] {
        assert!(shown(text), "{text:?}");
    }
    assert!(!shown("panicked") && !shown("tracing-subscriber"));
}
