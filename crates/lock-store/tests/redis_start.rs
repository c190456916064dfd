//! What is wrong at the start is named: what it is, and which key to change.
//! Here what answers: nothing, something else than a Redis, or a Redis of another
//! kind than is configured.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lock_store::{DeploymentMode, RedisConfig};
use redis_fixture::{Cluster, Sentinels, Server};

use support::redis::at;
use support::start::{NOBODY, is_lasting, is_passing};

/// Something that listens and is no Redis.
struct Impostor {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Impostor {
    fn new(mut serve: impl FnMut(TcpStream) -> Option<TcpStream> + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ended = ended.clone();
            move || {
                let mut open = Vec::new();
                for stream in listener.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    open.extend(serve(stream.unwrap()));
                }
            }
        });
        Self {
            port,
            ended,
            thread: Some(thread),
        }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_some(stream: &mut TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let _ = stream.read(&mut [0; 1024]);
}

mod not_a_redis {
    use super::*;

    #[tokio::test]
    async fn it_speaks_http() {
        let impostor = Impostor::new(|mut stream| {
            read_some(&mut stream);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
            None
        });
        is_lasting(&at(&impostor.url()), &["is not a Redis", "lock_store.port"]).await;
    }

    /// A web server may hang up without a word, like a Redis that restarts.
    #[tokio::test]
    async fn it_hangs_up() {
        let impostor = Impostor::new(|mut stream| {
            read_some(&mut stream);
            None
        });
        is_passing(
            &at(&impostor.url()),
            &["hung up instead of answering", "is it a Redis"],
        )
        .await;
        let at_once = Impostor::new(|_| None);
        is_passing(&at(&at_once.url()), &["hung up instead of answering"]).await;
    }

    #[tokio::test]
    async fn it_says_nothing() {
        let impostor = Impostor::new(Some);
        let timeout = Duration::from_millis(300);
        let redis = RedisConfig {
            socket_timeout: timeout,
            ..at(&impostor.url())
        };
        let begun = Instant::now();
        is_passing(&redis, &["no answer in time", "lock_store.socket_timeout"]).await;
        assert!(begun.elapsed() >= 2 * timeout);
    }

    #[tokio::test]
    async fn nothing_listens() {
        let url = format!("redis://{NOBODY}/0");
        is_passing(&at(&url), &["cannot reach", "refused"]).await;
    }

    #[tokio::test]
    async fn no_such_socket() {
        is_passing(
            &at("unix:///nowhere/redis.sock"),
            &["cannot reach", "/nowhere/redis.sock"],
        )
        .await;
    }

    #[tokio::test]
    async fn no_such_host() {
        let url = "redis://no-such-host.invalid:6379/0";
        is_passing(&at(url), &["cannot reach", "no-such-host.invalid"]).await;
    }

    #[tokio::test]
    async fn a_url_that_is_none() {
        for url in [
            "http://127.0.0.1/",
            "redis://",
            "redis://:swordfish@127.0.0.1:x/0",
            "redis://127.0.0.1/x",
            // Neither a URL nor the name of a host.
            "redis::swordfish@127.0.0.1",
            "captain-nemo:swordfish@127.0.0.1",
            "127.0.0.1:6379",
            "a host",
            "",
        ] {
            is_lasting(&at(url), &["URL", "redis://"]).await;
        }
    }
}

mod made_in_code {
    use super::*;

    /// Scripts have the prefix in them as it is.
    #[tokio::test]
    async fn a_prefix_that_is_lua() {
        let server = Server::start();
        let redis = RedisConfig {
            key_prefix: Some("a' .. redis.call('SET', 'b', 'c') .. '".into()),
            ..at(&server.url())
        };
        is_lasting(&redis, &["key_prefix is", "letters, digits"]).await;
        assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
    }

