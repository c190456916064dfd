//! Rasa's layout, shared with instances of Rasa's own `RedisLockStore`: what
//! they write, what they drop, and what they are told nothing of.
//!
//! Rasa's part is played here as its Python does it: `GET`, a change, `SET`.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lock_store::{
    ConversationId, DeploymentMode, Layout, LockStore, RedisConfig, RedisLockStore, TicketState,
    Timing,
};
use redis_fixture::{Connection, Server};
use serde_json::{Value, json};

use support::redis::{PATIENCE, aside, at, holds_soon, nothing_left_at, store};

const KEY: &str = "lock:a";

/// An instance of Rasa, as far as the lock of one conversation goes.
struct Rasa(Connection);

impl Rasa {
    fn at(server: &Server) -> Self {
        Self(server.connect().unwrap())
    }

    fn text(&mut self) -> Option<String> {
        let reply = self.0.command(&["GET", KEY]).unwrap();
        (!reply.is_nil()).then(|| reply.text())
    }

    /// What Rasa's `get_lock` makes of it: number and `expires`.
    fn tickets(&mut self) -> Vec<(u64, f64)> {
        let Some(text) = self.text() else {
            return Vec::new();
        };
        let lock: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(lock["conversation_id"], "a");
        let ticket = |text: &Value| {
            let ticket: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            (
                ticket["number"].as_u64().unwrap(),
                ticket["expires"].as_f64().unwrap(),
            )
        };
        lock["tickets"]
            .as_array()
            .unwrap()
            .iter()
            .map(ticket)
            .collect()
    }

    /// `save_lock`: without what is ours, and without a time to live.
    fn save(&mut self, tickets: &[(u64, f64)]) {
        let tickets = tickets.iter().map(|(number, expires)| {
            let ticket = json!({"number": number, "expires": expires});
            ticket.to_string()
        });
        let lock = json!({"conversation_id": "a", "tickets": tickets.collect::<Vec<_>>()});
        self.0
            .command(&["SET", KEY, &lock.to_string()])
            .unwrap()
            .ok();
    }

    /// What a waiting instance does once a second.
    fn update_lock(&mut self) {
        let tickets = self.tickets();
        self.save(&tickets);
    }

    fn issue_ticket(&mut self) -> u64 {
        let mut tickets = self.tickets();
        let number = tickets.last().map_or(0, |(number, _)| number + 1);
        tickets.push((number, now() + 60.0));
        self.save(&tickets);
        number
    }

