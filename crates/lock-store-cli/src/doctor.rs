//! `lock-store doctor`: is everything as the store needs it?
//!
//! The way of the checks through the code: `doctor/settings` looks at the
//! configuration, `doctor/way` goes to each server, `doctor/tour` finds those
//! that hold locks, `doctor/server` and its neighbours ask them, and
//! `doctor/hand_off` takes a whole lock.

mod certificate;
mod clock;
mod finding;

mod hand_off;
mod leftovers;
mod limits;
mod persistence;
mod replicas;
mod rights;
mod server;
mod settings;
mod tls;
mod tour;
mod way;

use std::io;

use lock_store::diagnose::Deployment;
use lock_store::{LockStoreConfig, StoreType};

use crate::args::DoctorArgs;
use crate::connection;
use crate::log::Log;
use crate::screen::Screen;
use finding::{Finding, Report, Status};
use tour::{Node, Tour};
use way::{Guide, Stage};

/// Everything is as it should be.
const ALL_WELL: u8 = 0;
/// Something may go wrong.
const WARNED: u8 = 1;
/// Something does not work.
const FAILED: u8 = 2;

/// What is checked once servers are known, in order.
const OF_SERVERS: [&str; 14] = [
    "server",
    "role",
    "rights",
    "memory_policy",
    "memory",
    "clients",
    "persistence",
    "replicas",
    "clock",
    "round_trip",
    "slow_log",
    "hand_off",
    "leftovers",
    "rasa_keys",
];

/// Checks everything, and returns the exit code.
pub(crate) async fn run(args: DoctorArgs, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    let json = args.json;
    let mut report = Report::new(json, screen)?;
    let counts = match check(&args, &mut report, log).await {
        Ok(()) => [
            Status::Ok,
            Status::Warning,
            Status::Failure,
            Status::Skipped,
        ]
        .map(|status| report.count(status)),
        Err(error) => return closed(&error),
    };
    let worst = match report.end() {
        Ok(worst) => worst,
        Err(error) => return closed(&error),
    };
    if !json {
        let [ok, warnings, failures, skipped] = counts;
        screen.say(format_args!(
            "{ok} ok, {warnings} warnings, {failures} failures, {skipped} skipped"
        ));
    }
    Ok(match worst {
        Status::Skipped | Status::Ok => ALL_WELL,
        Status::Warning => WARNED,
        Status::Failure => FAILED,
    })
}

/// Whoever closed the output wants no more of it.
fn closed(error: &io::Error) -> anyhow::Result<u8> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(ALL_WELL);
    }
    anyhow::bail!("the findings cannot be written: {error}")
}

async fn check(args: &DoctorArgs, report: &mut Report, log: &Log) -> io::Result<()> {
    let read = match connection::read(&args.connection) {
        Ok(read) => read,
        Err(error) => return report.add("configuration", settings::refused(&error)),
    };
    let source = settings::source(&args.connection, &read.settings);
    let mut config = read.config;
    if config.store_type == StoreType::InMemory {
        report.add("configuration", settings::in_memory(&source))?;
        report.add("settings", settings::settings(&read.settings))?;
        return report.add("timing", settings::timing(&config));
    }
    let timing = settings::timing(&config);
    if let Some(timeout) = args.timeout {
        config.redis.socket_timeout = timeout;
    }
    let deployment = match Deployment::of(&config.redis) {
        Ok(deployment) => deployment,
        Err(error) => return report.add("configuration", settings::refused(&error.into())),
    };
    report.add("configuration", settings::in_redis(&source, &deployment))?;
    report.add("settings", settings::settings(&read.settings))?;
    report.add("fallback", settings::fallback(&config.redis))?;
    report.add("timing", timing)?;
    report.add("connections", settings::connections(&config.redis))?;
    let guide = Guide {
        deployment: &deployment,
        config: &config.redis,
    };
    let tour = tour::find(&guide).await;
    match ways(report, &guide, &tour)? {
        Some(failed) => skip(report, &OF_SERVERS, failed),
        None => servers(report, &config, &guide, tour, log).await,
    }
}

