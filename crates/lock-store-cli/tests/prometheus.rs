//! The alerts and the dashboard of `deploy`, against a Prometheus that runs.

#![allow(clippy::unwrap_used)]

mod common;
mod scraping;

use std::collections::BTreeSet;
use std::fs;

use common::{Place, until, wait_for};
use redis_fixture::Server;
use scraping::prometheus::{Prometheus, deployed, promtool, repository};
use scraping::{Scraped, get};
use serde_json::Value;

fn read(name: &str) -> String {
    fs::read_to_string(deployed(name)).unwrap()
}

/// The metrics of ours that a text names.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    let ours = words.filter(|word| word.starts_with("lock_store_"));
    ours.map(ToOwned::to_owned).collect()
}

/// The queries of the dashboard, as Grafana would send them for all instances.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let queries = targets.flatten().map(|target| {
        let query = target["expr"].as_str().unwrap();
        let query = query.replace("$__rate_interval", "1m");
        query.replace("$exporter", ".*").replace("$instance", ".*")
    });
    let queries: Vec<_> = queries.collect();
    assert!(queries.len() > 30 && queries.iter().all(|query| !query.contains('$')));
    queries
}

/// A process of a fleet: a message is done, so is one that had to wait for it,
/// another is being processed, and one waits.
fn busy_process(url: &str) -> Scraped {
    let place = Place::new();
    place.messages(["first", "second", "third", "last"].map(|text| ("anna", text.to_owned())));
    let (begin, go) = (wait_for("begin"), wait_for("go"));
    let script =
        format!("read -r line; case $line in *first*) {begin};; *second*) ;; *) {go};; esac");
    let options = ["input.jsonl", "--metrics", "127.0.0.1:0", "--redis", url];
    let handler = ["--", "sh", "-c", &script];
    let command = place.command([&options[..], &handler].concat());
    let process = Scraped::started(place, command);
    process.scrape_until("three wait for the first", |seen| {
        seen.has("lock_store_waiting", 3)
    });
    process.place.write("begin", "");
    process.scrape_until("two of four are done", |seen| {
        seen.has("lock_store_hold_duration_seconds_count", 2) && seen.has("lock_store_held", 1)
    });
    process
}

#[test]
fn a_prometheus_finds_all_that_dashboard_and_alerts_name() {
    let server = Server::builder().config("maxmemory", "64mb").start();
    let process = busy_process(&server.url());
    let exporter = Scraped::export(&server.url(), &["--min-interval", "0"]);
    let prometheus = Prometheus::start(&[&process.address, &exporter.address]);

    let named = [read("grafana-dashboard.json"), read("alerts.yml")].map(|text| metrics_in(&text));
    assert!(named.iter().all(|names| names.len() > 15), "{named:?}");
    let named: BTreeSet<_> = named.into_iter().flatten().collect();
    let mut missing = named.clone();
    until(&format!("all of {named:?} are there"), || {
        let there = prometheus.data("label/__name__/values");
        let there: BTreeSet<String> = serde_json::from_value(there).unwrap();
        missing = named.difference(&there).cloned().collect();
        missing.is_empty()
    });
    for query in dashboard_queries() {
        until(&query, || !prometheus.query(&query).is_empty());
    }
    // The rules are understood, and evaluated without errors.
    until("every rule was evaluated", || {
        let rules = rules(&prometheus);
        assert!(
            rules.iter().all(|rule| rule["health"] != "err"),
            "{rules:?}"
        );
        rules.iter().all(|rule| rule["health"] == "ok")
    });
    let firing = prometheus.query("ALERTS{alertstate=\"firing\",severity=\"critical\"}");
    assert!(firing.is_empty(), "{firing:?}");

    // What is not known any more is not shown any more, and an alert is near.
    let waiting = "lock_store_fleet_waiting";
    // A scrape that came late leaves a gap.
    until("one waits", || {
        let series = prometheus.query(waiting);
        series.first().is_some_and(|one| one["value"][1] == "1")
    });
    server.kill();
    let near = "ALERTS{alertname=\"LockStoreRedisUnreachable\",alertstate=\"pending\"}";
    until(near, || !prometheus.query(near).is_empty());
    until("no old figures", || prometheus.query(waiting).is_empty());
    until("the process says so", || {
        let query = "ALERTS{alertname=\"LockStoreDisconnected\",alertstate=\"pending\"}";
        !prometheus.query(query).is_empty()
    });
    server.restart_empty();
    process.place.write("go", "");
    process.running.ended();
}

fn rules(prometheus: &Prometheus) -> Vec<Value> {
    let data = prometheus.data("rules");
    let groups = data["groups"].as_array().unwrap();
    let rules = groups.iter().filter_map(|group| group["rules"].as_array());
    rules.flatten().cloned().collect()
}

#[test]
fn what_is_served_is_as_prometheus_recommends() {
    let server = Server::start();
    let process = busy_process(&server.url());
    let exporter = Scraped::export(&server.url(), &[]);
    for scraped in [&process, &exporter] {
        let text = get(&scraped.address, "/metrics").body;
        assert_eq!(promtool(&["check", "metrics"], &text), "");
    }
    process.place.write("go", "");
    process.running.ended().results(0);
}

/// The alerts by name, with their runbook.
fn alerts() -> Vec<(String, String)> {
    let file: Value = serde_saphyr::from_str(&read("alerts.yml")).unwrap();
    let groups = file["groups"].as_array().unwrap();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules
        .map(|rule| (text(&rule["alert"]), text(&rule["annotations"]["runbook"])))
        .collect()
}

#[test]
fn each_alert_fires_when_it_should_and_does_not_when_it_should_not() {
    let path = |name| deployed(name).display().to_string();
    promtool(&["check", "rules", &path("alerts.yml")], "");
    promtool(&["test", "rules", &path("alerts_test.yml")], "");
    // There are both tests of each.
    let file: Value = serde_saphyr::from_str(&read("alerts_test.yml")).unwrap();
    let tests = file["tests"].as_array().unwrap();
    let checks = tests
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let (mut fires, mut does_not) = (BTreeSet::new(), BTreeSet::new());
    for check in checks {
        let name = check["alertname"].as_str().unwrap().to_owned();
        let alerts = check["exp_alerts"].as_array().unwrap();
        if alerts.is_empty() {
            &mut does_not
        } else {
            &mut fires
        }
        .insert(name);
    }
    let names: BTreeSet<_> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!((&fires, &does_not), (&names, &names));
}

#[test]
fn each_alert_has_its_runbook() {
    let page = fs::read_to_string(repository().join("docs/OPERATIONS.md")).unwrap();
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    // As GitHub makes anchors of headings of one word.
    let anchors: BTreeSet<_> = headings.map(str::to_lowercase).collect();
    let alerts = alerts();
    assert!(alerts.len() >= 20);
    for (name, runbook) in alerts {
        let anchor = runbook.strip_prefix("docs/OPERATIONS.md#").unwrap();
        assert_eq!(anchor, name.to_lowercase());
        assert!(anchors.contains(anchor), "no heading {name}");
    }
}
