//! Every key, each kind of wrong value, with the message that the user sees.

use std::collections::BTreeMap;
use std::ffi::OsString;

use secrecy::ExposeSecret;

use super::environment::Environment;
use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment<'static> {
    let variables: BTreeMap<String, OsString> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
        .collect();
    let names: Vec<_> = variables.keys().cloned().collect();
    Environment::looked_up(names, move |name| variables.get(name).cloned())
}

fn file(text: &str) -> ConfigReader {
    ConfigReader::new().named_yaml("endpoints.yml", text)
}

fn block(block: &str) -> ConfigReader {
    file(&format!("tracker_store:\n  type: x\nlock_store:\n{block}"))
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<LockStoreConfig, LockError> {
    let read = block(text).read_in(&environment(variables))?;
    Ok(read.config)
}

fn from_env(variables: &[(&str, &str)]) -> Result<LockStoreConfig, LockError> {
    let read = ConfigReader::new().read_in(&environment(variables))?;
    Ok(read.config)
}

/// The error, which is one of the configuration, as text.
#[track_caller]
fn refused<T>(found: Result<T, LockError>) -> String {
    let error = found.err().unwrap();
    assert_eq!(error.kind(), crate::LockErrorKind::Config);
    error.to_string()
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
        assert_eq!(config.client_name, None);
    }
    assert_eq!(from_env(&[]).unwrap().redis.fallback, Fallback::InMemory);
}

