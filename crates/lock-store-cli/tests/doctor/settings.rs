//! What the configuration has wrong.

use crate::support::{SECRET, doctor, doctor_in, doctor_with, healthy, redis};

#[test]
fn in_memory_it_says_what_that_means() {
    let found = doctor("lock_store:\n  type: in_memory\n");
    found.is_well();
    found.says(
        "configuration",
        "ok",
        &["in memory", "one process", "type: redis"],
    );
    let found = doctor("lock_store:\n  lock_lifetime: 2\n");
    found.warns(
        "timing",
        &["claim_window (5 s) is longer than lock_lifetime (2 s)"],
    );
}

#[test]
fn what_is_wrong_in_the_file_is_named() {
    for (line, texts) in [
        (
            "  lock_lifetme: 3\n",
            &["line 5", "lock_lifetme", "did you mean `lock_lifetime`"][..],
        ),
        (
            "  port: abc\n",
            &["line 5", "lock_store.port", "1 to 65535"],
        ),
        (
            "  password: ${DOCTOR_HAS_NONE}\n",
            &["${DOCTOR_HAS_NONE}", "not set"],
        ),
        (
            "  use_ssl: true\n  ssl_ca_certs: nowhere.pem\n",
            &["ssl_ca_certs", "nowhere.pem"],
        ),
    ] {
        let found = doctor(&redis("redis://127.0.0.1:1", line));
        found.fails("configuration", texts);
    }
    let found = doctor_with("", &["--endpoints", "nowhere.yml"]);
    found.fails("configuration", &["cannot read nowhere.yml"]);
}

#[test]
fn falling_back_is_warned_of() {
    let server = healthy().start();
    let url = server.url();
    let found = doctor(&format!("lock_store:\n  type: redis\n  url: {url}\n"));
    found.warns("fallback", &["in_memory", "set `fallback: none`"]);
}

#[test]
fn times_and_connections_are_looked_at() {
    let server = healthy().start();
    let found = doctor(&redis(&server.url(), "  wait_time: 4\n"));
    found.warns("timing", &["wait_time (4 s)", "a third of claim_window"]);
    // --timeout is for this look only.
    doctor_with(&redis(&server.url(), ""), &["--timeout", "70"]).is_well();
    let found = doctor(&redis(&server.url(), "  connections: 64\n"));
    let cores = std::thread::available_parallelism().unwrap().get();
    let expected = if cores < 64 { "warning" } else { "ok" };
    found.says("connections", expected, &["64"]);
}

#[test]
fn it_says_where_each_setting_comes_from() {
    let server = healthy().password(SECRET).start();
    let url = server.url();
    let file = redis("redis://elsewhere:1", "  key_prefix: file\n");
    let variables = [
        ("LOCK_STORE_URL", url.as_str()),
        ("LOCK_STORE_PASSWORD", SECRET),
        ("TICKET_LOCK_LIFETIME", "30"),
    ];
    let found = doctor_in(&variables, &file, &[]);
    found.is_well();
    found.says(
        "configuration",
        "ok",
        &["LOCK_STORE_URL: Redis at 127.0.0.1"],
    );
    found.says(
        "settings",
        "ok",
        &[
            "type (endpoints.yml line 2)",
            "url (LOCK_STORE_URL)",
            "password (LOCK_STORE_PASSWORD)",
            "key_prefix (endpoints.yml line 5)",
            "lock_lifetime (TICKET_LOCK_LIFETIME)",
            "all others are the default",
        ],
    );
    found.says("timing", "ok", &["leases of 30 s"]);
    // An option counts over both.
    let found = doctor_in(&variables, "broken", &["--redis", &url]);
    found.is_well();
    found.says("settings", "ok", &["type (--redis)", "url (--redis)"]);
}

#[test]
fn the_environment_needs_no_file() {
    let server = healthy().start();
    let url = server.url();
    let variables = [
        ("LOCK_STORE_URL", url.as_str()),
        ("LOCK_STORE_FALLBACK", "none"),
        ("LOCK_STORE_KEY_PREFIX", "bot"),
    ];
    let found = doctor_in(&variables, "", &[]);
    found.is_well();
    found.says("configuration", "ok", &["keys bot:tickets:*"]);
    let found = doctor_in(&[], "", &[]);
    found.says("settings", "ok", &["every setting is the default"]);
}

#[test]
fn a_wrong_variable_is_named_and_no_secret_shown() {
    let url = format!("redis://:{SECRET}@127.0.0.1:port");
    for (name, value, texts) in [
        (
            "LOCK_STORE_PORT",
            "abc",
            &["LOCK_STORE_PORT is \"abc\"", "1 to 65535"][..],
        ),
        ("LOCK_STORE_URL", &url, &["LOCK_STORE_URL", "redis://"]),
        (
            "LOCK_STORE_PASWORD",
            SECRET,
            &["did you mean LOCK_STORE_PASSWORD"],
        ),
        (
            "TICKET_LOCK_LIFETIME",
            "soon",
            &["TICKET_LOCK_LIFETIME is \"soon\""],
        ),
    ] {
        let found = doctor_in(&[(name, value)], &redis("h", ""), &[]);
        found.fails("configuration", texts);
    }
}
