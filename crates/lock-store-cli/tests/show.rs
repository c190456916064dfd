//! `show`: one queue, ticket by ticket.

#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use common::{Place, until};
use fleet::{Fleet, connections_are_checked};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn the_queue_for_people() {
    let fleet = Fleet::new();
    let guard = fleet.lock("anna");
    let _next = fleet.queue("anna");
    fleet.until_heard_of("anna");
    let ended = fleet.run("show", &["anna"]);
    ended.says(0, &[]);
    let text = &ended.stdout;
    for part in [
        "conversation  anna\n",
        "waiting       1 ticket, the next for ",
        "time to live  ",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let rows: Vec<Vec<_>> = text
        .lines()
        .skip_while(|line| !line.starts_with("TICKET"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert_eq!(rows[1][..2], ["0", "claimed"]);
    assert_eq!(rows[2][..2], ["1", "waiting"]);
    assert!(rows[1].contains(&guard.fencing_token().to_string().as_str()));
    assert_eq!(rows[1].last(), Some(&"yes"));
}

#[test]
fn the_queue_in_json() {
    let fleet = Fleet::new();
    let guard = fleet.lock("anna");
    let _next = fleet.queue("anna");
    fleet.until_heard_of("anna");
    let ended = fleet.run("show", &["anna", "--json"]);
    ended.says(0, &[]);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["conversation_id"], "anna");
    assert_eq!(document["waiting"], 1);
    assert!(document["time_to_live_seconds"].as_f64().unwrap() > 30.0);
    let tickets = document["tickets"].as_array().unwrap();
    assert_eq!(tickets.len(), 2);
    assert_eq!(tickets[0]["ticket"], 0);
    assert_eq!(tickets[0]["fencing_token"], guard.fencing_token().get());
    assert_eq!(tickets[0]["state"], "claimed");
    assert_eq!(tickets[0]["alive"], true);
    assert_eq!(tickets[0]["expired"], false);
    assert_eq!(tickets[0]["lifetime_seconds"], 60.0);
    assert_eq!(tickets[1]["state"], "waiting");
    for name in ["age_seconds", "left_seconds"] {
        assert!(tickets[1][name].as_f64().unwrap() > 0.0, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_dead_are_told_from_the_living() {
    let fleet = Fleet::new();
    let _guard = fleet.lock("a");
    fleet.until_heard_of("a");
    let other = Place::new();
    let mut killed = fleet.exec_in(&other, "a", &[], "true");
    until("the ticket", || fleet.tickets("a") == 2);
    killed.signal(Signal::SIGKILL);
    until("its end", || !killed.is_running());
    // The server has to notice.
    until("the death", || {
        let ended = fleet.run("show", &["a", "--json"]);
        let document: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(document["tickets"][0]["alive"], true);
        document["tickets"][1]["alive"] == false
    });
    let text = fleet.run("show", &["a"]).stdout;
    assert!(text.trim_end().ends_with("no"), "{text}");
}

#[test]
fn there_may_be_none() {
    let fleet = Fleet::new();
    for options in [&["nobody\n"][..], &["nobody\n", "--json"]] {
        let ended = fleet.run("show", options);
        ended.says(1, &[r#"error: the conversation "nobody\n" has no lock"#]);
        assert_eq!(ended.stdout, "");
    }
    fleet
        .server
        .command(&["SET", "lock-store:tickets:text", "x"])
        .ok();
    fleet
        .run("show", &["text"])
        .says(1, &["error: the stored lock is damaged"]);
}

#[test]
fn wrong_use_is_told() {
    let fleet = Fleet::new();
    fleet.run("show", &[]).says(2, &["<ID>"]);
    connections_are_checked("show", &["a"]);
}