#[test]
fn a_configuration_made_in_code_falls_back_to_nothing() {
    for redis in [
        RedisConfig::default(),
        RedisConfig::from_url("redis://h"),
        LockStoreConfig::default().redis,
    ] {
        assert_eq!(redis.fallback, Fallback::None);
    }
    assert_eq!(Fallback::default(), Fallback::None);
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
  max_hold: 300
  client_name: bot-1:worker
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
            max_hold: Some(Duration::from_secs(300)),
        }
    );
    assert_eq!(config.client_name.as_deref(), Some("bot-1:worker"));
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
            "endpoints: ['redis://s1:26379']",
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
            "lock_store.url must be a host name, or a URL that begins with redis://, rediss:// or \
             unix://",
        ),
        (
            "host: h:6379",
            "lock_store.host must be a host name, or a URL that",
        ),
        (
            "url: redis://h:0",
            "lock_store.url is a URL that has the port 0; it must look like",
        ),
        (
            "url: redis://h:x",
            "lock_store.url is a URL that cannot be read; it must look like",
        ),
        (
            "url: redis://h/-1",
            "lock_store.url is a URL that has a database that is not one; it must look like",
        ),
        (
            "url: rediss://h/#insecure",
            "lock_store.url is a URL that asks for TLS without verification",
        ),
        (
            "max_hold: 0",
            "lock_store.max_hold is 0; it must be a number of seconds from 0.001 to 2592000",
        ),
        (
            "client_name: a b",
            "lock_store.client_name is \"a b\"; it must be 1 to 64 printable ASCII characters",
        ),
        (
            "client_name: ''",
            "lock_store.client_name is \"\"; it must be 1 to 64",
        ),
        (
            "client_name: bött",
            "lock_store.client_name is \"bött\"; it must be 1 to 64",
        ),
        (
            "url: a\n  host: b",
            "line 5: lock_store.host and lock_store.url say the same; give one of them",
        ),
        ("type: redis\n  type: redis", "duplicate"),
        ("type: 'redis", "not YAML that can be read"),
    ] {
        let text = refused(read(&format!("  {line}\n"), &[]));
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

/// As the block of `every_key_is_read`.
const EVERY_VARIABLE: [(&str, &str); 26] = [
    ("LOCK_STORE_TYPE", "redis"),
    ("LOCK_STORE_URL", "redis.example"),
    ("LOCK_STORE_PORT", "6380"),
    ("LOCK_STORE_DB", "3"),
    ("LOCK_STORE_USERNAME", "bot"),
    ("LOCK_STORE_PASSWORD", "a ${HOME} b"),
    ("LOCK_STORE_USE_SSL", "TRUE"),
    ("LOCK_STORE_SSL_CERTFILE", "client.pem"),
    ("LOCK_STORE_SSL_KEYFILE", "client.key"),
    ("LOCK_STORE_SSL_CA_CERTS", "ca.pem"),
    ("LOCK_STORE_KEY_PREFIX", "my-bot_1.x"),
    ("LOCK_STORE_SOCKET_TIMEOUT", "2.5"),
    ("LOCK_STORE_CONNECTIONS", "4"),
    ("LOCK_STORE_REPLICAS", "2"),
    ("LOCK_STORE_DEPLOYMENT_MODE", "sentinel"),
    ("LOCK_STORE_ENDPOINTS", "s1:26379, [::1]:26379"),
    ("LOCK_STORE_SENTINEL_SERVICE", "chat"),
    ("LOCK_STORE_FALLBACK", "none"),
    ("LOCK_STORE_LAYOUT", "rasa"),
    ("LOCK_STORE_LOCK_LIFETIME", "30"),
    ("LOCK_STORE_WAIT_TIMEOUT", "0"),
    ("LOCK_STORE_WAIT_TIME", "0.25"),
    ("LOCK_STORE_CLAIM_WINDOW", "3"),
    ("LOCK_STORE_KEEP_ALIVE", "true"),
    ("LOCK_STORE_MAX_HOLD", "300"),
    ("LOCK_STORE_CLIENT_NAME", "bot-1:worker"),
];

#[test]
fn every_key_is_read_from_the_environment() {
    // `HOST` is another word for `URL`.
    assert_eq!(EVERY_VARIABLE.len(), block::KEYS.len() - 1);
    let config = from_env(&EVERY_VARIABLE).unwrap();
    assert_eq!(config.store_type, StoreType::Redis);
    let redis = &config.redis;
    assert_eq!(redis.url.expose_secret(), "redis.example");
    assert_eq!((redis.port, redis.db), (6380, 3));
    assert_eq!(redis.username.as_deref(), Some("bot"));
    // Nothing is replaced in it.
    let password = redis.password.as_ref().unwrap();
    assert_eq!(password.expose_secret(), "a ${HOME} b");
    assert!(redis.use_ssl);
    assert_eq!(redis.ssl_certfile, Some("client.pem".into()));
    assert_eq!(redis.ssl_keyfile, Some("client.key".into()));
    assert_eq!(redis.ssl_ca_certs, Some("ca.pem".into()));
    assert_eq!(redis.key_prefix.as_deref(), Some("my-bot_1.x"));
    assert_eq!(redis.socket_timeout, Duration::from_millis(2_500));
    assert_eq!((redis.connections, redis.replicas), (4, 2));
    assert_eq!(redis.deployment_mode, DeploymentMode::Sentinel);
    assert_eq!(redis.endpoints, ["s1:26379", "[::1]:26379"]);
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
            max_hold: Some(Duration::from_secs(300)),
        }
    );
    assert_eq!(config.client_name.as_deref(), Some("bot-1:worker"));
    let host = from_env(&[("LOCK_STORE_HOST", "unix:///run/redis.sock")]).unwrap();
    assert_eq!(host.redis.url.expose_secret(), "unix:///run/redis.sock");
}

