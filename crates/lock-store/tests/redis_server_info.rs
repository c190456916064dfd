//! What servers say about themselves, to whom they do.

#![allow(clippy::unwrap_used)]

mod support;

use lock_store::{DeploymentMode, LockStore, RedisConfig, RedisLockStore};
use redis_fixture::{Cluster, Server};

use support::redis::{aside, at};

#[tokio::test(flavor = "multi_thread")]
async fn one_server_tells_its_fields() {
    let server = Server::builder().config("maxmemory", "64mb").start();
    let redis = RedisLockStore::connect(&at(&server.url())).await.unwrap();
    let told = redis.server_info().await.unwrap().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].address(), server.address());
    assert_eq!(told[0].field("maxmemory"), Some("67108864"));
    assert_eq!(told[0].field("no_such_field"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_master_of_a_cluster_tells_its_own() {
    let cluster = aside(Cluster::start);
    let config = RedisConfig {
        deployment_mode: DeploymentMode::Cluster,
        endpoints: cluster.addresses(),
        db: 0,
        ..at("localhost")
    };
    let redis = RedisLockStore::connect(&config).await.unwrap();
    let told = redis.server_info().await.unwrap().unwrap();
    let mut runs: Vec<_> = told.iter().map(|info| info.field("run_id")).collect();
    runs.sort_unstable();
    runs.dedup();
    assert!(runs.len() >= 3 && told.len() == runs.len());
    for info in &told {
        assert!(cluster.addresses().contains(&info.address().to_owned()));
    }
}

/// The rights that locks need are enough for everything else.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_ask_is_told_nothing_and_locks_all_the_same() {
    let rules = "~lock-store:* &lock-store:* +@all -info";
    let server = Server::builder().acl_user("bot", "secret", rules).start();
    let url = server.url().replace("://", "://bot:secret@");
    let redis = RedisLockStore::connect(&at(&url)).await.unwrap();
    assert_eq!(redis.server_info().await.unwrap(), None);
    let store = LockStore::new(redis);
    store.lock("a").await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told() {
    let server = Server::start();
    let config = RedisConfig {
        socket_timeout: std::time::Duration::from_secs(3),
        ..at(&server.url())
    };
    let redis = RedisLockStore::connect(&config).await.unwrap();
    aside(|| server.kill());
    assert!(redis.server_info().await.unwrap_err().is_unavailable());
}
