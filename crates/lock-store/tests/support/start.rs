//! Starting a store on a Redis with which something is wrong, and what is then
//! told.

use lock_store::{Fallback, LockError, LockErrorKind, LockStore, RedisConfig, Timing};
use redis_fixture::FOR_EVER;
use secrecy::SecretString;

use super::redis::config;

pub const PASSWORD: &str = "swordfish";
pub const WRONG_PASSWORD: &str = "stickleback";
pub const USER: &str = "captain-nemo";

/// Where nobody listens. A port that was free a moment ago may be taken by
/// another test; this one is reserved.
pub const NOBODY: &str = "127.0.0.1:1";

pub async fn create(redis: &RedisConfig, fallback: Fallback) -> Result<LockStore, LockError> {
    let redis = RedisConfig {
        fallback,
        ..redis.clone()
    };
    let config = config(redis, Timing::default());
    let created = LockStore::create(&config);
    tokio::time::timeout(FOR_EVER, created).await.unwrap()
}

#[track_caller]
pub fn check_text(error: &LockError, words: &[&str]) {
    let shown = format!("{error} {error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
    for secret in [PASSWORD, WRONG_PASSWORD, USER] {
        assert!(!shown.contains(secret), "{secret:?} is in: {shown}");
    }
}

/// A human has to mend it, with or without a fallback.
pub async fn is_lasting(redis: &RedisConfig, words: &[&str]) {
    for fallback in [Fallback::None, Fallback::InMemory] {
        let error = create(redis, fallback).await.unwrap_err();
        check_text(&error, words);
        assert_eq!(error.kind(), LockErrorKind::Config, "{error}");
        assert!(!error.is_retryable());
    }
}

/// It may pass: unavailable, or for the time being in memory.
pub async fn is_passing(redis: &RedisConfig, words: &[&str]) {
    let error = create(redis, Fallback::None).await.unwrap_err();
    check_text(&error, words);
    assert_eq!(error.kind(), LockErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
    let store = create(redis, Fallback::InMemory).await.unwrap();
    assert!(store.is_degraded());
    store.lock("a").await.unwrap().release().await.unwrap();
}

pub async fn is_fine(redis: &RedisConfig) {
    let store = create(redis, Fallback::None).await.unwrap();
    assert!(!store.is_degraded());
    store.lock("a").await.unwrap().release().await.unwrap();
}

pub fn with_password(redis: RedisConfig, password: &str) -> RedisConfig {
    RedisConfig {
        password: Some(SecretString::from(password)),
        ..redis
    }
}

/// Whether the text of an error has this number, as a word.
pub fn says_number(error: &LockError, number: usize) -> bool {
    let text = error.to_string();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    numbers.any(|found| found == number.to_string())
}
