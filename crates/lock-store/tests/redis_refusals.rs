//! A server refuses what it is asked: the error at the start has the server's
//! own words, and says whether it is of use to try again.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use lock_store::{LockStore, RedisConfig, Timing};
use redis_fixture::{Connection, Server};
use tokio::task::JoinSet;

use support::redis::{aside, at, holds_soon, store};
use support::refuser::Refuser;
use support::start::{PASSWORD, is_lasting, is_passing, with_password};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// By default no command is renamed; some services take some away.
async fn lacks(command: &str) {
    let line = format!("{command} \"\"");
    let server = aside(|| Server::builder().config("rename-command", &line).start());
    assert!(aside(|| server.command(&[command])).is_error("ERR unknown command"));
    let words = ["unknown command", command];
    is_lasting(&at(&server.url()), &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_scripts() {
    lacks("EVALSHA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_no_scripts() {
    lacks("SCRIPT").await;
}

/// Redis before 6.0 has no such command.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_greeting() {
    lacks("HELLO").await;
}

/// What it says repeats the arguments, and so the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_greeting_that_is_told_a_password() {
    let server = aside(|| {
        let builder = Server::builder().config("rename-command", "HELLO \"\"");
        builder.password(PASSWORD).start()
    });
    let redis = with_password(at(&server.url()), PASSWORD);
    is_lasting(&redis, &["unknown command", "HELLO"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_protected_mode() {
    let refuser = Refuser::saying(
        "DENIED Redis is running in protected mode because protected mode is enabled and no \
         password is set for the default user. In this mode connections are only accepted from \
         the loopback interface.",
    );
    let words = ["Redis is running in protected mode"];
    is_lasting(&at(&refuser.url()), &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_too_many_clients() {
    let refuser = Refuser::saying("ERR max number of clients reached");
    is_passing(&at(&refuser.url()), &["max number of clients reached"]).await;
}

mod few_connections {
    use super::*;

    /// As many clients as the server admits: one of the test, one that hears
    /// calls, and two for steps.
    const ADMITTED: usize = 4;

    const CONVERSATIONS: usize = 40;

    fn four_connections(server: &Server) -> RedisConfig {
        RedisConfig {
            connections: 4,
            ..at(&server.url())
        }
    }

    /// The clients of the server, with the one that asks.
    fn clients(admin: &mut Connection) -> usize {
        let list = aside(|| admin.command(&["CLIENT", "LIST"])).unwrap();
        list.text().lines().count()
    }

    fn admit_few(admin: &mut Connection) {
        let limit = ADMITTED.to_string();
        let command = ["CONFIG", "SET", "maxclients", &limit];
        aside(|| admin.command(&command)).unwrap().ok();
    }

    /// Every conversation can be locked, whichever connection it would use.
    async fn all_can_be_locked(store: &LockStore) {
        let mut held = JoinSet::new();
        for number in 0..CONVERSATIONS {
            let store = store.clone();
            held.spawn(async move {
                let request = store.lock(format!("c{number}")).wait_timeout(SOON);
                request.await
            });
        }
        let outcomes = held.join_all().await;
        let refused: Vec<_> = outcomes.iter().filter_map(|it| it.as_ref().err()).collect();
        assert!(
            refused.is_empty(),
            "{} of {CONVERSATIONS} cannot be locked: {}",
            refused.len(),
            refused[0]
        );
        for guard in outcomes {
            guard.unwrap().release().await.unwrap();
        }
    }

    /// Asked over the one connection: another is not admitted.
    async fn nothing_left(admin: &mut Connection) {
        holds_soon("nothing is left", || {
            admin.command(&["DBSIZE"]).unwrap().integer() == 0
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn at_the_start() {
        let server = aside(Server::start);
        let mut admin = aside(|| server.connect()).unwrap();
        holds_soon("the test is alone", || clients(&mut admin) == 1).await;
        admit_few(&mut admin);
        let store = store(&four_connections(&server), Timing::default()).await;
        all_can_be_locked(&store).await;
        assert!(clients(&mut admin) <= ADMITTED);
        nothing_left(&mut admin).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn later() {
        let server = aside(Server::start);
        let mut admin = aside(|| server.connect()).unwrap();
        let store = store(&four_connections(&server), Timing::default()).await;
        all_can_be_locked(&store).await;
        admit_few(&mut admin);
        let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        aside(|| admin.command(&kill)).unwrap();
        // Not more than these come back.
        all_can_be_locked(&store).await;
        assert!(clients(&mut admin) <= ADMITTED);
        nothing_left(&mut admin).await;
    }
}