    /// The others must not be taken for all there are.
    #[tokio::test]
    async fn an_endpoint_without_a_port() {
        let cluster = RedisConfig {
            deployment_mode: DeploymentMode::Cluster,
            endpoints: vec!["redis-1".into(), NOBODY.into()],
            ..at("localhost")
        };
        is_lasting(&cluster, &["endpoints must be", "`host:port`"]).await;
    }

    #[tokio::test]
    async fn numbers_out_of_range() {
        let url = format!("redis://{NOBODY}/0");
        let many = RedisConfig {
            connections: 65,
            ..at(&url)
        };
        is_lasting(&many, &["connections is 65", "from 1 to 64"]).await;
        let no_time = RedisConfig {
            socket_timeout: Duration::ZERO,
            ..at(&url)
        };
        is_lasting(&no_time, &["socket_timeout is 0", "from 0.01 to 3600"]).await;
    }
}

mod deployment {
    use super::*;

    fn in_mode(mode: DeploymentMode, endpoints: Vec<String>) -> RedisConfig {
        RedisConfig {
            deployment_mode: mode,
            endpoints,
            ..at("127.0.0.1")
        }
    }

    #[tokio::test]
    async fn a_cluster_that_is_none() {
        let server = Server::start();
        let redis = in_mode(DeploymentMode::Cluster, vec![server.address()]);
        is_lasting(&redis, &["is no cluster", "lock_store.deployment_mode"]).await;
    }

    #[tokio::test]
    async fn one_server_that_is_a_cluster() {
        let cluster = Cluster::start();
        for (node, address) in cluster.nodes().iter().zip(cluster.addresses()) {
            for db in [0, 1] {
                let redis = RedisConfig {
                    db,
                    port: node.port(),
                    ..at("127.0.0.1")
                };
                is_lasting(
                    &redis,
                    &[
                        &address,
                        "is a cluster",
                        "lock_store.deployment_mode: cluster",
                    ],
                )
                .await;
            }
        }
    }

    #[tokio::test]
    async fn sentinels() {
        let sentinels = Sentinels::start();
        let unknown = RedisConfig {
            sentinel_service: "nobody".into(),
            ..in_mode(DeploymentMode::Sentinel, sentinels.sentinel_addresses())
        };
        is_lasting(&unknown, &["\"nobody\"", "lock_store.sentinel_service"]).await;

        let no_sentinels = in_mode(DeploymentMode::Sentinel, vec![sentinels.master().address()]);
        is_lasting(&no_sentinels, &["is no sentinel", "lock_store.endpoints"]).await;

        let no_server = RedisConfig {
            port: sentinels.sentinels()[0].port(),
            ..at("127.0.0.1")
        };
        for db in [0, 1] {
            let redis = RedisConfig {
                db,
                ..no_server.clone()
            };
            is_lasting(
                &redis,
                &["is a sentinel", "lock_store.deployment_mode: sentinel"],
            )
            .await;
        }

        let a_replica = RedisConfig {
            db: 0,
            port: sentinels.replicas()[0].port(),
            ..at("127.0.0.1")
        };
        // It may become the master.
        is_passing(&a_replica, &["replica"]).await;
    }

    #[tokio::test]
    async fn no_sentinel_is_there() {
        let address = NOBODY.to_owned();
        let redis = in_mode(DeploymentMode::Sentinel, vec![address.clone()]);
        is_passing(&redis, &["cannot reach", &address]).await;
        let redis = in_mode(DeploymentMode::Cluster, vec![address.clone()]);
        is_passing(&redis, &["cannot reach", &address]).await;
    }

    /// One that is wrong for good says more than one that is away.
    #[tokio::test]
    async fn the_worst_of_several_is_told() {
        let server = Server::start();
        let away = NOBODY.to_owned();
        let both = vec![server.address(), away];
        let redis = in_mode(DeploymentMode::Sentinel, both.clone());
        is_lasting(&redis, &["is no sentinel", "lock_store.endpoints"]).await;
        let redis = in_mode(DeploymentMode::Cluster, both);
        is_lasting(&redis, &["is no cluster", "lock_store.deployment_mode"]).await;
    }
}
