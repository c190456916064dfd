//! The exporter of a fleet: what it says of known queues, and of a Redis that
//! is away.

#![allow(clippy::unwrap_used)]

mod common;
mod scraping;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lock_store::{
    Backend as _, ConversationId, DeploymentMode, Issue, LockStore, RedisConfig, RedisLockStore,
};
use nix::sys::signal::Signal;
use redis_fixture::{Cluster, Server, documented_rights};
use tokio::runtime::Runtime;

use common::{FOR_EVER, until};
use scraping::{Metrics, Scraped, ask, get};

const NO_CACHE: &[&str] = &["--min-interval", "0"];

fn store(runtime: &Runtime, config: &RedisConfig) -> LockStore {
    let redis = runtime.block_on(RedisLockStore::connect(config)).unwrap();
    LockStore::new(redis)
}

/// A queue whose head is dead, with one behind it and nobody who looks.
async fn leave_a_dead_head(redis: &RedisLockStore) {
    for attempt in 0.. {
        let id = ConversationId::new(format!("dead-{attempt}")).unwrap();
        let issue = |owner: &str, lifetime| Issue {
            owner: Some(owner.parse().unwrap()),
            lifetime,
            wait_timeout: FOR_EVER,
            claim_window: FOR_EVER,
            queue: true,
            repeated: false,
            least_token: None,
            asked: Instant::now(),
        };
        let short = issue("00000000000000ab.1", Duration::from_millis(200));
        redis.issue(&id, &short).resolve().await.unwrap();
        let long = issue("00000000000000ab.2", FOR_EVER);
        redis.issue(&id, &long).resolve().await.unwrap();
        let seen = redis.inspect(&id).await.unwrap().unwrap();
        if seen.lock.tickets().len() == 2 {
            return;
        }
        // The first was dead by then.
        redis.delete(&id).resolve().await.unwrap();
    }
}

#[test]
fn the_figures_are_those_of_the_queues() {
    let server = Server::builder().config("maxmemory", "64mb").start();
    let exporter = Scraped::export(&server.url(), NO_CACHE);
    let nothing = exporter.scrape();
    nothing.assert_has(&[
        ("lock_store_fleet_up", 1),
        ("lock_store_fleet_conversations", 0),
        ("lock_store_fleet_waiting", 0),
        ("lock_store_fleet_oldest_wait_seconds", 0),
        ("lock_store_fleet_keys", 0),
        ("lock_store_fleet_surveys_total{result=\"ok\"}", 1),
    ]);
    let runtime = Runtime::new().unwrap();
    let config = RedisConfig::from_url(&server.url());
    let store = store(&runtime, &config);
    let (_held, _waiting) = runtime.block_on(async {
        let redis = RedisLockStore::connect(&config).await.unwrap();
        leave_a_dead_head(&redis).await;
        let mut held = Vec::new();
        for i in 0..12 {
            held.push(
                store
                    .lock(format!("c{i}"))
                    .lifetime(FOR_EVER)
                    .await
                    .unwrap(),
            );
        }
        let mut waiting = Vec::new();
        for id in ["c1", "c1", "c1", "c2"] {
            waiting.push(store.take_ticket(id).wait_timeout(FOR_EVER).await.unwrap());
        }
        (held, waiting)
    });
    server
        .command(&["SET", "lock-store:tickets:text", "x"])
        .ok();
    server.command(&["SET", "of-somebody-else", "x"]).ok();
    let seen = exporter.scrape_until("the head is dead", |seen| {
        seen.has("lock_store_fleet_dead_tickets", 1)
    });
    let redis_keys = format!(
        "lock_store_fleet_redis_keys{{server=\"{}\"}}",
        server.address()
    );
    seen.assert_has(&[
        ("lock_store_fleet_up", 1),
        ("lock_store_fleet_conversations", 13),
        ("lock_store_fleet_contended_conversations", 3),
        ("lock_store_fleet_waiting", 5),
        ("lock_store_fleet_longest_queue", 3),
        ("lock_store_fleet_called_tickets", 0),
        ("lock_store_fleet_damaged_locks", 1),
        ("lock_store_fleet_keys", 14),
        (&redis_keys, 15),
    ]);
    let limit = redis_keys.replace("_keys{", "_memory_limit_bytes{");
    seen.assert_has(&[(&limit, 64 * 1024 * 1024)]);
    assert!(seen.value(&limit.replace("_limit_", "_used_")) > 100_000.0);
    let oldest = seen.value("lock_store_fleet_oldest_served_seconds");
    let waited = seen.value("lock_store_fleet_oldest_wait_seconds");
    assert!(0.0 < waited && waited <= oldest && oldest < FOR_EVER.as_secs_f64());
    assert!(seen.value("lock_store_fleet_round_trip_seconds") > 0.0);
    // Ages grow.
    exporter.scrape_until("it is older", |seen| {
        seen.value("lock_store_fleet_oldest_wait_seconds") > waited
    });
    let text = get(&exporter.address, "/metrics").body;
    assert!(!text.contains("c1") && !text.contains("dead-"), "{text}");
}