#[test]
fn an_option_counts_over_the_environment_and_this_over_the_file() {
    let reader = block("  key_prefix: file\n  lock_lifetime: 10\n  db: 5\n  replicas: 1\n")
        .option("key_prefix", "option")
        .option_named("--prefix", "client_name", "named");
    let read = reader
        .read_in(&environment(&[
            ("LOCK_STORE_KEY_PREFIX", "variable"),
            ("LOCK_STORE_LOCK_LIFETIME", "20"),
            ("TICKET_LOCK_LIFETIME", "30"),
            ("LOCK_STORE_DB", "6"),
        ]))
        .unwrap();
    let config = read.config;
    assert_eq!(config.redis.key_prefix.as_deref(), Some("option"));
    assert_eq!(config.timing.lock_lifetime, Duration::from_secs(20));
    assert_eq!((config.redis.db, config.redis.replicas), (6, 1));
    let sources: Vec<_> = read
        .settings
        .iter()
        .map(|setting| format!("{}: {}", setting.key, setting.source))
        .collect();
    let expected = [
        "db: LOCK_STORE_DB",
        "key_prefix: key_prefix",
        "replicas: endpoints.yml, line 7",
        "lock_lifetime: LOCK_STORE_LOCK_LIFETIME",
        "client_name: --prefix",
    ];
    assert_eq!(sources, expected);
}

#[test]
fn ticket_lock_lifetime_counts_where_nothing_counts_over_it() {
    let rasas = ("TICKET_LOCK_LIFETIME", "30");
    let lifetime = |config: LockStoreConfig| config.timing.lock_lifetime.as_secs();
    assert_eq!(lifetime(from_env(&[rasas]).unwrap()), 30);
    let ours = [rasas, ("LOCK_STORE_LOCK_LIFETIME", "20")];
    assert_eq!(lifetime(from_env(&ours).unwrap()), 20);
    let option = ConfigReader::new().option("lock_lifetime", 10);
    let read = option.read_in(&environment(&ours)).unwrap();
    assert_eq!(lifetime(read.config), 10);
    let read = file("").read_in(&environment(&[rasas])).unwrap();
    assert_eq!(read.settings[0].source.to_string(), "TICKET_LOCK_LIFETIME");
}

/// A container cannot leave out a variable that its description names.
#[test]
fn an_empty_variable_is_not_set() {
    let variables = block::KEYS.map(|key| format!("LOCK_STORE_{}", key.to_uppercase()));
    let variables: Vec<_> = variables.iter().map(|name| (name.as_str(), " ")).collect();
    let nothing = ConfigReader::new().read_in(&environment(&variables));
    assert_eq!(nothing.unwrap().settings, []);
    let file = read("  key_prefix: file\n", &variables).unwrap();
    assert_eq!(file.redis.key_prefix.as_deref(), Some("file"));
}

#[test]
fn where_redis_is_named_the_store_is_on_redis() {
    let store_type = |block: &str, variables: &[(&str, &str)]| {
        let config = read(block, variables).unwrap();
        config.store_type
    };
    for server in [
        ("LOCK_STORE_URL", "redis://h"),
        ("LOCK_STORE_HOST", "h"),
        ("LOCK_STORE_ENDPOINTS", "h:1"),
    ] {
        assert_eq!(store_type("", &[server]), StoreType::Redis);
        assert_eq!(store_type("  key_prefix: a\n", &[server]), StoreType::Redis);
        // What is said counts.
        let memory = ("LOCK_STORE_TYPE", "in_memory");
        assert_eq!(store_type("", &[server, memory]), StoreType::InMemory);
        assert_eq!(
            store_type("  type: in_memory\n", &[server]),
            StoreType::InMemory
        );
    }
    assert_eq!(store_type("  url: h\n", &[]), StoreType::InMemory);
    assert_eq!(
        store_type("", &[("LOCK_STORE_DB", "3")]),
        StoreType::InMemory
    );
    let rasas = "  type: lock_store.rasa.RasaLockStore\n  store: redis\n";
    let memory = ("LOCK_STORE_TYPE", "in_memory");
    assert_eq!(store_type(rasas, &[memory]), StoreType::InMemory);
}

