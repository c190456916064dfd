//! Messages whose locks replicas must have, while a replica stands still.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Stdio;

use common::{Place, Running, assert_each_once_in_order, message, until, write_to};
use redis_fixture::Server;

const MISSING: &str = "too few replicas have the lock";

struct Setup {
    master: Server,
    replica: Server,
    place: Place,
    running: Running,
    sent: usize,
}

/// Reads messages as they are written to it, with this in endpoints.yml.
fn setup(options: &[&str]) -> Setup {
    let master = Server::start();
    let replica = Server::builder().replica_of(&master).start();
    let place = Place::new();
    let block = format!(
        "lock_store:\n  type: redis\n  url: {}\n  fallback: none\n  replicas: 1\n",
        master.url()
    );
    place.write("endpoints.yml", block);
    let mut command = place.command(["-", "-v", "--endpoints", "endpoints.yml"]);
    command.args(options).stdin(Stdio::piped());
    let running = place.start(&mut command);
    Setup {
        master,
        replica,
        place,
        running,
        sent: 0,
    }
}

impl Setup {
    fn send(&mut self, count: usize) {
        for _ in 0..count {
            let sender = ["a", "b"][self.sent % 2];
            write_to(&mut self.running, &message(sender, &self.sent.to_string()));
            self.sent += 1;
        }
    }

    fn results(&self) -> usize {
        self.place.read("stdout").matches('\n').count()
    }

    fn all_have_results(&self) {
        until("all results", || self.results() == self.sent);
    }

    /// Ends it, and returns what became of each, in the order of output.
    fn ended(mut self, code: i32) -> Vec<serde_json::Value> {
        drop(self.running.child().stdin.take());
        let results = self.running.ended().results(code);
        assert_each_once_in_order(&results, self.sent as u64);
        assert_eq!(self.master.command(&["DBSIZE"]).integer(), 0);
        results
    }
}

#[test]
fn with_a_wait_timeout_each_message_is_an_error_that_says_so() {
    let mut setup = setup(&["--wait-timeout", "3"]);
    setup.send(4);
    setup.all_have_results();
    setup.replica.freeze();
    setup.send(4);
    setup.all_have_results();
    setup.replica.thaw();
    until("the replica has caught up", || {
        setup.replica.info("master_link_status").as_deref() == Some("up")
    });
    setup.send(4);
    setup.all_have_results();
    for result in setup.ended(1) {
        let seq = result["seq"].as_u64().unwrap();
        if (4..8).contains(&seq) {
            assert_eq!(result["status"], "error", "{result}");
            let error = result["error"].to_string();
            assert!(error.contains(MISSING), "{error}");
        } else {
            assert_eq!(result["status"], "ok", "{result}");
        }
    }
}

#[test]
fn without_one_they_wait_until_it_is_back() {
    let mut setup = setup(&[]);
    setup.send(4);
    setup.all_have_results();
    setup.replica.freeze();
    setup.send(10);
    until("a lock that does not count", || {
        setup.place.read("stderr").contains(MISSING)
    });
    assert_eq!(setup.results(), 4);
    setup.replica.thaw();
    setup.all_have_results();
    let results = setup.ended(0);
    assert!(results.iter().all(|result| result["status"] == "ok"));
}
