//! The storage of a fleet: Redis, standalone, with Sentinel, or a cluster.
//!
//! A step goes this way: [`tickets`] ask [`steps`], which find the connection of
//! the conversation ([`route`], [`link`]), send the [script](scripts), and send
//! it again if need be. The rules of a queue stand in `lua/`. Calls to the next
//! owner come back over [`wakeups`].

mod address;
mod alone;
mod connect;
#[cfg(feature = "diagnose")]
pub mod diagnose;
mod doubts;
mod element;
mod inspect;
mod keys;
mod link;
mod listing;
mod pauses;
mod replicas;
mod route;
mod scripts;
mod servers;
mod steps;
mod tickets;
mod trouble;
mod wakeups;

use std::fmt;
use std::sync::{Arc, Weak};

use self::connect::{Connector, Place, within};
use self::doubts::Doubts;
pub use self::inspect::{Inspection, LockSummary, Survey};
use self::keys::Keys;
use self::link::{Link, Live};
use self::replicas::Replicas;
use self::route::Route;
use self::scripts::{Ask, Scripts, Times};
pub use self::servers::ServerInfo;
use self::steps::Steps;
use self::tickets::Core;
use self::trouble::Trouble;
use self::wakeups::Wakeups;
use super::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, Issue, Issued, Listener, Step,
};
use crate::config::RedisConfig;
use crate::error::LockError;
use crate::identity::{ClientId, ConversationId};
use crate::ticket::TicketLock;

/// Locks in Redis.
///
/// Several [`LockStore`](crate::LockStore)s may share one through an `Arc`,
/// and then share its connections.
///
/// ```no_run
/// use lock_store::{LockStore, RedisConfig, RedisLockStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lock_store::LockError> {
/// let config = RedisConfig::from_url("redis://localhost:6379/1");
/// let store = LockStore::new(RedisLockStore::connect(&config).await?);
/// let guard = store.lock("conversation-42").await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisLockStore {
    core: Arc<Core>,
}

impl RedisLockStore {
    /// Connects, and sees whether this user may do what is needed. From then
    /// on lost connections are opened again without end.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config) when a human has to mend
    /// something: a wrong password or database, a missing right, a certificate
    /// that is not trusted, a server that is no Redis.
    /// [`Unavailable`](crate::LockErrorKind::Unavailable) when it may help to
    /// try again.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connections are closed.
    pub async fn connect(config: &RedisConfig) -> Result<Self, LockError> {
        let store = Self::begin(config)?;
        store.first_outcome().await?;
        Ok(store)
    }

    /// Begins to connect, without waiting for it. Needs a runtime.
    pub(crate) fn begin(config: &RedisConfig) -> Result<Self, LockError> {
        let connector = Arc::new(Connector::new(config)?);
        let is_cluster = matches!(connector.place, Place::Cluster(_));
        let keys = Keys::of(config);
        let publish = if is_cluster { "SPUBLISH" } else { "PUBLISH" };
        let scripts = Arc::new(Scripts::new(config, &keys, publish));
        let route = Route::new(&connector, &scripts, config.connections.max(1));
        let steps = Arc::new(Steps {
            keys,
            scripts,
            connector,
            route,
        });
        let wakeups = Wakeups::new(&steps);
        let core = Arc::new(Core {
            steps,
            wakeups,
            doubts: Doubts::default(),
            replicas: Replicas::new(config.replicas),
        });
        let weak = Arc::downgrade(&core);
        let give_back = move |id, owner| tickets::give_back(&weak, id, owner);
        core.wakeups.give_back_with(Box::new(give_back));
        Ok(Self { core })
    }

    /// Waits for the first connection, or for the first reason why there is
    /// none.
    pub(crate) async fn first_outcome(&self) -> Result<(), LockError> {
        let steps = &self.core.steps;
        let outcome = async {
            let links = steps.route.first_outcome().await?;
            self.check(&links[0]).await
        };
        // A lookup and a greeting, for each of several servers.
        let limit = 3 * steps.timeout();
        match tokio::time::timeout(limit, outcome).await {
            Ok(outcome) => outcome.map_err(Trouble::into_error),
            Err(_) => Err(LockError::unavailable("no answer from Redis in time")),
        }
    }

