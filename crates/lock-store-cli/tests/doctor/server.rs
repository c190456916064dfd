//! A server that is as it should not be.

use redis_fixture::{Server, until};

use crate::support::{doctor, healthy, redis, usual};

#[test]
fn a_policy_that_throws_locks_away() {
    let server = healthy().config("maxmemory-policy", "allkeys-lru").start();
    let found = doctor(&redis(&server.url(), ""));
    found.warns("memory_policy", &["allkeys-lru", "noeviction"]);
    server
        .command(&["CONFIG", "SET", "maxmemory", "100mb"])
        .ok();
    let found = doctor(&redis(&server.url(), ""));
    found.fails(
        "memory_policy",
        &["allkeys-lru", "throw locks away", "noeviction"],
    );
    found.says("memory", "ok", &["of maxmemory"]);
}

#[test]
fn memory_that_is_nearly_full() {
    let server = healthy().start();
    let used: u64 = server.info("used_memory").unwrap().parse().unwrap();
    server
        .command(&["SET", "ballast", &"x".repeat(40_000_000)])
        .ok();
    let limit = (used + 46_000_000).to_string();
    server.command(&["CONFIG", "SET", "maxmemory", &limit]).ok();
    let found = doctor(&redis(&server.url(), ""));
    found.warns("memory", &["% of maxmemory", "raise maxmemory"]);
}

#[test]
fn no_persistence_costs_all() {
    let server = usual().start();
    let found = doctor(&redis(&server.url(), ""));
    found.warns(
        "persistence",
        &["a restart forgets all locks", "appendonly yes"],
    );
    server.command(&["CONFIG", "SET", "save", "60 1"]).ok();
    let found = doctor(&redis(&server.url(), ""));
    found.warns("persistence", &["since the last one", "appendonly yes"]);
    for (sync, said) in [
        ("always", "forgets nothing"),
        ("everysec", "about a second"),
        ("no", "some seconds"),
    ] {
        server.command(&["CONFIG", "SET", "appendonly", "yes"]).ok();
        server.command(&["CONFIG", "SET", "appendfsync", sync]).ok();
        let found = doctor(&redis(&server.url(), ""));
        found.is_well();
        found.says("persistence", "ok", &[said]);
    }
}

/// Of a server that saves into a folder that is gone.
#[test]
fn a_save_that_failed() {
    let server = healthy().config("dbfilename", "dump.rdb").start();
    let folder = server.command(&["CONFIG", "GET", "dir"]).texts().remove(1);
    std::fs::create_dir(format!("{folder}/dump.rdb")).unwrap();
    server.command(&["BGSAVE"]);
    until("the save has failed", || {
        server.info("rdb_last_bgsave_status").as_deref() == Some("err")
    });
    let found = doctor(&redis(&server.url(), ""));
    found.fails("persistence", &["the last save failed", "disk full"]);
}

#[test]
fn a_replica_as_master() {
    let master = healthy().start();
    let replica = healthy().replica_of(&master).start();
    let found = doctor(&redis(&replica.url(), ""));
    found.fails("role", &["a replica", "name the master"]);
    found.skips(&["rights", "persistence", "hand_off"], "role");
}

#[test]
fn missing_replicas() {
    let master = healthy().start();
    let more = "  replicas: 1\n";
    let found = doctor(&redis(&master.url(), more));
    found.says("replicas", "failure", &["0 replicas are online", "wants 1"]);
    found.says("hand_off", "failure", &["see `replicas`"]);
    assert_eq!(found.with("failure"), ["replicas", "hand_off"]);
    assert_eq!(master.command(&["DBSIZE"]).integer(), 0);
    let _replica = healthy().replica_of(&master).start();
    // A replica knows that it has caught up a little earlier than its master.
    redis_fixture::until("the master knows its replica", || {
        let replica = master.info("slave0");
        replica.is_some_and(|replica| replica.contains("state=online"))
    });
    let found = doctor(&redis(&master.url(), more));
    found.is_well();
    found.says("replicas", "ok", &["1 online; each lock waits for 1"]);
    found.says("rights", "ok", &["all 22 commands"]);
}

#[test]
fn too_few_replicas_to_write() {
    let master = healthy().start();
    let _replica = healthy().replica_of(&master).start();
    master
        .command(&["CONFIG", "SET", "min-replicas-to-write", "2"])
        .ok();
    let found = doctor(&redis(&master.url(), ""));
    found.says(
        "replicas",
        "failure",
        &["without 2", "min-replicas-to-write"],
    );
}

#[test]
fn commands_that_held_everybody_up() {
    // With its log of them.
    let server = Server::builder().config("appendonly", "yes").start();
    server.command(&["DEBUG", "SLEEP", "0.1"]);
    server.command(&["EVAL", "local t = redis.call('TIME') repeat local n = redis.call('TIME') until (n[1] - t[1]) * 1000000 + n[2] - t[2] > 100000", "0"]);
    let found = doctor(&redis(&server.url(), ""));
    found.warns("slow_log", &["held everybody up", "EVAL", "SLOWLOG GET"]);
}

#[test]
fn keys_without_an_end() {
    let server = healthy().start();
    server.command(&["RPUSH", "lock-store:tickets:a\x1b", "x"]);
    server
        .command(&["SET", "lock-store:tickets:b", "x", "EX", "1000"])
        .ok();
    let found = doctor(&redis(&server.url(), ""));
    found.warns(
        "leftovers",
        &["1 of 2 keys have no time to live", "lock-store:tickets:a"],
    );
    assert_eq!(server.command(&["DBSIZE"]).integer(), 2);
}

#[test]
fn keys_of_rasa() {
    let server = healthy().start();
    for key in ["lock:a", "lock:b", "bot:lock:a", "block:a"] {
        server.command(&["SET", key, "{}"]).ok();
    }
    let found = doctor(&redis(&server.url(), ""));
    found.warns("rasa_keys", &["2 lock:*", "--pattern 'lock:*'"]);
    let found = doctor(&redis(&server.url(), "  key_prefix: bot\n"));
    found.warns("rasa_keys", &["2 lock:*, 1 bot:lock:*"]);
    found.says("leftovers", "ok", &["0 locks"]);
}
