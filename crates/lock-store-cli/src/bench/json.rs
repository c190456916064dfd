//! The results for programs.

use lock_store::{DeploymentMode, StoreType};
use serde_json::{Value, json};

use super::bins::bins;
use super::clock::{Nanos, seconds};
use super::plan::Part;
use super::results::Results;
use super::sweep::Swept;
use super::times::Times;

/// Bins for each factor of ten.
const PER_DECADE: i32 = 20;

pub(super) fn document(results: &Results) -> Value {
    let Results {
        plan, config, load, ..
    } = results;
    let intervals = load.intervals.iter().map(|interval| {
        json!({
            "at_seconds": seconds(interval.at),
            "length_seconds": seconds(interval.length),
            "cycles": interval.cycles,
            "cycles_per_second": interval.per_second(),
        })
    });
    let has_line = plan.parts().any(|part| part == Part::HandOff);
    let timing = &config.timing;
    let wait_timeout = timing.wait_timeout.unwrap_or(timing.lock_lifetime);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "store": {
            "place": results.place,
            "type": match config.store_type {
                StoreType::Redis => "redis",
                _ => "in_memory",
            },
            "deployment_mode": match config.redis.deployment_mode {
                _ if config.store_type != StoreType::Redis => Value::Null,
                DeploymentMode::Sentinel => "sentinel".into(),
                DeploymentMode::Cluster => "cluster".into(),
                _ => "standard".into(),
            },
            "connections": config.redis.connections,
            "replicas": config.redis.replicas,
            "lock_lifetime_seconds": timing.lock_lifetime.as_secs_f64(),
            "wait_timeout_seconds": wait_timeout.as_secs_f64(),
            "keep_alive": timing.keep_alive,
        },
        "settings": {
            "tasks": plan.tasks,
            "conversations": plan.conversations,
            "waiters": plan.waiters,
            "processes": plan.processes,
            "part_seconds": plan.length.as_secs_f64(),
            "warm_up_seconds": plan.warm_up.as_secs_f64(),
        },
        "interrupted": results.interrupted.is_some(),
        "round_trip": (!results.round_trips.is_empty()).then(|| times(&results.round_trips)),
        "one_task": times(&results.one_task),
        "load": {
            "contended": plan.is_contended(),
            "measured_seconds": seconds(load.length),
            "cycles": load.cycles.count(),
            "cycles_per_second": load.per_second(),
            "cycles_by_process": load.by_process,
            "cycle": times(&load.cycles),
            "throughput": intervals.collect::<Vec<_>>(),
        },
        "hand_off": has_line.then(|| times(&results.hand_offs)),
        "errors": {
            "count": results.faults.total(),
            "kinds": results.faults.iter().map(|(kind, fault)| json!({
                "kind": kind,
                "count": fault.count,
                "example": fault.example,
            })).collect::<Vec<_>>(),
        },
        "clean_up": match &results.swept {
            Swept::Clean { removed } => json!({"complete": true, "removed": removed}),
            Swept::NotSure(why) => json!({"complete": false, "error": why}),
        },
    })
}

fn times(times: &Times) -> Value {
    let some = |time: Nanos| (!times.is_empty()).then(|| seconds(time));
    let histogram = bins(times, PER_DECADE).into_iter().map(|bin| {
        json!({
            "from_seconds": seconds(bin.from),
            "to_seconds": seconds(bin.to),
            "count": bin.count,
        })
    });
    json!({
        "count": times.count(),
        "min_seconds": some(times.min()),
        "mean_seconds": (!times.is_empty()).then(|| times.mean() / 1e9),
        "p50_seconds": some(times.quantile(0.5)),
        "p90_seconds": some(times.quantile(0.9)),
        "p99_seconds": some(times.quantile(0.99)),
        "p999_seconds": some(times.quantile(0.999)),
        "max_seconds": some(times.max()),
        "histogram": histogram.collect::<Vec<_>>(),
    })
}