/// How far the ways to the servers went; what failed first, if something did.
fn ways(
    report: &mut Report,
    guide: &Guide<'_>,
    tour: &Tour<'_>,
) -> io::Result<Option<&'static str>> {
    let mut failed = None;
    for stage in Stage::ALL {
        let findings = tour.findings(stage);
        let name = stage.name();
        if findings.is_empty() {
            let matters = match stage {
                Stage::Certificate => guide.deployment.uses_tls(),
                Stage::ClientCertificate => guide.config.ssl_certfile.is_some(),
                Stage::Dns | Stage::Tls => failed.is_some(),
                _ => true,
            };
            if let Some(failed) = failed.filter(|_| matters) {
                skip(report, &[name], failed)?;
            }
            continue;
        }
        report.add(name, findings_in_short(findings))?;
        if report.has_failed(name) {
            failed = failed.or(Some(name));
        }
    }
    if let Some((name, finding)) = &tour.shape {
        report.add(name, finding.clone())?;
        if finding.is_failure() {
            failed = failed.or(Some(name));
        }
    }
    Ok(failed)
}

/// Of many that are well one speaks for all.
fn findings_in_short(findings: Vec<Finding>) -> Finding {
    let count = findings.len();
    if count > 3 && findings.iter().all(|finding| finding.status == Status::Ok) {
        return Finding::ok(format!(
            "{}, and so do {} more",
            findings[0].message,
            count - 1
        ));
    }
    Finding::worst_of(findings)
}

fn skip(report: &mut Report, checks: &[&'static str], failed: &str) -> io::Result<()> {
    for check in checks {
        report.add(
            check,
            Finding::skipped(format!("needs `{failed}`, which failed")),
        )?;
    }
    Ok(())
}

async fn servers(
    report: &mut Report,
    config: &LockStoreConfig,
    guide: &Guide<'_>,
    tour: Tour<'_>,
    log: &Log,
) -> io::Result<()> {
    let [mut nodes, mut replicas] = [Vec::new(), Vec::new()];
    let [masters, others] = tour.masters_and_replicas();
    for way in masters {
        nodes.extend(server::know(way).await);
    }
    for way in others {
        replicas.extend(server::know(way).await);
    }
    let mode = guide.deployment.mode();
    report.add("server", server::version(&nodes, mode))?;
    report.add("role", server::role(&nodes, mode))?;
    for failed in ["server", "role"] {
        if report.has_failed(failed) {
            return skip(report, &OF_SERVERS[2..], failed);
        }
    }
    report.add("rights", rights::check(guide.deployment, &nodes).await)?;
    report.add("memory_policy", limits::memory_policy(&nodes))?;
    report.add("memory", limits::memory(&nodes))?;
    report.add("clients", limits::clients(&nodes))?;
    report.add("persistence", persistence::check(&nodes).await)?;
    report.add("replicas", replicas::check(&nodes, &config.redis).await)?;
    report.add(
        "clock",
        clock::difference(nodes.iter().chain(&replicas)).await,
    )?;
    report.add("round_trip", clock::round_trip(&nodes).await)?;
    report.add("slow_log", limits::slow_log(&nodes).await)?;
    if report.has_failed("rights") {
        return skip(report, &["hand_off", "leftovers", "rasa_keys"], "rights");
    }
    let held = log.hold();
    report.add("hand_off", hand_off::check(config).await)?;
    drop(held);
    let found = leftovers::find(guide, &nodes).await;
    report.add("leftovers", leftovers::ours(&found, guide.config.layout))?;
    match leftovers::rasas(&found, guide.deployment.db()) {
        Some(finding) => report.add("rasa_keys", finding),
        None => Ok(()),
    }
}

/// What is to be said of each server.
fn of_each(nodes: &[Node<'_>], look: impl Fn(&Node<'_>) -> Finding) -> Finding {
    together(nodes, nodes.iter().map(look).collect())
}

/// One finding for all: what is said of one of several servers begins with its
/// name, and what is true of all is said once.
fn together(nodes: &[Node<'_>], mut findings: Vec<Finding>) -> Finding {
    let are_alike = findings.windows(2).all(|pair| pair[0] == pair[1]);
    if !are_alike {
        for (node, finding) in nodes.iter().zip(&mut findings) {
            finding.message = format!("{}: {}", node.address, finding.message);
        }
    }
    Finding::worst_of(findings)
}
