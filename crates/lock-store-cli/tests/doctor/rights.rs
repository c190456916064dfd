//! What a user may not do.

use redis_fixture::{Server, documented_rights};

use crate::support::{Found, SECRET, doctor, healthy, redis};

const USER: &str = "bot";

/// What docs/REDIS.md says that a user needs.
fn documented() -> Vec<String> {
    documented_rights(USER)
        .split(' ')
        .map(str::to_owned)
        .collect()
}

fn server() -> Server {
    healthy().without_default_user().start()
}

/// What is found for a user with these rights.
fn found_for(server: &Server, rules: &[String]) -> Found {
    let password = format!(">{SECRET}");
    let mut command = vec!["ACL", "SETUSER", USER, "reset", "on", &password];
    command.extend(rules.iter().map(String::as_str));
    server.command(&command).ok();
    let login = format!("  username: {USER}\n  password: {SECRET}\n");
    doctor(&redis(&server.url(), &login))
}

fn without(rule: &str) -> Vec<String> {
    let mut rules = documented();
    let at = rules.iter().position(|it| it == rule);
    rules.remove(at.unwrap_or_else(|| panic!("{rule} in {rules:?}")));
    rules
}

#[test]
fn least_privilege_will_do() {
    let server = server();
    let found = found_for(&server, &documented());
    assert_eq!(found.code, Some(0));
    assert_eq!(found.with("warning"), [""; 0]);
    found.says("hand_off", "ok", &[]);
    found.says("role", "ok", &[]);
    // What the store has no need of is not asked.
    let skipped = found.with("skipped");
    let unknown = [
        "memory_policy",
        "memory",
        "clients",
        "persistence",
        "replicas",
        "slow_log",
    ];
    assert_eq!(skipped, unknown);
    found.says("memory_policy", "skipped", &["this user may not ask INFO"]);
    let mut more = documented();
    more.extend(["+info", "+config|get", "+slowlog|get"].map(str::to_owned));
    let more = if server.version() >= redis_fixture::Version::new(7, 0, 0) {
        more
    } else {
        documented()
            .into_iter()
            .chain(["+info", "+config", "+slowlog"].map(str::to_owned))
            .collect()
    };
    found_for(&server, &more).is_well();
}

#[test]
fn each_missing_command_is_named() {
    let server = server();
    let commands = documented()
        .into_iter()
        .filter(|rule| rule.starts_with('+'));
    for rule in commands {
        // No server refuses these, and without the next one cannot log in.
        if ["+hello", "+auth"].contains(&&*rule) {
            continue;
        }
        let found = found_for(&server, &without(&rule));
        let name = format!("lacks {rule}:");
        match &*rule {
            "+scan" => {
                let line = found.of("rights");
                assert_eq!(line["status"], "warning", "{line}");
                found.says("rights", "warning", &[&name, "ACL SETUSER", "listed"]);
            }
            "+subscribe" => found.says("rights", "warning", &[&name, "look every wait_time"]),
            _ => {
                found.fails("rights", &[&format!("needs: {rule}"), "ACL SETUSER"]);
                found.skips(&["hand_off", "leftovers"], "rights");
            }
        }
        assert_eq!(server.command(&["DBSIZE"]).integer(), 0, "{rule}");
    }
}

#[test]
fn several_missing_ones_are_named_together() {
    let server = server();
    let mut rules = without("+lrem");
    rules.retain(|rule| rule != "+publish");
    found_for(&server, &rules).fails("rights", &["+lrem +publish"]);
}

#[test]
fn keys_that_are_not_allowed() {
    let server = server();
    let mut rules = without("~lock-store:*");
    rules.push("~other:*".into());
    let found = found_for(&server, &rules);
    found.fails("rights", &["needs: ~lock-store:*"]);
}

#[test]
fn channels_that_are_not_allowed() {
    let server = server();
    let found = found_for(&server, &without("&lock-store:*"));
    found.fails("rights", &["needs: &lock-store:*"]);
}
