//! Every key, each kind of wrong value, with the message that the user sees.

use secrecy::ExposeSecret;

use super::*;

fn read(block: &str, variables: &[(&str, &str)]) -> Result<LockStoreConfig, LockError> {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let text = format!("tracker_store:\n  type: x\nlock_store:\n{block}");
    LockStoreConfig::read(&text, "endpoints.yml", &Environment::looked_up(lookup))
}

#[test]
fn without_a_block_everything_is_the_default() {
    for text in [
        "",
        "# nothing\n",
        "nlu:\n  url: x\n",
        "lock_store:\n",
        "lock_store: {}\n",
    ] {
        let config = LockStoreConfig::from_yaml(text).unwrap();
        assert_eq!(config.store_type, StoreType::InMemory);
        assert_eq!(config.timing, Timing::default());
        assert_eq!(config.redis.url.expose_secret(), "localhost");
        assert_eq!((config.redis.port, config.redis.db), (6379, 1));
        assert_eq!(config.redis.fallback, Fallback::InMemory);
        assert_eq!(config.redis.layout, Layout::Native);
        assert_eq!(config.redis.socket_timeout, Duration::from_secs(10));
        assert_eq!(config.redis.sentinel_service, "mymaster");
        assert_eq!(config.redis.connections, 1);
    }
}

#[test]
fn every_key_is_read() {
    let block = "
  type: redis
  url: redis.example
  port: 6380
  db: 3
  username: bot
  password: '12345'
  use_ssl: true
  ssl_certfile: client.pem
  ssl_keyfile: client.key
  ssl_ca_certs: ca.pem
  key_prefix: my-bot_1.x
  socket_timeout: 2.5
  connections: 4
  replicas: 2
  deployment_mode: sentinel
  endpoints: ['s1:26379', 's2:26379']
  sentinel_service: chat
  fallback: none
  layout: rasa
  lock_lifetime: 30
  wait_timeout: 0
  wait_time: 0.25
  claim_window: 3
  keep_alive: true
";
    let config = read(block, &[]).unwrap();
    let written = block.lines().filter(|line| line.contains(':')).count();
    // `host` is another word for `url`.
    assert_eq!(written, block::KEYS.len() - 1);
    assert_eq!(config.store_type, StoreType::Redis);
    let redis = &config.redis;
    assert_eq!(redis.url.expose_secret(), "redis.example");
    assert_eq!((redis.port, redis.db), (6380, 3));
    assert_eq!(redis.username.as_deref(), Some("bot"));
    assert_eq!(redis.password.as_ref().unwrap().expose_secret(), "12345");
    assert!(redis.use_ssl);
    assert_eq!(redis.ssl_certfile, Some("client.pem".into()));
    assert_eq!(redis.ssl_keyfile, Some("client.key".into()));
    assert_eq!(redis.ssl_ca_certs, Some("ca.pem".into()));
    assert_eq!(redis.key_prefix.as_deref(), Some("my-bot_1.x"));
    assert_eq!(redis.socket_timeout, Duration::from_millis(2_500));
    assert_eq!((redis.connections, redis.replicas), (4, 2));
    assert_eq!(redis.deployment_mode, DeploymentMode::Sentinel);
    assert_eq!(redis.endpoints, ["s1:26379", "s2:26379"]);
    assert_eq!(redis.sentinel_service, "chat");
    assert_eq!(redis.fallback, Fallback::None);
    assert_eq!(redis.layout, Layout::Rasa);
    assert_eq!(
        config.timing,
        Timing {
            lock_lifetime: Duration::from_secs(30),
            wait_timeout: Some(Duration::ZERO),
            wait_time: Duration::from_millis(250),
            claim_window: Duration::from_secs(3),
            keep_alive: true,
        }
    );
    let host = read("  host: unix:///run/redis.sock\n", &[]).unwrap();
    assert_eq!(host.redis.url.expose_secret(), "unix:///run/redis.sock");
}

