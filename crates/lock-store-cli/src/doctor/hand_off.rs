//! A whole lock: taken by one client, wanted by another, handed over, given
//! back, and nothing left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_store::{
    ConversationId, LockError, LockErrorKind, LockStore, LockStoreConfig, RedisLockStore, Timing,
};

use super::finding::Finding;
use super::settings::text;

/// The first may meet a subscription that is not there yet.
const ROUNDS: usize = 3;
/// A call comes within milliseconds; a look without one takes `wait_time`.
const SLOW: Duration = Duration::from_millis(250);

pub(super) async fn check(config: &LockStoreConfig) -> Finding {
    let limit = config.redis.socket_timeout;
    let clients = match (connect(config).await, connect(config).await) {
        (Ok(one), Ok(other)) => [one, other],
        (Err(error), _) | (_, Err(error)) => return failed(&error),
    };
    let id = match ConversationId::new(format!("doctor-{}", lock_store::ClientId::random())) {
        Ok(id) => id,
        Err(error) => return failed(&error),
    };
    // Each step has a limit of its own; this is for all.
    let whole = tokio::time::timeout(limit * 5, rounds(&clients, &id)).await;
    let times = match whole {
        Ok(Ok(times)) => times,
        other => {
            let [one, other_one] = &clients;
            // Whatever is left would go with its time to live.
            let _ = tokio::time::timeout(limit, one.store.delete_lock(&id)).await;
            for client in [one, other_one] {
                let _ = tokio::time::timeout(limit, client.store.close()).await;
            }
            return match other {
                Ok(Err(error)) => failed(&error),
                _ => Finding::failure(
                    format!("no lock could be handed over within {}", text(limit * 5)),
                    "see the checks above; is Redis overloaded?",
                ),
            };
        }
    };
    let left = clients[0].redis.inspect(&id).await;
    for client in &clients {
        if let Ok(Err(error)) = tokio::time::timeout(limit, client.store.close()).await {
            return failed(&error);
        }
    }
    match left {
        Ok(None) => judge(times.into_iter().min().unwrap_or_default()),
        Ok(Some(_)) => Finding::failure(
            format!("a lock that was given back is still there, of conversation {id:?}"),
            "does something else write under this key_prefix?",
        ),
        Err(error) => failed(&error),
    }
}

/// A client as every process has one.
struct Client {
    redis: Arc<RedisLockStore>,
    store: LockStore,
}

async fn connect(config: &LockStoreConfig) -> Result<Client, LockError> {
    let redis = Arc::new(RedisLockStore::connect(&config.redis).await?);
    let timing = Timing {
        lock_lifetime: Duration::from_secs(30),
        wait_timeout: Some(
            config
                .redis
                .socket_timeout
                .max(2 * Timing::default().wait_time),
        ),
        ..Timing::default()
    };
    let store = LockStore::with_timing(redis.clone(), timing)?;
    Ok(Client { redis, store })
}

/// How long each hand-off took.
async fn rounds(clients: &[Client; 2], id: &ConversationId) -> Result<Vec<Duration>, LockError> {
    let [one, other] = clients;
    let mut times = Vec::new();
    let mut token = None;
    for _ in 0..ROUNDS {
        let held = one.store.lock(id).await?;
        let place = other.store.take_ticket(id).await?;
        let began = Instant::now();
        let (released, next) = tokio::join!(held.release(), place.wait());
        released?;
        let next = next?;
        times.push(began.elapsed());
        if token.replace(next.fencing_token()) >= Some(next.fencing_token()) {
            let message = format!("the fencing tokens of conversation {id:?} do not rise");
            return Err(LockError::corrupt(message));
        }
        next.release().await?;
    }
    Ok(times)
}

fn judge(fastest: Duration) -> Finding {
    let message = format!(
        "a lock went from one client to another in {}",
        text(fastest)
    );
    if fastest < SLOW {
        return Finding::ok(format!("{message}, and nothing is left of it"));
    }
    Finding::warning(
        format!("{message}, as long as looking takes: the call does not arrive"),
        "may this user subscribe (see `rights`), and is the machine overloaded?",
    )
}

fn failed(error: &LockError) -> Finding {
    let text = error.to_string();
    let (message, remedy) = match text.split_once("; ") {
        Some((message, remedy)) => (message.to_owned(), remedy.to_owned()),
        None => (text, "see the checks above".to_owned()),
    };
    let remedy = match error.kind() {
        LockErrorKind::NotReplicated => "see `replicas`".to_owned(),
        _ => remedy,
    };
    Finding::failure(format!("no lock can be taken: {message}"), remedy)
}
