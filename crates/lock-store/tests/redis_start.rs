//! What is wrong at the start is named: what it is, and which key to change.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lock_store::{
    DeploymentMode, Fallback, LockError, LockErrorKind, LockStore, RedisConfig, Timing,
};
use redis_fixture::{Certificates, ClientCertificate, Cluster, FOR_EVER, Sentinels, Server};
use secrecy::SecretString;

use support::redis::{at, config};

const PASSWORD: &str = "swordfish";
const WRONG_PASSWORD: &str = "stickleback";
const USER: &str = "captain-nemo";

async fn create(redis: &RedisConfig, fallback: Fallback) -> Result<LockStore, LockError> {
    let redis = RedisConfig {
        fallback,
        ..redis.clone()
    };
    let config = config(redis, Timing::default());
    let created = LockStore::create(&config);
    tokio::time::timeout(FOR_EVER, created).await.unwrap()
}

#[track_caller]
fn check_text(error: &LockError, words: &[&str]) {
    let shown = format!("{error} {error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
    for secret in [PASSWORD, WRONG_PASSWORD, USER] {
        assert!(!shown.contains(secret), "{secret:?} is in: {shown}");
    }
}

/// A human has to mend it, with or without a fallback.
async fn is_lasting(redis: &RedisConfig, words: &[&str]) {
    for fallback in [Fallback::None, Fallback::InMemory] {
        let error = create(redis, fallback).await.unwrap_err();
        check_text(&error, words);
        assert_eq!(error.kind(), LockErrorKind::Config, "{error}");
        assert!(!error.is_retryable());
    }
}

/// It may pass: unavailable, or for the time being in memory.
async fn is_passing(redis: &RedisConfig, words: &[&str]) {
    let error = create(redis, Fallback::None).await.unwrap_err();
    check_text(&error, words);
    assert_eq!(error.kind(), LockErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
    let store = create(redis, Fallback::InMemory).await.unwrap();
    assert!(store.is_degraded());
    store.lock("a").await.unwrap().release().await.unwrap();
}

async fn is_fine(redis: &RedisConfig) {
    let store = create(redis, Fallback::None).await.unwrap();
    assert!(!store.is_degraded());
    store.lock("a").await.unwrap().release().await.unwrap();
}

fn with_password(redis: RedisConfig, password: &str) -> RedisConfig {
    RedisConfig {
        password: Some(SecretString::from(password)),
        ..redis
    }
}

/// Something that listens and is no Redis.
struct Impostor {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where nobody listens. A port that was free a moment ago may be taken by
/// another test; this one is reserved.
const NOBODY: &str = "127.0.0.1:1";

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

mod login {
    use super::*;

    fn server() -> Server {
        Server::builder().password(PASSWORD).start()
    }

    #[tokio::test]
    async fn the_right_one_is_let_in() {
        let server = server();
        is_fine(&with_password(at(&server.url()), PASSWORD)).await;
    }

    #[tokio::test]
    async fn wrong_password() {
        let server = server();
        let redis = with_password(at(&server.url()), WRONG_PASSWORD);
        is_lasting(&redis, &["refused", "password", "lock_store.password"]).await;
    }

    #[tokio::test]
    async fn wrong_password_in_a_url() {
        let server = server();
        let url = format!("redis://:{WRONG_PASSWORD}@{}/0", server.address());
        is_lasting(&at(&url), &["refused", "lock_store.password"]).await;
    }

    #[tokio::test]
    async fn no_password_given() {
        let server = server();
        let words = ["wants a password", "lock_store.password"];
        is_lasting(&at(&server.url()), &words).await;
    }

    /// Redis takes any for a user who needs none.
    #[tokio::test]
    async fn a_password_that_nobody_asked_for() {
        let server = Server::start();
        is_fine(&with_password(at(&server.url()), PASSWORD)).await;
    }

    #[tokio::test]
    async fn unknown_user() {
        let server = server();
        let redis = RedisConfig {
            username: Some(USER.into()),
            ..with_password(at(&server.url()), PASSWORD)
        };
        is_lasting(&redis, &["refused", "lock_store.username"]).await;
    }

    #[tokio::test]
    async fn a_user_who_is_off() {
        let server = server();
        server
            .command(&[
                "ACL",
                "SETUSER",
                USER,
                "off",
                &format!(">{PASSWORD}"),
                "+@all",
                "~*",
                "&*",
            ])
            .ok();
        let redis = RedisConfig {
            username: Some(USER.into()),
            ..with_password(at(&server.url()), PASSWORD)
        };
        is_lasting(&redis, &["lock_store.username"]).await;
    }

    #[tokio::test]
    async fn database_out_of_range() {
        let server = Server::start();
        let redis = RedisConfig {
            db: 99,
            ..at("127.0.0.1")
        };
        let redis = RedisConfig {
            port: server.port(),
            ..redis
        };
        is_lasting(&redis, &["database", "lock_store.db"]).await;
        let url = format!("redis://{}/99", server.address());
        is_lasting(&at(&url), &["database", "lock_store.db"]).await;
    }
}

mod rights {
    use super::*;

    /// What docs/REDIS.md says that a user needs.
    fn documented() -> Vec<String> {
        let page = include_str!("../../../docs/REDIS.md");
        let line = page
            .lines()
            .find(|line| line.starts_with("ACL SETUSER bot "))
            .unwrap();
        let (_, rules) = line.split_once(">PASSWORD ").unwrap();
        rules.split(' ').map(str::to_owned).collect()
    }

    /// A user with these rights on a server that has no other.
    fn user(server: &Server, rules: &[String]) -> RedisConfig {
        let password = format!(">{PASSWORD}");
        let mut command = vec!["ACL", "SETUSER", USER, "reset", "on", &password];
        command.extend(rules.iter().map(String::as_str));
        server.command(&command).ok();
        RedisConfig {
            username: Some(USER.into()),
            ..with_password(at(&server.url()), PASSWORD)
        }
    }

    #[tokio::test]
    async fn the_documented_ones_are_enough() {
        let server = Server::start();
        is_fine(&user(&server, &documented())).await;
    }

    /// Every one that a lock needs, one at a time.
    #[tokio::test]
    async fn one_command_is_missing() {
        // Anybody may say these; databases are chosen only where it is not the
        // first; without the last three locks work.
        let not_needed = ["hello", "auth", "select", "ping", "subscribe", "scan"];
        let server = Server::start();
        let rules = documented();
        let commands = rules.iter().filter_map(|rule| rule.strip_prefix('+'));
        let mut checked = 0;
        for command in commands.filter(|command| !not_needed.contains(command)) {
            let less: Vec<_> = rules
                .iter()
                .filter(|rule| rule[1..] != *command)
                .cloned()
                .collect();
            let redis = user(&server, &less);
            for fallback in [Fallback::None, Fallback::InMemory] {
                let created = create(&redis, fallback).await;
                let Err(error) = created else {
                    panic!("{command} is not missed");
                };
                assert_eq!(error.kind(), LockErrorKind::Config, "{command}: {error}");
                let text = error.to_string().to_lowercase();
                assert!(text.contains(command), "{command}: {text}");
                let words = ["does not let this user do what is needed", "docs/REDIS.md"];
                check_text(&error, &words);
            }
            checked += 1;
        }
        assert!(checked >= 14, "only {checked}");
    }

    /// Without wake-ups it works, only slower, and says so.
    #[tokio::test]
    async fn no_subscription_is_no_reason_to_fail() {
        let server = Server::start();
        let rules = documented();
        for missing in ["+subscribe", "+ping", "+scan"] {
            let less: Vec<_> = rules
                .iter()
                .filter(|rule| *rule != missing)
                .cloned()
                .collect();
            is_fine(&user(&server, &less)).await;
        }
    }

    #[tokio::test]
    async fn no_keys() {
        let server = Server::start();
        let less: Vec<_> = documented()
            .into_iter()
            .filter(|rule| !rule.starts_with('~'))
            .collect();
        let words = [
            "does not let this user do what is needed",
            "key",
            "lock_store.key_prefix",
        ];
        is_lasting(&user(&server, &less), &words).await;
    }

    #[tokio::test]
    async fn another_prefix_than_is_allowed() {
        let server = Server::start();
        let redis = RedisConfig {
            key_prefix: Some("elsewhere".into()),
            ..user(&server, &documented())
        };
        let words = [
            "does not let this user do what is needed",
            "key",
            "lock_store.key_prefix",
        ];
        is_lasting(&redis, &words).await;
    }

    #[tokio::test]
    async fn no_channels() {
        let server = Server::start();
        let less: Vec<_> = documented()
            .into_iter()
            .filter(|rule| !rule.starts_with('&'))
            .collect();
        let words = [
            "does not let this user do what is needed",
            "PUBLISH",
            "channel",
            "docs/REDIS.md",
        ];
        is_lasting(&user(&server, &less), &words).await;
    }
}

mod tls {
    use super::*;

    fn server(client: ClientCertificate) -> (Server, Certificates) {
        let certificates = Certificates::new();
        let server = Server::builder().tls(&certificates, client).start();
        (server, certificates)
    }

    #[tokio::test]
    async fn unknown_authority() {
        let (server, certificates) = server(ClientCertificate::NotAsked);
        let words = ["authority", "not known", "lock_store.ssl_ca_certs"];
        is_lasting(&at(&server.tls_url()), &words).await;
        let redis = RedisConfig {
            ssl_ca_certs: Some(certificates.other_authority()),
            ..at(&server.tls_url())
        };
        is_lasting(&redis, &words).await;
        let redis = RedisConfig {
            ssl_ca_certs: Some(certificates.authority()),
            ..at(&server.tls_url())
        };
        is_fine(&redis).await;
    }

    #[tokio::test]
    async fn certificate_for_another_name() {
        let certificates = Certificates::new();
        let server = Server::builder()
            .tls(&certificates, ClientCertificate::NotAsked)
            .config("bind", "127.0.0.1 127.0.0.2")
            .start();
        let redis = RedisConfig {
            ssl_ca_certs: Some(certificates.authority()),
            ..at(&format!("rediss://127.0.0.2:{}/0", server.tls_port()))
        };
        is_lasting(&redis, &["certificate for another name", "lock_store.url"]).await;
    }

    #[tokio::test]
    async fn client_certificate_is_missing() {
        let (server, certificates) = server(ClientCertificate::Required);
        let redis = RedisConfig {
            ssl_ca_certs: Some(certificates.authority()),
            ..at(&server.tls_url())
        };
        is_lasting(
            &redis,
            &[
                "wants a certificate of this client",
                "lock_store.ssl_certfile",
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn client_certificate_of_a_stranger() {
        let (server, certificates) = server(ClientCertificate::Required);
        let redis = RedisConfig {
            ssl_ca_certs: Some(certificates.authority()),
            ssl_certfile: Some(certificates.stranger()),
            ssl_keyfile: Some(certificates.stranger_key()),
            ..at(&server.tls_url())
        };
        is_lasting(
            &redis,
            &[
                "does not accept the certificate of this client",
                "lock_store.ssl_certfile",
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn plain_text_to_a_tls_port() {
        for client in [ClientCertificate::NotAsked, ClientCertificate::Required] {
            let (server, _certificates) = server(client);
            let url = format!("redis://127.0.0.1:{}/0", server.tls_port());
            is_lasting(&at(&url), &["speaks TLS", "lock_store.use_ssl: true"]).await;
        }
    }

    #[tokio::test]
    async fn tls_to_a_plain_port() {
        let (server, certificates) = server(ClientCertificate::NotAsked);
        let redis = RedisConfig {
            ssl_ca_certs: Some(certificates.authority()),
            ..at(&format!("rediss://127.0.0.1:{}/0", server.port()))
        };
        is_lasting(&redis, &["does not speak TLS", "lock_store.use_ssl: false"]).await;
    }

    #[tokio::test]
    async fn files_that_are_not_there() {
        let certificates = Certificates::new();
        let missing = Some(certificates.authority().with_file_name("nowhere.pem"));
        let tls = || at("rediss://127.0.0.1:1/0");
        let redis = RedisConfig {
            ssl_ca_certs: missing.clone(),
            ..tls()
        };
        is_lasting(&redis, &["lock_store.ssl_ca_certs", "nowhere.pem"]).await;
        let redis = RedisConfig {
            ssl_certfile: missing.clone(),
            ..tls()
        };
        is_lasting(&redis, &["lock_store.ssl_certfile", "nowhere.pem"]).await;
        let redis = RedisConfig {
            ssl_certfile: Some(certificates.client()),
            ssl_keyfile: missing,
            ..tls()
        };
        is_lasting(&redis, &["lock_store.ssl_keyfile", "nowhere.pem"]).await;
    }
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
