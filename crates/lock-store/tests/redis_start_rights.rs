//! What is wrong at the start is named: who asks, and what that user may do.

#![allow(clippy::unwrap_used)]

mod support;

use lock_store::{Fallback, Layout, LockErrorKind, RedisConfig};
use redis_fixture::Server;

use support::redis::at;
use support::start::{
    PASSWORD, USER, WRONG_PASSWORD, check_text, create, is_fine, is_lasting, with_password,
};

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

    /// The layouts, and who docs/REDIS.md says needs what for them.
    const USERS: [(Layout, &str); 2] = [(Layout::Native, "bot"), (Layout::Rasa, "rasa")];

    /// What that user needs.
    fn documented(user: &str) -> Vec<String> {
        redis_fixture::documented_rights(user)
            .split(' ')
            .map(str::to_owned)
            .collect()
    }

    /// The same, less those rules.
    fn without(rules: &[String], is_left_out: impl Fn(&str) -> bool) -> Vec<String> {
        let kept = rules.iter().filter(|rule| !is_left_out(rule));
        kept.cloned().collect()
    }

    /// A user with these rights on a server that has no other.
    fn user(server: &Server, layout: Layout, rules: &[String]) -> RedisConfig {
        let password = format!(">{PASSWORD}");
        let mut command = vec!["ACL", "SETUSER", USER, "reset", "on", &password];
        command.extend(rules.iter().map(String::as_str));
        server.command(&command).ok();
        RedisConfig {
            username: Some(USER.into()),
            layout,
            ..with_password(at(&server.url()), PASSWORD)
        }
    }

    #[tokio::test]
    async fn the_documented_ones_are_enough() {
        let server = Server::start();
        for (layout, name) in USERS {
            is_fine(&user(&server, layout, &documented(name))).await;
        }
    }

    /// Every one that a lock needs, one at a time.
    #[tokio::test]
    async fn one_command_is_missing() {
        // Anybody may say these; databases are chosen only where it is not the
        // first; without the last three locks work.
        let not_needed = ["hello", "auth", "select", "ping", "subscribe", "scan"];
        let server = Server::start();
        for (layout, name) in USERS {
            let rules = documented(name);
            let commands = rules.iter().filter_map(|rule| rule.strip_prefix('+'));
            let mut checked = 0;
            for command in commands.filter(|command| !not_needed.contains(command)) {
                let less = without(&rules, |rule| rule[1..] == *command);
                let redis = user(&server, layout, &less);
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
            let least = match layout {
                Layout::Rasa => 8,
                _ => 14,
            };
            assert!(checked >= least, "only {checked} of {name}");
        }
    }

    /// Without wake-ups it works, only slower, and says so.
    #[tokio::test]
    async fn no_subscription_is_no_reason_to_fail() {
        let server = Server::start();
        for (layout, name) in USERS {
            for missing in ["+subscribe", "+ping", "+scan"] {
                let less = without(&documented(name), |rule| rule == missing);
                is_fine(&user(&server, layout, &less)).await;
            }
        }
    }

    const NO_KEYS: [&str; 3] = [
        "does not let this user do what is needed",
        "key",
        "lock_store.key_prefix",
    ];

    #[tokio::test]
    async fn no_keys() {
        let server = Server::start();
        for (layout, name) in USERS {
            let less = without(&documented(name), |rule| rule.starts_with('~'));
            is_lasting(&user(&server, layout, &less), &NO_KEYS).await;
        }
    }

    #[tokio::test]
    async fn another_prefix_than_is_allowed() {
        let server = Server::start();
        for (layout, name) in USERS {
            let redis = RedisConfig {
                key_prefix: Some("elsewhere".into()),
                ..user(&server, layout, &documented(name))
            };
            is_lasting(&redis, &NO_KEYS).await;
        }
    }

    /// The keys of the other layout are no keys of this one.
    #[tokio::test]
    async fn the_rights_of_the_other_layout() {
        let server = Server::start();
        for ((layout, _), (_, name)) in USERS.into_iter().zip(USERS.into_iter().rev()) {
            let words = &NO_KEYS[..1];
            is_lasting(&user(&server, layout, &documented(name)), words).await;
        }
    }

    #[tokio::test]
    async fn no_channels() {
        let server = Server::start();
        for (layout, name) in USERS {
            let less = without(&documented(name), |rule| rule.starts_with('&'));
            let words = [
                "does not let this user do what is needed",
                "PUBLISH",
                "channel",
                "docs/REDIS.md",
            ];
            is_lasting(&user(&server, layout, &less), &words).await;
        }
    }
}
