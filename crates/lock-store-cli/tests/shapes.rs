//! The commands that look at locks, before each shape of Redis that a store may
//! have: all of them see the same, and the lock goes from one to the other.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
mod scraping;

use common::{Ended, Place, Running, bare, until, until_exists, wait_for};
use redis_fixture::{Cluster, Sentinels, Server};
use scraping::{Metrics, Scraped};
use serde_json::{Value, json};

#[test]
fn behind_sentinels() {
    let sentinels = Sentinels::start();
    let list = sentinels.sentinel_addresses().join(", ");
    let name = sentinels.master_name();
    serve(&format!(
        "deployment_mode: sentinel, endpoints: [{list}], sentinel_service: {name}"
    ));
    is_empty(sentinels.master());
    sentinels.replicas().into_iter().for_each(is_empty);
}

#[test]
fn on_a_cluster() {
    let cluster = Cluster::start();
    let list = cluster.addresses().join(", ");
    serve(&format!("deployment_mode: cluster, endpoints: [{list}]"));
    cluster.nodes().iter().for_each(is_empty);
}

#[test]
fn in_rasas_layout() {
    let server = Server::start();
    serve(&format!("layout: rasa, url: '{}'", server.url()));
    is_empty(&server);
}

/// Replicas hear a little later of what is gone.
#[track_caller]
fn is_empty(server: &Server) {
    until("nothing is left", || {
        server.command(&["DBSIZE"]).integer() == 0
    });
}

/// What all commands are run with.
struct Shape<'s>(&'s str);

impl Shape<'_> {
    fn place(&self) -> Place {
        let place = Place::new();
        let block = format!("lock_store: {{type: redis, fallback: none, {}}}\n", self.0);
        place.write("endpoints.yml", block);
        place
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let place = self.place();
        place.start(&mut bare(&place, arguments)).ended()
    }

    /// The lines of JSON that it writes.
    #[track_caller]
    fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        self.run(&[arguments, &["--json"]].concat()).results(0)
    }
}

/// `exec` of a script, in a place of its own.
fn exec(place: &Place, script: &str) -> Running {
    let arguments = ["exec", "anna", "--", "sh", "-c", script];
    place.start(&mut bare(place, &arguments))
}

/// One holds the lock, another waits for it; it is taken away from the first,
/// and the second has its turn.
fn serve(options: &str) {
    let shape = Shape(options);
    let exporter = shape.place();
    let export = ["export", "--listen", "127.0.0.1:0", "--min-interval", "0"];
    let export = bare(&exporter, &export);
    let exporter = Scraped::started(exporter, export);

    let first = shape.place();
    let note = "echo $LOCK_STORE_FENCING_TOKEN > token.new; mv token.new token";
    let script = format!("trap 'echo told > got; exit' TERM; {note}; while :; do sleep 0.02; done");
    let holding = exec(&first, &script);
    until_exists(first.path("token"));
    let second = shape.place();
    let waiting = exec(&second, &format!("{note}; {}", wait_for("go")));
    until("the second waits", || {
        shape.lines(&["list"])[0]["waiting"] == 1
    });

    sees_the_lock(&shape, 0, &token(&first), 1);
    agree(&shape, &exporter, [1, 1, 1]);

    let taken = shape.lines(&["release", "anna", "--yes"]);
    let expected = json!({"conversation_id": "anna", "released": [0], "gone": [], "serving": 1,
        "waiting": 0});
    assert_eq!(taken, [expected]);
    holding
        .ended()
        .says(79, &["lost the lock of conversation \"anna\""]);
    assert_eq!(first.read("got"), "told\n");

    until_exists(second.path("token"));
    assert!(token(&second).as_u64() > token(&first).as_u64());
    sees_the_lock(&shape, 1, &token(&second), 0);
    agree(&shape, &exporter, [1, 0, 0]);

    second.write("go", "");
    waiting.ended().says(0, &[]);
    assert!(shape.lines(&["list"]).is_empty());
    shape.run(&["show", "anna"]).says(1, &["has no lock"]);
    agree(&shape, &exporter, [0, 0, 0]);
}

fn token(place: &Place) -> Value {
    serde_json::from_str(&place.read("token")).unwrap()
}

/// Asserts that `list` and `show` have this ticket at the head, with so many
/// behind it.
#[track_caller]
fn sees_the_lock(shape: &Shape<'_>, ticket: u64, token: &Value, waiting: u64) {
    let list = shape.lines(&["list"]);
    assert_eq!(list.len(), 1, "{list:?}");
    // Clients subscribe beside their first step.
    let mut seen = Value::Null;
    until("all are heard of", || {
        seen = shape.lines(&["show", "anna"]).remove(0);
        let mut tickets = seen["tickets"].as_array().unwrap().iter();
        tickets.all(|ticket| ticket["alive"] == true)
    });
    let tickets = seen["tickets"].as_array().unwrap();
    for document in [&list[0], &seen] {
        assert_eq!(document["conversation_id"], "anna");
        assert_eq!(document["waiting"], waiting);
    }
    for head in [&list[0], &tickets[0]] {
        assert_eq!(head["ticket"], ticket, "{head}");
        assert_eq!(head["fencing_token"], *token, "{head}");
        assert_eq!(head["state"], "claimed", "{head}");
        assert_eq!(head["owner"], tickets[0]["owner"]);
    }
    for (ticket, number) in tickets.iter().zip(ticket..=ticket + waiting) {
        assert_eq!(ticket["ticket"], number, "{ticket}");
    }
    let states = tickets[1..].iter().map(|ticket| &ticket["state"]);
    assert!(states.eq(vec!["waiting"; tickets.len() - 1]), "{seen}");
}

/// Asserts that `watch` and `export` both have these figures: conversations,
/// tickets that wait, and the longest queue.
#[track_caller]
fn agree(shape: &Shape<'_>, exporter: &Scraped, figures: [u32; 3]) {
    let line = shape.lines(&["watch", "--plain", "--count", "1"]).remove(0);
    let seen: Metrics = exporter.scrape();
    assert_eq!(line["connected"], true);
    seen.assert_has(&[("lock_store_fleet_up", 1)]);
    let [conversations, waiting, longest] = figures;
    for (field, metric, value) in [
        ("conversations", "conversations", conversations),
        ("waiting", "waiting", waiting),
        ("longest_queue", "longest_queue", longest),
        ("dead", "dead_tickets", 0),
        ("damaged", "damaged_locks", 0),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
        seen.assert_has(&[(&format!("lock_store_fleet_{metric}"), value)]);
    }
    seen.assert_has(&[("lock_store_fleet_keys", conversations)]);
}