#[test]
fn each_wrong_variable_is_named() {
    for (name, value, expected) in [
        (
            "PORT",
            "abc",
            "is \"abc\"; it must be a whole number from 1 to 65535",
        ),
        (
            "PORT",
            "0",
            "is \"0\"; it must be a whole number from 1 to 65535",
        ),
        (
            "CONNECTIONS",
            "65",
            "is \"65\"; it must be a whole number from 1 to 64",
        ),
        (
            "LOCK_LIFETIME",
            "soon",
            "is \"soon\"; it must be a number of seconds",
        ),
        (
            "WAIT_TIMEOUT",
            "1e9",
            "is \"1e9\"; it must be a number of seconds from 0",
        ),
        ("KEEP_ALIVE", "1", "is \"1\"; it must be true or false"),
        (
            "TYPE",
            "disk",
            "is \"disk\"; it must be `in_memory` or `redis`",
        ),
        (
            "KEY_PREFIX",
            "a'b",
            "is \"a'b\"; it may have letters, digits",
        ),
        (
            "URL",
            "http://h",
            "must be a host name, or a URL that begins with redis://",
        ),
        (
            "ENDPOINTS",
            "s1:1,s2",
            "must be `host:port`, or several with commas between",
        ),
        (
            "CLIENT_NAME",
            "a b",
            "is \"a b\"; it must be 1 to 64 printable ASCII",
        ),
        (
            "KEY_PREFX",
            "a",
            "is not a setting; did you mean LOCK_STORE_KEY_PREFIX?",
        ),
        (
            "ENDPOINT",
            "a:1",
            "is not a setting; did you mean LOCK_STORE_ENDPOINTS?",
        ),
        (
            "URI",
            "redis://h",
            "is not a setting; did you mean LOCK_STORE_URL?",
        ),
        (
            "url",
            "redis://h",
            "is not a setting; did you mean LOCK_STORE_URL?",
        ),
    ] {
        let name = format!("LOCK_STORE_{name}");
        let expected = format!("the environment variable {name} {expected}");
        // Over a file, too.
        for found in [from_env(&[(&name, value)]), read("", &[(&name, value)])] {
            let text = refused(found);
            assert!(
                text.contains(&expected),
                "{text:?} does not say {expected:?}"
            );
        }
    }
    let both = [("LOCK_STORE_URL", "a"), ("LOCK_STORE_HOST", "b")];
    let text = refused(from_env(&both));
    assert!(
        text.contains("LOCK_STORE_HOST and LOCK_STORE_URL say the same"),
        "{text}"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStringExt as _;

    let lookup =
        |name: &str| (name == "LOCK_STORE_PASSWORD").then(|| OsString::from_vec(vec![255]));
    let environment = Environment::looked_up([], lookup);
    let text = refused(ConfigReader::new().read_in(&environment));
    assert!(text.contains("LOCK_STORE_PASSWORD is not UTF-8"), "{text}");
}

/// Those that the command gives its handlers, those of tests, and those that
/// Kubernetes makes of a service called `lock-store`.
#[test]
fn variables_of_others_are_left_alone() {
    let others = [
        ("LOCK_STORE_CONVERSATION_ID", "a"),
        ("LOCK_STORE_TICKET", "1"),
        ("LOCK_STORE_FENCING_TOKEN", "2"),
        ("LOCK_STORE_REDIS_SERVER", "/usr/bin/redis-server"),
        ("LOCK_STORE_TEST_ADDRESS", "h:1"),
        ("LOCK_STORE_HOME", "/opt"),
        ("LOCK_STORE_SERVICE_HOST", "10.0.0.1"),
        ("LOCK_STORE_SERVICE_PORT", "9090"),
        ("LOCK_STORE_PORT", "tcp://10.0.0.1:9090"),
        ("LOCK_STORE_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
        ("LOCK_STORE_PORT_9090_TCP_PORT", "9090"),
    ];
    let read = ConfigReader::new().read_in(&environment(&others));
    assert_eq!(read.unwrap().settings, []);
}

/// A URL says what other keys say, too.
#[test]
fn a_variable_that_could_not_change_the_url_of_a_file_is_refused() {
    for (url, name, value) in [
        ("redis://h/1", "LOCK_STORE_DB", "3"),
        ("redis://h", "LOCK_STORE_PORT", "6380"),
        ("rediss://h", "LOCK_STORE_USE_SSL", "false"),
        ("unix:///run/redis.sock?db=1", "LOCK_STORE_DB", "3"),
    ] {
        let block = format!("  url: {url}\n");
        let text = refused(read(&block, &[(name, value)]));
        let expected = format!(
            "the environment variable {name} cannot change the URL in endpoints.yml, line 4"
        );
        assert!(text.contains(&expected), "{text}");
        // Beside a URL that counts over it, it is left out.
        let option = ConfigReader::new().option_named("--redis", "url", url);
        option.read_in(&environment(&[(name, value)])).unwrap();
    }
    let config = read("  url: redis://h\n", &[("LOCK_STORE_DB", "3")]).unwrap();
    assert_eq!(config.redis.db, 3);
}

#[test]
fn a_password_of_a_file_does_not_go_where_another_url_with_a_password_leads() {
    let block = "  url: redis://one\n  username: bot\n  password: hunter2\n";
    let other = [("LOCK_STORE_URL", "redis://:swordfish@two")];
    let redis = read(block, &other).unwrap().redis;
    assert!(redis.username.is_none() && redis.password.is_none());
    // A URL without one has the password still.
    let redis = read(block, &[("LOCK_STORE_URL", "redis://two")])
        .unwrap()
        .redis;
    assert_eq!(redis.password.unwrap().expose_secret(), "hunter2");
    let both = [other[0], ("LOCK_STORE_PASSWORD", "trout")];
    let redis = read(block, &both).unwrap().redis;
    assert_eq!(redis.password.unwrap().expose_secret(), "trout");
}

#[test]
fn no_secret_of_a_variable_is_shown() {
    let secret = "hunter2";
    let right = [
        ("LOCK_STORE_URL", "redis://bot:hunter2@h"),
        ("LOCK_STORE_USERNAME", secret),
        ("LOCK_STORE_PASSWORD", secret),
    ];
    let read = ConfigReader::new().read_in(&environment(&right)).unwrap();
    assert!(!format!("{read:?}").contains(secret));
    let reader = ConfigReader::new()
        .option("password", secret)
        .block("password", secret);
    assert!(!format!("{reader:?}").contains(secret));
    for (name, value) in [
        ("LOCK_STORE_URL", "ftp://:hunter2@h"),
        ("LOCK_STORE_URL", "redis://:hunter2@h:port"),
        ("LOCK_STORE_HOST", ":hunter2@h"),
        ("LOCK_STORE_ENDPOINTS", "redis://:hunter2@h:1"),
        ("LOCK_STORE_PASWORD", secret),
    ] {
        let error = from_env(&[(name, value)]).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains(secret), "{text} for {name}");
            assert!(text.contains(name), "{text}");
        }
    }
}

