//! A Redis with locks in it, and commands that look after them.

#![allow(dead_code)] // not every test file needs all of it
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use lock_store::{
    ConversationId, Inspection, LockGuard, LockStore, Place as InLine, RedisConfig, RedisLockStore,
    Timing,
};
use redis_fixture::Server;
use serde_json::Value;
use tokio::runtime::Runtime;

pub(crate) use super::common::bare;
use super::common::{Ended, FOR_EVER, Place, Running, started_by, until};

pub(crate) struct Fleet {
    pub(crate) server: Server,
    pub(crate) place: Place,
    pub(crate) url: String,
    runtime: Runtime,
    store: LockStore,
    redis: RedisLockStore,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self::on(Server::start())
    }

    pub(crate) fn on(server: Server) -> Self {
        let url = server.url();
        let runtime = Runtime::new().unwrap();
        let config = RedisConfig::from_url(&url);
        let store = runtime.block_on(LockStore::redis(&url)).unwrap();
        let redis = runtime.block_on(RedisLockStore::connect(&config)).unwrap();
        Self {
            server,
            place: Place::new(),
            url,
            runtime,
            store,
            redis,
        }
    }

    /// `lock-store TASK --redis … ARGUMENTS`, not yet started.
    pub(crate) fn command(&self, task: &str, arguments: &[&str]) -> Command {
        let mut command = bare(&self.place, &[task, "--redis", &self.url]);
        command.args(arguments);
        command
    }

    pub(crate) fn start(&self, task: &str, arguments: &[&str]) -> Running {
        self.place.start(&mut self.command(task, arguments))
    }

    pub(crate) fn run(&self, task: &str, arguments: &[&str]) -> Ended {
        self.start(task, arguments).ended()
    }

    /// `lock-store exec ID OPTIONS -- sh -c SCRIPT`, started.
    pub(crate) fn exec(&self, id: &str, options: &[&str], script: &str) -> Running {
        let script = ["--", "sh", "-c", script];
        self.start("exec", &[&[id], options, &script].concat())
    }

    /// Another one, in a place of its own.
    pub(crate) fn exec_in(
        &self,
        place: &Place,
        id: &str,
        options: &[&str],
        script: &str,
    ) -> Running {
        let mut command = bare(place, &["exec", "--redis", &self.url, id]);
        command.args(options).args(["--", "sh", "-c", script]);
        place.start(command.env("ALL", self.place.path("")))
    }

    /// The same for conversation `a`, without a terminal, whatever this test
    /// was started from: so its command has a group of its own.
    pub(crate) fn exec_without_terminal(&self, options: &[&str], script: &str) -> Running {
        let begin = ["exec", "a", "--redis", &self.url];
        let arguments = [&begin, options, &["--", "sh", "-c", script]].concat();
        let setsid = ["setsid", "--wait"];
        self.place
            .start(&mut started_by(&setsid, &self.place, &arguments))
    }

    pub(crate) fn lock(&self, id: &str) -> LockGuard {
        let lock = async { self.store.lock(id).await };
        self.runtime.block_on(lock).unwrap()
    }

    pub(crate) fn queue(&self, id: &str) -> InLine {
        let ticket = async { self.store.take_ticket(id).wait_timeout(FOR_EVER).await };
        self.runtime.block_on(ticket).unwrap()
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(FOR_EVER, work).await.unwrap() };
        self.runtime.block_on(limited)
    }

    pub(crate) fn inspect(&self, id: &str) -> Option<Inspection> {
        let id = ConversationId::new(id).unwrap();
        self.block_on(self.redis.inspect(&id)).unwrap()
    }

    /// How many tickets there are.
    pub(crate) fn tickets(&self, id: &str) -> usize {
        self.inspect(id).map_or(0, |seen| seen.lock.tickets().len())
    }

    /// Waits until Redis knows that whoever is served listens: a client
    /// subscribes beside its first lock.
    pub(crate) fn until_heard_of(&self, id: &str) {
        until("its owner listens", || {
            let seen = self.inspect(id).unwrap();
            let head = seen.lock.tickets().next().unwrap();
            seen.is_alive(head) == Some(true)
        });
    }

    /// Takes the ticket that is served away.
    pub(crate) fn take_away(&self, id: &str) {
        let seen = self.inspect(id).unwrap();
        let head = seen.lock.tickets().next().unwrap();
        let id = seen.lock.conversation_id();
        assert!(
            self.block_on(
                self.redis
                    .take_away(id, head, Timing::default().claim_window)
            )
            .unwrap()
        );
    }
}

/// The lines of JSON on standard output.
pub(crate) fn json_lines(ended: &Ended) -> Vec<Value> {
    let lines = ended.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Asserts that wrong connections are told, with exit code 2: none, one where
/// nobody listens, one without the rights.
pub(crate) fn connections_are_checked(task: &str, arguments: &[&str]) {
    let place = Place::new();
    let run = |options: &[&str]| {
        let arguments = [&[task], options, arguments].concat();
        place.start(&mut bare(&place, &arguments)).ended()
    };
    let in_memory = format!("nothing that `{task}` could do");
    run(&[]).says(
        2,
        &["error: the locks are in memory", &in_memory, "--redis"],
    );

    let server = Server::start();
    server.kill();
    run(&["--redis", &server.url()]).says(2, &["error: ", "cannot reach Redis", "refused"]);

    let server = Server::builder()
        .acl_user(
            "weak",
            "right",
            "~lock-store:* &* +@all -lrange -evalsha -eval",
        )
        .start();
    let login = server.url().replace("://", "://weak:right@");
    run(&["--redis", &login]).says(2, &["error: ", "docs/REDIS.md"]);
    run(&["--redis", "localhost"]).says(2, &["error: --redis must be a URL"]);
    assert_eq!(place.read("stdout"), "");
}

pub(crate) const LONG: Duration = FOR_EVER;
