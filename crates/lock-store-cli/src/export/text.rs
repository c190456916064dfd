//! A survey as Prometheus reads it.

use std::time::{Duration, UNIX_EPOCH};

use lock_store::{DeploymentMode, RedisConfig, ServerInfo};
use metrics::{Label, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::figures::{Figures, keys_of};
use super::survey::{Counts, Seen, Survey};
use crate::http;

/// What the figures are about.
#[derive(Debug)]
pub(super) struct About {
    labels: Vec<Label>,
}

impl About {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let mode = match config.deployment_mode {
            DeploymentMode::Sentinel => "sentinel",
            DeploymentMode::Cluster => "cluster",
            _ => "standard",
        };
        let prefix = config.key_prefix.clone().unwrap_or_default();
        Self {
            labels: vec![
                Label::new("version", env!("CARGO_PKG_VERSION")),
                Label::new("deployment_mode", mode),
                Label::new("key_prefix", prefix),
            ],
        }
    }
}

/// All metrics of a survey. They are written onto an empty page each time, so
/// that nothing that was true once can stay there.
pub(super) fn of(survey: &Survey, about: &About) -> String {
    let page = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&page, || {
        always(survey.seen.is_some(), survey.counts, about);
        if let Some(seen) = &survey.seen {
            looks(seen);
            locks(&seen.figures);
            for server in seen.servers.iter().flatten() {
                of_server(server);
            }
        }
    });
    http::in_order(&page.handle().render())
}

fn always(is_up: bool, counts: Counts, about: &About) {
    set(
        "lock_store_fleet_up",
        "Whether the last survey of the locks in Redis was complete",
        f64::from(u8::from(is_up)),
    );
    let info = "lock_store_fleet_info";
    describe_gauge!(info, "What is surveyed, and by which version; always 1");
    gauge!(info, about.labels.clone()).set(1.0);
    let surveys = "lock_store_fleet_surveys_total";
    describe_counter!(surveys, "Surveys of all locks, by how they ended");
    for (result, count) in [
        ("ok", counts.ok),
        ("failed", counts.failed),
        ("timed_out", counts.timed_out),
    ] {
        counter!(surveys, "result" => result).absolute(count);
    }
}

fn looks(seen: &Seen) {
    set(
        "lock_store_fleet_round_trip_seconds",
        "One question to Redis and its answer",
        seen.round_trip.as_secs_f64(),
    );
    set(
        "lock_store_fleet_survey_duration_seconds",
        "Going through all locks",
        seen.took.as_secs_f64(),
    );
    let since = seen.at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    set(
        "lock_store_fleet_survey_timestamp_seconds",
        "When these figures were taken, by the exporter's clock",
        since.as_secs_f64(),
    );
}

fn locks(figures: &Figures) {
    set(
        "lock_store_fleet_conversations",
        "Conversations that have a lock",
        number(figures.conversations),
    );
    set(
        "lock_store_fleet_contended_conversations",
        "Conversations for which somebody waits",
        number(figures.contended),
    );
    set(
        "lock_store_fleet_waiting",
        "Tickets that wait behind the one that is served",
        number(figures.waiting),
    );
    set(
        "lock_store_fleet_longest_queue",
        "The most tickets that wait for one conversation",
        number(figures.longest_queue),
    );
    set(
        "lock_store_fleet_oldest_wait_seconds",
        "The longest wait of the tickets that come next",
        figures.oldest_wait.as_secs_f64(),
    );
    set(
        "lock_store_fleet_oldest_served_seconds",
        "The age of the oldest ticket that is served, its wait included",
        figures.oldest_served.as_secs_f64(),
    );
    set(
        "lock_store_fleet_called_tickets",
        "Tickets whose turn has come and whose owner has not answered yet",
        number(figures.called),
    );
    set(
        "lock_store_fleet_dead_tickets",
        "Tickets at the head of a queue that are dead and not dropped yet",
        number(figures.dead),
    );
    set(
        "lock_store_fleet_damaged_locks",
        "Keys of the lock store that hold something else than a lock",
        number(figures.damaged),
    );
    set(
        "lock_store_fleet_keys",
        "Keys of the lock store, damaged ones included",
        number(figures.keys()),
    );
}

/// Gauges from fields of `INFO`.
const SERVER_GAUGES: &[(&str, &str, &str)] = &[
    (
        "used_memory",
        "lock_store_fleet_redis_memory_used_bytes",
        "The memory that the server uses",
    ),
    (
        "maxmemory",
        "lock_store_fleet_redis_memory_limit_bytes",
        "The memory that the server may use; 0 is no limit",
    ),
    (
        "connected_clients",
        "lock_store_fleet_redis_clients",
        "Connections to the server, of all its users",
    ),
    (
        "connected_slaves",
        "lock_store_fleet_redis_replicas",
        "Replicas that are connected to the server",
    ),
    (
        "uptime_in_seconds",
        "lock_store_fleet_redis_uptime_seconds",
        "How long the server has been running",
    ),
];

const SERVER_COUNTERS: &[(&str, &str, &str)] = &[
    (
        "evicted_keys",
        "lock_store_fleet_redis_evicted_keys_total",
        "Keys that the server threw away for want of memory, locks perhaps",
    ),
    (
        "total_commands_processed",
        "lock_store_fleet_redis_commands_total",
        "Commands of all clients",
    ),
];

fn of_server(server: &ServerInfo) {
    let address = server.address().to_owned();
    for &(field, name, help) in SERVER_GAUGES {
        if let Some(value) = server.field(field).and_then(|text| text.parse().ok()) {
            describe_gauge!(name, help);
            gauge!(name, "server" => address.clone()).set(number(value));
        }
    }
    for &(field, name, help) in SERVER_COUNTERS {
        if let Some(value) = server.field(field).and_then(|text| text.parse().ok()) {
            describe_counter!(name, help);
            counter!(name, "server" => address.clone()).absolute(value);
        }
    }
    let keys = "lock_store_fleet_redis_keys";
    describe_gauge!(keys, "Keys of the server, in all databases, of all users");
    gauge!(keys, "server" => address.clone()).set(number(keys_of(server)));
    let info = "lock_store_fleet_redis_info";
    describe_gauge!(info, "The version and the policy of the server; always 1");
    let field = |name| server.field(name).unwrap_or_default().to_owned();
    gauge!(
        info,
        "server" => address,
        "version" => field("redis_version"),
        "maxmemory_policy" => field("maxmemory_policy"),
    )
    .set(1.0);
}

fn set(name: &'static str, help: &'static str, value: f64) {
    describe_gauge!(name, help);
    gauge!(name).set(value);
}

/// Prometheus has no other numbers.
#[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}