#[test]
fn a_value_made_in_code_is_checked_as_one_that_is_read() {
    let redis = RedisConfig::default;
    let with_prefix = |prefix: &str| RedisConfig {
        key_prefix: Some(prefix.to_owned()),
        ..redis()
    };
    let with_endpoint = |endpoint: &str| RedisConfig {
        endpoints: vec!["s1:26379".to_owned(), endpoint.to_owned()],
        ..redis()
    };
    redis().validate().unwrap();
    with_endpoint("[::1]:26379").validate().unwrap();
    for (wrong, expected) in [
        (
            with_prefix("a' .. 'b"),
            "key_prefix is \"a' .. 'b\"; it may have letters",
        ),
        (with_prefix(""), "key_prefix is \"\"; it may have letters"),
        (
            with_endpoint("s2"),
            "endpoints must be a list of `host:port`",
        ),
        (
            with_endpoint("s2:0"),
            "endpoints must be a list of `host:port`",
        ),
        (
            with_endpoint(":26379"),
            "endpoints must be a list of `host:port`",
        ),
        (
            with_endpoint("u:p@s2:26379"),
            "endpoints must be a list of `host:port`",
        ),
        (
            RedisConfig::from_url("valkey://h"),
            "url must be a host name, or a URL",
        ),
        (
            RedisConfig::from_url("h:6379"),
            "url must be a host name, or a URL",
        ),
        (
            RedisConfig::from_url("redis://h:0"),
            "url is a URL that has the port 0",
        ),
        (
            RedisConfig { port: 0, ..redis() },
            "port is 0; it must be a whole number from 1 to 65535",
        ),
        (
            RedisConfig {
                connections: 0,
                ..redis()
            },
            "connections is 0; it must be a whole number from 1 to 64",
        ),
        (
            RedisConfig {
                connections: 65,
                ..redis()
            },
            "connections is 65; it must be",
        ),
        (
            RedisConfig {
                replicas: 101,
                ..redis()
            },
            "replicas is 101; it must be a whole number from 0 to 100",
        ),
        (
            RedisConfig {
                socket_timeout: Duration::ZERO,
                ..redis()
            },
            "socket_timeout is 0; it must be a number of seconds from 0.01 to 3600",
        ),
    ] {
        let text = refused(wrong.validate());
        assert!(
            text.contains(&format!("configuration error: {expected}")),
            "{text}"
        );
        let config = LockStoreConfig {
            redis: wrong,
            ..LockStoreConfig::default()
        };
        assert_eq!(refused(config.validate()), text);
    }
    // Which leaves out those that Rasa does.
    let rasas = RedisConfig {
        layout: Layout::Rasa,
        ..with_prefix("a' .. 'b")
    };
    rasas.validate().unwrap();
}