#[test]
fn all_masters_of_a_cluster_count() {
    let cluster = Cluster::start();
    let runtime = Runtime::new().unwrap();
    let config = RedisConfig {
        deployment_mode: DeploymentMode::Cluster,
        endpoints: cluster.addresses(),
        key_prefix: Some("bot".to_owned()),
        ..RedisConfig::from_url("localhost")
    };
    let store = store(&runtime, &config);
    let place = common::Place::new();
    let endpoints = cluster.addresses().join(", ");
    place.write(
        "endpoints.yml",
        format!(
            "lock_store:\n  type: redis\n  deployment_mode: cluster\n  key_prefix: bot\n  \
             endpoints: [{endpoints}]\n"
        ),
    );
    let arguments = ["export", "--listen", "127.0.0.1:0", "--min-interval", "0"];
    let command = common::bare(&place, &arguments);
    let exporter = Scraped::started(place, command);
    let _held = runtime.block_on(async {
        let mut held = Vec::new();
        for i in 0..50 {
            held.push(store.lock(format!("c{i}")).await.unwrap());
        }
        held
    });
    let seen = exporter.scrape();
    seen.assert_has(&[("lock_store_fleet_conversations", 50)]);
    let text = get(&exporter.address, "/metrics").body;
    assert!(text.contains("deployment_mode=\"cluster\",key_prefix=\"bot\""));
    let of_servers = text.matches("\nlock_store_fleet_redis_clients{server=");
    assert!(of_servers.count() >= 3, "{text}");
}

/// What is said when nothing is known.
const ALWAYS: &[&str] = &[
    "lock_store_fleet_info",
    "lock_store_fleet_surveys_total",
    "lock_store_fleet_up",
];

#[test]
fn a_redis_that_is_away_leaves_no_figures_and_comes_back() {
    let server = Server::start();
    let mut exporter = Scraped::export(&server.url(), NO_CACHE);
    assert!(exporter.scrape().has("lock_store_fleet_up", 1));
    server.kill();
    for _ in 0..3 {
        let seen = exporter.scrape();
        seen.assert_has(&[("lock_store_fleet_up", 0)]);
        assert_eq!(seen.names(), ALWAYS);
    }
    assert_eq!(get(&exporter.address, "/healthz").status, 200);
    server.restart();
    let seen = exporter.scrape_until("it is back", |seen| seen.has("lock_store_fleet_up", 1));
    seen.assert_has(&[("lock_store_fleet_conversations", 0)]);
    assert!(exporter.running.is_running());
    let said = exporter.place.read("stderr");
    assert_eq!(said.matches("cannot be surveyed").count(), 1, "{said}");
    assert_eq!(said.matches("surveyed again").count(), 1, "{said}");
}

#[test]
fn a_redis_that_does_not_answer_holds_no_scrape_up() {
    let server = Server::start();
    let exporter = Scraped::export(&server.url(), &["--min-interval", "0", "--timeout", "0.2"]);
    exporter.scrape_until("all is well", |seen| seen.has("lock_store_fleet_up", 1));
    server.freeze();
    let timed_out = "lock_store_fleet_surveys_total{result=\"timed_out\"}";
    let seen = exporter.scrape_until("a survey is given up", |seen| seen.value(timed_out) > 0.0);
    seen.assert_has(&[("lock_store_fleet_up", 0)]);
    assert_eq!(seen.names(), ALWAYS);
    server.thaw();
    exporter.scrape_until("it answers again", |seen| {
        seen.has("lock_store_fleet_up", 1)
    });
    let said = exporter.place.read("stderr");
    assert!(said.contains("not done after 0.2 s"), "{said}");
}

