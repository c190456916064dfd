//! Clusters that want a password, or TLS and a named user: nodes that are only
//! found, masters that take over and slots that move are no less secured.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use lock_store::{DeploymentMode, RedisConfig, Timing};
use redis_fixture::{Certificates, ClientCertificate, Cluster};
use secrecy::SecretString;

use support::cluster::{another_master, names, nothing_left_in, two_at_each};
use support::load::{Load, Rules};
use support::redis::{aside, at, store};
use support::start::{PASSWORD, USER, WRONG_PASSWORD, is_lasting, with_password};

/// How long everything may stand still.
const SOME_SECONDS: Duration = Duration::from_secs(20);

/// A client that is told of two nodes, and finds the others.
fn to(cluster: &Cluster) -> RedisConfig {
    RedisConfig {
        deployment_mode: DeploymentMode::Cluster,
        endpoints: cluster.addresses()[..2].to_vec(),
        ..at("localhost")
    }
}

/// All that can happen to a cluster, under load.
async fn bad_days(cluster: &Cluster, redis: &RedisConfig) {
    // By plan: nobody notices, nor is taken for dead while a master takes no
    // writes.
    let patient = Timing {
        claim_window: Duration::from_secs(30),
        ..Timing::default()
    };
    let one = store(redis, patient.clone()).await;
    let other = store(redis, patient).await;
    let conversations = two_at_each(cluster, &one).await;
    let slot = conversations[0].1;
    let load = Load::begin(&[&one, &other], &names(&conversations), 1, Rules::strict());
    load.goes_on(20).await;
    aside(|| cluster.failover_of_slot(slot));
    load.goes_on_within(SOME_SECONDS, 20).await;
    aside(|| cluster.migrate_slot(slot, another_master(cluster, slot)));
    load.goes_on_within(SOME_SECONDS, 20).await;
    load.end().await;
    nothing_left_in(cluster).await;

    let one = store(redis, Timing::default()).await;
    let other = store(redis, Timing::default()).await;
    // A master dies, with what it has not replicated yet, and comes back.
    let lossy = Rules {
        lifetime: Duration::from_secs(3),
        may_forget: true,
        ..Rules::outage(Duration::from_secs(8))
    };
    let load = Load::begin(&[&one, &other], &names(&conversations), 1, lossy);
    load.goes_on(20).await;
    let old = aside(|| {
        let old = cluster.kill_master_of_slot(slot);
        cluster.node_of_slot(slot);
        cluster.wait_until_settled();
        old
    });
    load.goes_on_within(SOME_SECONDS, 20).await;
    aside(|| {
        old.restart_empty();
        cluster.wait_until_settled();
    });
    load.goes_on_within(SOME_SECONDS, 20).await;
    load.end().await;
    nothing_left_in(cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_a_password() {
    let cluster = aside(|| Cluster::builder().password(PASSWORD).start());
    let redis = to(&cluster);
    is_lasting(&redis, &["wants a password", "lock_store.password"]).await;
    let wrong = with_password(redis.clone(), WRONG_PASSWORD);
    is_lasting(&wrong, &["refused", "lock_store.password"]).await;
    bad_days(&cluster, &with_password(redis, PASSWORD)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_tls_and_a_named_user() {
    let certificates = Certificates::new();
    let cluster = aside(|| {
        Cluster::builder()
            .acl_user(USER, PASSWORD, "~* &* +@all")
            .without_default_user()
            .tls(&certificates, ClientCertificate::Required)
            .start()
    });
    let stranger = RedisConfig {
        username: Some(USER.into()),
        password: Some(SecretString::from(PASSWORD)),
        use_ssl: true,
        ssl_ca_certs: Some(certificates.authority()),
        ..to(&cluster)
    };
    is_lasting(&stranger, &["certificate", "lock_store.ssl_certfile"]).await;
    let distrustful = RedisConfig {
        ssl_ca_certs: Some(certificates.other_authority()),
        ..stranger.clone()
    };
    is_lasting(&distrustful, &["certificate", "lock_store.ssl_ca_certs"]).await;
    let redis = RedisConfig {
        ssl_certfile: Some(certificates.client()),
        ssl_keyfile: Some(certificates.client_key()),
        ..stranger
    };
    bad_days(&cluster, &redis).await;
}
