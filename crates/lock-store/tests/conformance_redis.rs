//! Conformance of `RedisLockStore`: every check, over every shape that Redis
//! comes in.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use lock_store::testing::Storage;
use lock_store::{DeploymentMode, Layout, RedisConfig};
use redis_fixture::{
    Certificates, ClientCertificate, Cluster, Sentinels, Server, documented_rights,
};
use secrecy::SecretString;

use support::redis::{Common, PATIENCE, at, own_prefix, replicated_at, store};

/// What it names besides for a cluster.
fn documented_rights_in_a_cluster() -> &'static str {
    let page = include_str!("../../../docs/REDIS.md");
    let (_, rest) = page.split_once("; in a cluster `").unwrap();
    let (rules, _) = rest.split_once('`').unwrap();
    assert!(rules.starts_with('+'), "{rules}");
    rules
}

/// Stores on something that lives as long as they are made.
fn storage<T: Send + Sync + 'static>(servers: Arc<T>, redis: RedisConfig) -> Storage {
    Storage::new(move |timing| {
        let (servers, redis) = (servers.clone(), redis.clone());
        Box::pin(async move {
            let store = store(&redis, timing).await;
            drop(servers);
            store
        })
    })
}

/// The same, once there is a connection to every node of a cluster: one with TLS
/// takes longer than some checks want to wait.
fn connected<T: Send + Sync + 'static>(servers: Arc<T>, redis: RedisConfig) -> Storage {
    Storage::new(move |timing| {
        let (servers, redis) = (servers.clone(), redis.clone());
        Box::pin(async move {
            let store = store(&redis, timing).await;
            for number in 0..12 {
                let request = store.lock(format!("node-{number}")).lifetime(PATIENCE);
                let guard = request.wait_timeout(PATIENCE).await.unwrap();
                guard.release().await.unwrap();
            }
            drop(servers);
            store
        })
    })
}

mod plain {
    use super::*;

    static SERVER: Common<Server> = Common::new();

    fn plain() -> Storage {
        let server = SERVER.get(Server::start);
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            ..at(&server.url())
        };
        storage(server, redis)
    }

    lock_store::conformance_tests!(plain());
}

mod rasas_layout {
    use super::*;

    static SERVER: Common<Server> = Common::new();

    fn rasas() -> Storage {
        let server = SERVER.get(Server::start);
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            layout: Layout::Rasa,
            ..at(&server.url())
        };
        storage(server, redis)
    }

    lock_store::conformance_tests!(rasas());
}

mod several_connections {
    use super::*;

    static SERVER: Common<Server> = Common::new();

    fn several() -> Storage {
        let server = SERVER.get(Server::start);
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            connections: 3,
            ..at(&server.url())
        };
        storage(server, redis)
    }

    lock_store::conformance_tests!(several());
}

mod tls_with_client_certificate {
    use super::*;

    static SERVER: Common<(Server, Certificates)> = Common::new();

    fn tls() -> Storage {
        let shared = SERVER.get(|| {
            let certificates = Certificates::new();
            let server = Server::builder()
                .tls(&certificates, ClientCertificate::Required)
                .without_plain_port()
                .start();
            (server, certificates)
        });
        let (server, certificates) = &*shared;
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            ssl_ca_certs: Some(certificates.authority()),
            ssl_certfile: Some(certificates.client()),
            ssl_keyfile: Some(certificates.client_key()),
            ..at(&server.tls_url())
        };
        storage(shared.clone(), redis)
    }

    lock_store::conformance_tests!(tls());
}

mod acl_user_with_least_rights {
    use super::*;

    fn acl() -> Storage {
        // A server each, as all have the one prefix that the user may use.
        let server = Server::builder()
            .acl_user(
                "bot",
                "swordfish",
                &documented_rights("bot").replace("lock-store:", "bot:"),
            )
            .without_default_user()
            .start();
        let redis = RedisConfig {
            key_prefix: Some("bot".into()),
            username: Some("bot".into()),
            password: Some(SecretString::from("swordfish")),
            ..at(&server.url())
        };
        storage(Arc::new(server), redis)
    }

    lock_store::conformance_tests!(acl());
}

mod rasas_layout_with_least_rights {
    use super::*;

    fn acl() -> Storage {
        // The defaults, as the page has them.
        let server = Server::builder()
            .acl_user("rasa", "swordfish", documented_rights("rasa"))
            .without_default_user()
            .start();
        let redis = RedisConfig {
            username: Some("rasa".into()),
            password: Some(SecretString::from("swordfish")),
            layout: Layout::Rasa,
            ..at(&server.url())
        };
        storage(Arc::new(server), redis)
    }

    lock_store::conformance_tests!(acl());
}

mod unix_socket {
    use super::*;

    static SERVER: Common<Server> = Common::new();

    fn unix() -> Storage {
        let server = SERVER.get(Server::start);
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            ..at(&server.unix_url())
        };
        storage(server, redis)
    }

    lock_store::conformance_tests!(unix());
}

mod sentinel {
    use super::*;

    static SERVERS: Common<Sentinels> = Common::new();

    fn sentinel() -> Storage {
        let sentinels = SERVERS.get(Sentinels::start);
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            deployment_mode: DeploymentMode::Sentinel,
            endpoints: sentinels.sentinel_addresses(),
            sentinel_service: sentinels.master_name().into(),
            ..at("localhost")
        };
        storage(sentinels, redis)
    }

    lock_store::conformance_tests!(sentinel());
}

mod replicated {
    use super::*;

    static SERVERS: Common<(Server, Server)> = Common::new();

    fn replicated() -> Storage {
        let servers = SERVERS.get(|| {
            let master = Server::builder()
                .config("repl-diskless-sync-delay", "0")
                .start();
            let replica = Server::builder().replica_of(&master).start();
            (master, replica)
        });
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            ..replicated_at(&servers.0.url())
        };
        storage(servers, redis)
    }

    lock_store::conformance_tests!(replicated());
}

mod cluster {
    use super::*;

    static SERVERS: Common<Cluster> = Common::new();

    fn cluster() -> Storage {
        let cluster = SERVERS.get(Cluster::start);
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            deployment_mode: DeploymentMode::Cluster,
            endpoints: cluster.addresses(),
            ..at("localhost")
        };
        storage(cluster, redis)
    }

    lock_store::conformance_tests!(cluster());
}

mod cluster_with_tls_and_least_rights {
    use super::*;

    static SERVERS: Common<(Cluster, Certificates)> = Common::new();

    fn secured() -> Storage {
        let shared = SERVERS.get(|| {
            let certificates = Certificates::new();
            let rights = documented_rights("bot").replace("lock-store:", "test*:");
            let cluster = Cluster::builder()
                .acl_user(
                    "bot",
                    "swordfish",
                    &format!("{rights} {}", documented_rights_in_a_cluster()),
                )
                .without_default_user()
                .tls(&certificates, ClientCertificate::Required)
                .start();
            (cluster, certificates)
        });
        let (cluster, certificates) = &*shared;
        let redis = RedisConfig {
            key_prefix: Some(own_prefix()),
            deployment_mode: DeploymentMode::Cluster,
            endpoints: cluster.addresses(),
            username: Some("bot".into()),
            password: Some(SecretString::from("swordfish")),
            use_ssl: true,
            ssl_ca_certs: Some(certificates.authority()),
            ssl_certfile: Some(certificates.client()),
            ssl_keyfile: Some(certificates.client_key()),
            ..at("localhost")
        };
        connected(shared.clone(), redis)
    }

    lock_store::conformance_tests!(secured());
}