#[test]
fn times_and_a_name_made_in_code_are_checked() {
    let config = |timing| LockStoreConfig {
        timing,
        ..LockStoreConfig::default()
    };
    for (timing, expected) in [
        (
            Timing {
                lock_lifetime: Duration::ZERO,
                ..Timing::default()
            },
            "lock_lifetime is 0;",
        ),
        (
            Timing {
                wait_time: Duration::MAX,
                ..Timing::default()
            },
            "wait_time is ",
        ),
        (
            Timing {
                claim_window: Duration::ZERO,
                ..Timing::default()
            },
            "claim_window is 0;",
        ),
        (
            Timing {
                max_hold: Some(Duration::ZERO),
                ..Timing::default()
            },
            "max_hold is 0; it must be a number of seconds from 0.001 to 2592000",
        ),
    ] {
        let text = refused(config(timing.clone()).validate());
        assert!(text.contains(expected), "{text}");
        assert_eq!(refused(timing.check()), text);
    }
    // In code this is to wait without limit.
    let timing = Timing {
        wait_timeout: Some(Duration::MAX),
        ..Timing::default()
    };
    config(timing).validate().unwrap();
    for name in ["", "a b", "a\n", "ä", &"x".repeat(65)] {
        let config = LockStoreConfig {
            client_name: Some(name.to_owned()),
            ..LockStoreConfig::default()
        };
        let text = refused(config.validate());
        assert!(text.contains("client_name is "), "{text}");
    }
}

#[test]
fn options_of_a_program_are_named_as_they_are() {
    let refused = |reader: ConfigReader| refused(reader.read_in(&environment(&[])));
    let text = refused(ConfigReader::new().option("key_prefx", "a"));
    assert_eq!(
        text,
        "configuration error: key_prefx is not a key; did you mean `key_prefix`?"
    );
    let text = refused(ConfigReader::new().option("port", "abc"));
    assert!(
        text.contains("error: port is \"abc\"; it must be a whole"),
        "{text}"
    );
    let text = refused(ConfigReader::new().option("url", "a").option("host", "b"));
    assert!(text.contains("error: host and url say the same"), "{text}");
    let text = refused(ConfigReader::new().option_named("--redis", "url", "redis://h:x"));
    assert!(
        text.contains("error: --redis is a URL that cannot be read"),
        "{text}"
    );
    let text = refused(ConfigReader::new().block("port", 0));
    assert!(
        text.contains("endpoints.yml: lock_store.port is 0; it must"),
        "{text}"
    );
}