    /// Whether the user may do everything.
    async fn check(&self, link: &Link) -> Result<(), Trouble> {
        let Some(mut live) = link.live() else {
            return Err(Trouble::nobody_to_ask());
        };
        let steps = &self.core.steps;
        let client = ClientId::random();
        let Ok(id) = ConversationId::new(format!("check-{client}")) else {
            return Ok(());
        };
        // In a cluster any node can say what it allows; a key that is not its
        // own it passes on, and that is an answer, too.
        let (key, channel) = (steps.keys.queue(&id), steps.keys.channel_for(&id, client));
        let check = steps.scripts.check(&key, &channel);
        let answer = within(steps.timeout(), check.query_async(&mut live.connection)).await;
        let refusal = answer.and_then(|answer| {
            let refusal: String =
                redis::from_redis_value(steps.scripts.answer(&Ask::Get, &key, answer))?;
            Ok(refusal)
        });
        match refusal {
            Ok(refusal) => {
                if refusal.is_empty() {
                    return self.check_by_hash(&key, &mut live).await;
                }
                Err(Trouble::lasting(format!(
                    "Redis does not let this user do what is needed: {refusal}; docs/REDIS.md has \
                     the rights that it needs"
                )))
            }
            Err(error) if error.is_cluster_error() => Ok(()),
            Err(error) => Err(Trouble::connecting(
                &steps.connector.any_node(),
                false,
                &error,
            )),
        }
    }

    /// Whether a script may be called as steps call it.
    async fn check_by_hash(&self, key: &str, live: &mut Live) -> Result<(), Trouble> {
        let steps = &self.core.steps;
        let delete = steps
            .scripts
            .command(&Ask::Delete, key, false, &Times::NONE);
        let answer = within(steps.timeout(), delete.query_async(&mut live.connection)).await;
        let answer: redis::RedisResult<redis::Value> = answer;
        match answer {
            Err(error) if error.to_string().contains("no permissions") => {
                let node = steps.connector.any_node();
                Err(Trouble::connecting(&node, false, &error))
            }
            // Whatever else may be is found out by the first step.
            _ => Ok(()),
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        let links = self.core.steps.route.all_links();
        links.iter().any(|links| links[0].live().is_some())
    }
}

impl Drop for RedisLockStore {
    fn drop(&mut self) {
        self.core.wakeups.stop();
    }
}

impl fmt::Debug for RedisLockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLockStore")
            .field("place", &self.core.steps.connector.place)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Backend for RedisLockStore {
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        let (core, id, issue) = (self.core.clone(), id.clone(), issue.clone());
        Step::pending(async move { core.issue(&id, issue).await })
    }

    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let (core, id, claim) = (self.core.clone(), id.clone(), claim.clone());
        Step::pending(async move { core.claim(&id, claim).await })
    }

    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished> {
        let (core, id, finish) = (self.core.clone(), id.clone(), finish.clone());
        Step::pending(async move { core.finish(&id, finish).await })
    }

    fn get(&self, id: &ConversationId) -> Step<Option<TicketLock>> {
        let (core, id) = (self.core.clone(), id.clone());
        Step::pending(async move { core.get(&id).await })
    }

    fn put(&self, lock: TicketLock) -> Step<()> {
        let core = self.core.clone();
        Step::pending(async move { core.put(&lock).await })
    }

    fn delete(&self, id: &ConversationId) -> Step<bool> {
        let (core, id) = (self.core.clone(), id.clone());
        Step::pending(async move { core.delete(&id).await })
    }

    fn list(&self) -> Conversations {
        listing::list(self.core.steps.clone())
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        self.core.wakeups.listen(client, &listener);
    }
}