/// Prometheus says how long it waits. An answer after that is none, and then
/// nobody would learn that Redis is away.
const IN_HALF_A_SECOND: &str = "X-Prometheus-Scrape-Timeout-Seconds: 0.5\r\n";

fn scrape_soon(exporter: &Scraped) -> Metrics {
    let page = ask(&exporter.address, "GET", "/metrics", IN_HALF_A_SECOND);
    Metrics::read(&page.body)
}

#[test]
fn a_scrape_that_waits_for_less_has_its_answer_in_time() {
    let server = Server::start();
    let exporter = Scraped::export(&server.url(), &[NO_CACHE, &["--timeout", "3600"]].concat());
    server.freeze();
    scrape_soon(&exporter).assert_has(&[("lock_store_fleet_up", 0)]);
    let said = exporter.place.read("stderr");
    assert!(said.contains("not done after 0."), "{said}");

    // Also while somebody else waits for longer.
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| exporter.scrape());
        until("both wait", || {
            let counts = [(), ()].map(|()| {
                let seen = scrape_soon(&exporter);
                seen.assert_has(&[("lock_store_fleet_up", 0)]);
                seen.value("lock_store_fleet_surveys_total{result=\"timed_out\"}")
            });
            // A survey of its own would have been given up, and counted.
            counts[0].total_cmp(&counts[1]).is_eq()
        });
        server.thaw();
        patient.join().unwrap();
    });
    exporter.scrape_until("all is well", |seen| seen.has("lock_store_fleet_up", 1));
}

#[test]
fn scrapes_share_a_survey() {
    let server = Server::start();
    let exporter = Scraped::export(&server.url(), &["--min-interval", "3600"]);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| exporter.scrape());
        }
    });
    server.kill();
    // Old within what was asked for, and it says from when it is.
    let seen = exporter.scrape();
    seen.assert_has(&[
        ("lock_store_fleet_up", 1),
        ("lock_store_fleet_surveys_total{result=\"ok\"}", 1),
    ]);
    assert!(seen.value("lock_store_fleet_survey_timestamp_seconds") > 1.7e9);
}

/// The rights that locks need are enough.
#[test]
fn without_the_right_to_ask_the_server_its_figures_are_missing() {
    let server = Server::builder()
        .acl_user("bot", "secret", documented_rights("bot"))
        .start();
    let url = server.url().replace("://", "://bot:secret@");
    let exporter = Scraped::export(&url, NO_CACHE);
    let seen = exporter.scrape();
    seen.assert_has(&[
        ("lock_store_fleet_up", 1),
        ("lock_store_fleet_conversations", 0),
    ]);
    let of_servers = |name: &&str| name.contains("_redis_");
    assert_eq!(seen.names().into_iter().find(of_servers), None);
    assert!(!get(&exporter.address, "/metrics").body.contains("secret"));
}

#[test]
fn it_ends_when_asked_to_although_somebody_stays_connected() {
    let server = Server::start();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let exporter = Scraped::export(&server.url(), &[]);
        let mut idle = TcpStream::connect(&exporter.address).unwrap();
        write!(idle, "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        exporter.scrape();
        exporter.running.signal(signal);
        exporter.running.ended().says(0, &["metrics are at"]);
    }
}

#[test]
fn other_pages_are_there_or_not() {
    let server = Server::start();
    let exporter = Scraped::export(&server.url(), &[]);
    let health = get(&exporter.address, "/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    let index = get(&exporter.address, "/");
    assert!(index.body.contains("href=\"metrics\""), "{}", index.body);
    assert_eq!(get(&exporter.address, "/other").status, 404);
    assert_eq!(ask(&exporter.address, "POST", "/metrics", "").status, 405);
    let head = ask(&exporter.address, "HEAD", "/metrics", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