#[test]
fn rasas_own_file_is_read_as_well() {
    let read = |more: &str| {
        read(
            &format!("  type: lock_store.rasa.RasaLockStore\n{more}"),
            &[],
        )
    };
    let config = read("  url: redis.example\n  layout: rasa\n").unwrap();
    assert_eq!(config.store_type, StoreType::Redis);
    assert_eq!(config.redis.url.expose_secret(), "redis.example");
    let memory = read("  store: in_memory\n").unwrap();
    assert_eq!(memory.store_type, StoreType::InMemory);
    let error = read("  store: disk\n").unwrap_err().to_string();
    let wanted = "lock_store.store is \"disk\"; it must be `in_memory` or `redis`";
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn store_belongs_to_rasas_class() {
    let error = read("  type: redis\n  store: redis\n", &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("lock_store.store is not a key"), "{text}");
}

/// Which leaves out those that Rasa does.
#[test]
fn rasas_layout_takes_any_prefix() {
    for prefix in ["", "a b", "bött", "a:b"] {
        let block = format!("  type: redis\n  layout: rasa\n  key_prefix: '{prefix}'\n");
        let config = read(&block, &[]).unwrap();
        assert_eq!(config.redis.key_prefix.as_deref(), Some(prefix));
    }
}

#[test]
fn variables_are_replaced_in_every_kind_of_value() {
    let block = "
  type: ${TYPE}
  url: redis://${HOST}/$DB
  port: ${PORT}
  password: ${PASSWORD}
  use_ssl: ${TLS}
  endpoints: ['${HOST}:1', 'b:2']
  lock_lifetime: ${LIFETIME}
  key_prefix: $HOST
";
    let variables = [
        ("TYPE", "redis"),
        ("HOST", "h.example"),
        ("DB", "7"),
        ("PORT", "6390"),
        ("PASSWORD", "a: b # {c} ${HOST} \"d\""),
        ("TLS", "true"),
        ("LIFETIME", "12.5"),
    ];
    let error = read(block, &variables).unwrap_err();
    // As in Rasa, `$NAME` alone is text.
    assert!(
        error.to_string().contains("key_prefix is \"$HOST\""),
        "{error}"
    );
    let config = read(
        &block.replace("key_prefix: $HOST", "keep_alive: true"),
        &variables,
    )
    .unwrap();
    assert_eq!(config.store_type, StoreType::Redis);
    assert_eq!(config.redis.url.expose_secret(), "redis://h.example/7");
    assert_eq!(config.redis.port, 6390);
    // What a variable holds is not read as YAML, and not replaced again.
    let password = config.redis.password.unwrap();
    assert_eq!(password.expose_secret(), "a: b # {c} ${HOST} \"d\"");
    assert!(config.redis.use_ssl);
    assert_eq!(config.redis.endpoints, ["h.example:1", "b:2"]);
    assert_eq!(config.timing.lock_lifetime, Duration::from_millis(12_500));
}

#[test]
fn ticket_lock_lifetime_overrides() {
    let lifetime = |value: &str| {
        let config = read("  lock_lifetime: 30\n", &[("TICKET_LOCK_LIFETIME", value)]);
        config.map(|config| config.timing.lock_lifetime)
    };
    assert_eq!(lifetime("90").unwrap(), Duration::from_secs(90));
    assert_eq!(lifetime(" 1.5 ").unwrap(), Duration::from_millis(1_500));
    assert_eq!(lifetime("").unwrap(), Duration::from_secs(30));
    assert_eq!(lifetime("0").unwrap(), Duration::from_secs(30));
    for wrong in ["soon", "-1", "1e99", "nan", "99999999"] {
        let error = lifetime(wrong).unwrap_err().to_string();
        let named = format!("TICKET_LOCK_LIFETIME is {wrong:?}; it must be a number of seconds");
        assert!(error.contains(&named), "{error}");
    }
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn each_wrong_value_is_named() {
    for (line, expected) in [
        (
            "type: postgres",
            "line 4: lock_store.type is \"postgres\"; it must be `in_memory` or `redis`",
        ),
        (
            "type: 3",
            "line 4: lock_store.type is 3; it must be text; put it in quotes",
        ),
        (
            "port: abc",
            "line 4: lock_store.port is \"abc\"; it must be a whole number from 1 to 65535",
        ),
        (
            "port: 0",
            "lock_store.port is 0; it must be a whole number from 1 to 65535",
        ),
        (
            "port: 70000",
            "lock_store.port is 70000; it must be a whole number from 1 to 65535",
        ),
        (
            "port: 1.5",
            "lock_store.port is 1.5; it must be a whole number",
        ),
        (
            "db: -1",
            "lock_store.db is -1; it must be a whole number from 0",
        ),
        (
            "use_ssl: maybe",
            "lock_store.use_ssl is \"maybe\"; it must be true or false",
        ),
        (
            "keep_alive: 1",
            "lock_store.keep_alive is 1; it must be true or false",
        ),
        (
            "key_prefix: a b",
            "lock_store.key_prefix is \"a b\"; it may have letters, digits",
        ),
        (
            "key_prefix: ''",
            "lock_store.key_prefix is \"\"; it may have letters, digits",
        ),
        (
            "connections: 0",
            "lock_store.connections is 0; it must be a whole number from 1 to 64",
        ),
        (
            "deployment_mode: ring",
            "is \"ring\"; it must be `standard` or `sentinel` or `cluster`",
        ),
        (
            "endpoints: s1",
            "lock_store.endpoints must be a list of `host:port`",
        ),
        (
            "endpoints: [s1]",
            "lock_store.endpoints must be a list of `host:port`",
        ),
        (
            "endpoints: ['s1:99999']",
            "lock_store.endpoints must be a list of `host:port`",
        ),
        (
            "endpoints: [{a: b}]",
            "lock_store.endpoints must be a list of `host:port`",
        ),
        (
            "layout: json",
            "lock_store.layout is \"json\"; it must be `native` or `rasa`",
        ),
        (
            "fallback: disk",
            "lock_store.fallback is \"disk\"; it must be `in_memory` or `none`",
        ),
        (
            "lock_lifetime: 0",
            "lock_store.lock_lifetime is 0; it must be a number of seconds from 0.001 to 2592000",
        ),
        (
            "lock_lifetime: long",
            "lock_store.lock_lifetime is \"long\"; it must be a number of seconds",
        ),
        (
            "wait_timeout: -1",
            "lock_store.wait_timeout is -1; it must be a number of seconds from 0",
        ),
        (
            "wait_time: 0",
            "lock_store.wait_time is 0; it must be a number of seconds from 0.01 to 3600",
        ),
        (
            "claim_window: .inf",
            "line 4: not YAML that can be read: non-finite float",
        ),
        (
            "socket_timeout: [1]",
            "lock_store.socket_timeout is [1]; it must be a number of seconds",
        ),
        (
            "lock_lifetme: 3",
            "line 4: lock_store.lock_lifetme is not a key; did you mean `lock_lifetime`?",
        ),
        (
            "colour: red",
            "line 4: lock_store.colour is not a key; there are type, url, host",
        ),
        (
            "password: ${NOWHERE}",
            "line 4: lock_store.password names ${NOWHERE}, which is not set in the environment",
        ),
        (
            "url: http://h",
            "lock_store.url must be a host name, or begin with redis://, rediss:// or unix://",
        ),
        (
            "url: a\n  host: b",
            "line 5: lock_store.host and lock_store.url say the same; give one of them",
        ),
        ("type: redis\n  type: redis", "duplicate"),
        ("type: 'redis", "not YAML that can be read"),
    ] {
        let error = read(&format!("  {line}\n"), &[]).unwrap_err();
        assert_eq!(error.kind(), crate::LockErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains("endpoints.yml"), "{text}");
        assert!(
            text.contains(expected),
            "{text:?} does not say {expected:?}"
        );
    }
    let error = LockStoreConfig::from_yaml("nlu: 1\nlock_store: redis://:hunter2@h\n").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("line 2: lock_store must be a block of keys"),
        "{error}"
    );
}

/// Whatever is wrong around it, a secret is not shown.
#[test]
fn no_secret_is_shown() {
    let secret = "hunter2";
    let right = "  url: redis://bot:hunter2@h/1\n  username: hunter2\n  password: hunter2\n";
    let config = read(right, &[]).unwrap();
    assert!(!format!("{config:?}").contains(secret));
    for wrong in [
        "  password: hunter2\n  port: x\n",
        "  password: [hunter2]\n",
        "  password: {hunter2: 1}\n",
        "  url: ftp://:hunter2@h\n",
        "  url: [hunter2]\n",
        "  password: hunter2\n  password: hunter2\n",
        "  password: hunter2\n broken\n",
        "  password: 'hunter2\n",
        "  password: \"hunter2\\q\"\n",
        "  password: *hunter\n",
        "  password: !!int hunter2\n",
        "  - hunter2\n",
        " hunter2",
    ] {
        let error = read(wrong, &[]).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains(secret), "{text} for {wrong:?}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = LockStoreConfig::from_endpoints("no/such/endpoints.yml").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cannot read no/such/endpoints.yml"), "{text}");
    assert!(std::error::Error::source(&error).is_some());
}