    fn cleanup(&mut self, number: u64) {
        let mut tickets = self.tickets();
        tickets.retain(|(of, _)| *of != number);
        self.save(&tickets);
        if tickets.is_empty() {
            self.0.command(&["DEL", KEY]).unwrap().integer();
        }
    }
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

fn config(server: &Server) -> RedisConfig {
    RedisConfig {
        layout: Layout::Rasa,
        ..at(&server.url())
    }
}

async fn ours(server: &Server) -> LockStore {
    let timing = Timing {
        wait_time: Duration::from_millis(50),
        ..Timing::default()
    };
    store(&config(server), timing).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rasa_reads_what_we_write() {
    let server = Server::start();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    let guard = store.lock("a").await.unwrap();
    let place = store.take_ticket("a").await.unwrap();
    let tickets = rasa.tickets();
    assert_eq!(tickets.len(), 2);
    assert_eq!((tickets[0].0, tickets[1].0), (0, 1));
    for (_, expires) in tickets {
        assert!((now() + 30.0..now() + 61.0).contains(&expires));
    }
    assert!(rasa.0.command(&["PTTL", KEY]).unwrap().integer() > 30_000);
    drop((guard, place));
    store.close().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_rasas_has_its_turn_among_ours() {
    let server = Server::start();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    let first = store.lock("a").await.unwrap();
    let second = rasa.issue_ticket();
    assert_eq!(second, 1);
    let third = store.take_ticket("a").await.unwrap();
    assert_eq!(
        (third.ticket_number(), third.position().await.unwrap()),
        (2, 2)
    );
    assert!(store.try_lock("a").await.unwrap().is_none());

    first.release().await.unwrap();
    // Rasa's turn: nobody is called, and nobody else is served.
    assert_eq!(rasa.tickets()[0].0, second);
    assert_eq!(third.position().await.unwrap(), 1);
    rasa.update_lock();
    rasa.cleanup(second);
    // Nobody calls us, either; and what was ours in the ticket is dropped.
    let third = tokio::time::timeout(PATIENCE, third.wait()).await.unwrap();
    let third = third.unwrap();
    assert_eq!(third.ticket_number(), 2);
    third.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_keeps_its_lock_when_rasa_writes() {
    let server = Server::start();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    let guard = store.lock("a").await.unwrap();
    let waiter = store.take_ticket("a").await.unwrap();
    let (held, waiting) = (guard.fencing_token(), waiter.fencing_token());
    for _ in 0..3 {
        rasa.update_lock();
        guard.extend(PATIENCE).await.unwrap();
        rasa.update_lock();
        assert_eq!(waiter.position().await.unwrap(), 1);
    }
    assert!(!guard.is_lost());
    assert_eq!(guard.fencing_token(), held);
    rasa.update_lock();
    guard.release().await.unwrap();
    let next = tokio::time::timeout(PATIENCE, waiter.wait()).await.unwrap();
    let next = next.unwrap();
    assert_eq!(next.fencing_token(), waiting);
    rasa.update_lock();
    // Given back by its owner, whatever Rasa made of it.
    next.release().await.unwrap();
    nothing_left_at(&server).await;
}

/// When calls may have been missed, holders see whether they still hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_looks_knows_its_ticket_whatever_rasa_made_of_it() {
    let server = Server::start();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    // Its lease is watched.
    let guard = store.lock("a").keep_alive(true).await.unwrap();
    for _ in 0..3 {
        rasa.update_lock();
        let lock = store.get_lock("a").await.unwrap().unwrap();
        let ticket = lock.tickets().next().unwrap();
        assert_eq!(ticket.fencing_token, guard.fencing_token());
        assert_eq!(ticket.owner.unwrap().client, store.client_id());
        let looks = || {
            let stats = server.command(&["INFO", "commandstats"]).text();
            let of_get = stats
                .lines()
                .find_map(|line| line.strip_prefix("cmdstat_get:calls="));
            of_get.map_or(0, |calls| {
                calls.split(',').next().unwrap().parse::<u64>().unwrap()
            })
        };
        let before = aside(looks);
        aside(|| server.command(&["CLIENT", "KILL", "TYPE", "pubsub"])).integer();
        holds_soon("the holder has looked", || looks() > before).await;
    }
    guard.extend(PATIENCE).await.unwrap();
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_with_our_number_that_is_not_ours_stays() {
    let server = Server::start();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    let guard = store.lock("a").await.unwrap();
    // Rasa's race: it writes what it read before we came.
    rasa.save(&[(0, now() + 60.0)]);
    assert!(guard.extend(PATIENCE).await.unwrap_err().is_lost());
    assert!(guard.is_lost());
    drop(guard);
    store.close().await.unwrap();
    assert_eq!(rasa.tickets().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_ticket_of_rasas_is_dropped_and_the_key_gets_an_end_again() {
    let server = Server::start();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    rasa.save(&[(0, now() - 1.0), (1, now() + 60.0)]);
    assert_eq!(rasa.0.command(&["PTTL", KEY]).unwrap().integer(), -1);
    let place = store.take_ticket("a").await.unwrap();
    assert_eq!(place.position().await.unwrap(), 1);
    assert_eq!(rasa.tickets()[0].0, 1);
    // Not before Rasa's ticket.
    assert!(rasa.0.command(&["PTTL", KEY]).unwrap().integer() > 50_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_lock_that_rasa_left_is_no_obstacle() {
    let server = Server::start();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    rasa.save(&[]);
    assert_eq!(store.get_lock("a").await.unwrap(), None);
    let guard = store.lock("a").await.unwrap();
    assert_eq!(guard.ticket_number(), 0);
    guard.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_and_stays_as_it_is() {
    let server = Server::start();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    let ticket = "{\"conversation_id\": \"a\", \"tickets\": [\"{\\\"number\\\": 0}\"]}";
    for damaged in [
        "no JSON",
        "[1, 2]",
        "{\"tickets\": {\"a\": 1}}",
        "7",
        ticket,
    ] {
        rasa.0.command(&["SET", KEY, damaged]).unwrap().ok();
        let error = store.lock("a").await.unwrap_err();
        assert!(error.to_string().contains(KEY), "{error}");
        assert_eq!(rasa.text().unwrap(), damaged);
    }
    assert!(store.delete_lock("a").await.unwrap());
    rasa.0.command(&["RPUSH", KEY, "x"]).unwrap().integer();
    assert!(store.lock("a").await.unwrap_err().to_string().contains(KEY));
    store.lock("b").await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_all_kinds_are_read_as_they_were() {
    let server = Server::start();
    let store = ours(&server).await;
    let mut raw = server.connect().unwrap();
    for id in ["a\"b", "a\\b/c", "línea\n\u{1}", "{1}:x", "\u{1f600}"] {
        let guard = store.lock(id).await.unwrap();
        let text = raw.command(&["GET", &format!("lock:{id}")]).unwrap().text();
        let lock: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(lock["conversation_id"], id);
        guard.release().await.unwrap();
    }
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_on_call_see_both_kinds_of_tickets() {
    use futures_util::TryStreamExt as _;

    let server = Server::start();
    let redis = RedisLockStore::connect(&config(&server)).await.unwrap();
    let (store, mut rasa) = (ours(&server).await, Rasa::at(&server));
    let number = rasa.issue_ticket();
    let _place = store.take_ticket("a").await.unwrap();
    let id = ConversationId::new("a").unwrap();
    // Also when the server does not know the scripts any more.
    aside(|| server.command(&["SCRIPT", "FLUSH"])).ok();
    let seen: Vec<_> = redis.survey().try_collect().await.unwrap();
    assert_eq!((seen.len(), seen[0].waiting), (1, 1));
    assert_eq!(
        (seen[0].serving.number, seen[0].serving.owner),
        (number, None)
    );
    // A ticket of Rasa's lives 60 s from its issue.
    assert!(seen[0].age() < PATIENCE);
    let closely = redis.inspect(&id).await.unwrap().unwrap();
    let tickets: Vec<_> = closely.lock.tickets().cloned().collect();
    assert_eq!(tickets[1].state, TicketState::Waiting);
    assert_eq!(closely.is_alive(&tickets[0]), None);
    assert_eq!(closely.is_alive(&tickets[1]), Some(true));
    assert!(
        redis
            .take_away(&id, &tickets[0], Timing::default().claim_window)
            .await
            .unwrap()
    );
    assert_eq!(rasa.tickets().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rasa_knows_no_clusters() {
    let config = RedisConfig {
        layout: Layout::Rasa,
        deployment_mode: DeploymentMode::Cluster,
        ..at("localhost")
    };
    let error = RedisLockStore::connect(&config).await.unwrap_err();
    assert!(
        error.to_string().contains("Rasa 3.6 knows no clusters"),
        "{error}"
    );
}
