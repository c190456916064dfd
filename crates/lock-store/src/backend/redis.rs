//! The storage of a fleet: Redis, standalone, with Sentinel, or a cluster.
//!
//! A step goes this way: [`tickets`] ask the [`sender`], which finds the
//! [connection] of the conversation ([`routing`]), sends the [script](scripts),
//! alone or [with others](gather), and sends it again if need be; issues keep
//! their [order]. The rules of a queue stand in `lua/`. Calls to the next owner
//! come back over the [`subscriber`].

mod admin;
mod backoff;
mod connect;
mod connection;
mod element;
mod errors;
mod followed;
mod gather;
mod home;
mod indeterminate;
mod keys;
mod layout_rasa;
mod order;
mod replicas;
mod replies;
mod routing;
mod scripts;
mod sender;
mod subscriber;
mod tickets;

use std::fmt;
use std::sync::{Arc, Weak};

#[cfg(feature = "diagnose")]
pub use self::admin::diagnose;
pub use self::admin::{Inspection, LockSummary, ServerInfo, Survey};
use self::connect::{Connector, Topology, within};
use self::connection::{Connection, Live};
use self::errors::ConnectError;
use self::home::Home;
use self::keys::Keys;
use self::order::Order;
use self::replicas::Replicas;
use self::routing::Route;
use self::scripts::{Action, Scripts, Times};
use self::sender::{Steps, link_for};
use self::subscriber::Subscriber;
use self::tickets::Core;
use super::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, Issue, Issued, Listener, Step,
};
use tokio::runtime::Handle;

use crate::config::RedisConfig;
use crate::error::LockError;
use crate::identity::{ClientId, ConversationId};
use crate::ticket::TicketLock;
use crate::time::Timestamp;

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
        let store = Self::begin(config, None)?;
        store.first_outcome().await?;
        Ok(store)
    }

    /// Begins to connect under this name, without waiting for it. Needs a
    /// runtime.
    pub(crate) fn begin(config: &RedisConfig, name: Option<&str>) -> Result<Self, LockError> {
        config.validate()?;
        let connector = Arc::new(Connector::new(config, name)?);
        let is_cluster = matches!(connector.topology, Topology::Cluster(_));
        let keys = Keys::of(config);
        let publish = if is_cluster { "SPUBLISH" } else { "PUBLISH" };
        let scripts = Arc::new(Scripts::new(config, &keys, publish));
        let runtime = Handle::try_current()
            .map_err(|_| LockError::config("a store on Redis has to be made in a tokio runtime"))?;
        let connections = config.connections.max(1);
        let route = Route::new(&connector, &scripts, connections, &runtime);
        let steps = Arc::new(Steps {
            keys,
            scripts,
            connector,
            route,
            order: Order::default(),
            indeterminate: Arc::default(),
            home: Home::new(runtime),
        });
        let subscriber = Subscriber::new(&steps);
        let core = Arc::new(Core {
            steps,
            subscriber,
            replicas: Replicas::new(config.replicas),
        });
        let weak = Arc::downgrade(&core);
        let see_after = move |id, owner| tickets::on_unknown_turn(&weak, id, owner);
        let subscriber = Arc::downgrade(&core.subscriber);
        core.steps.home.on_end(move || {
            if let Some(subscriber) = subscriber.upgrade() {
                subscriber.has_ended();
            }
        });
        core.subscriber.see_after_unknown_turns(Box::new(see_after));
        Ok(Self { core })
    }

    /// Waits for the first connection, or for the first reason why there is
    /// none.
    pub(crate) async fn first_outcome(&self) -> Result<(), LockError> {
        let steps = &self.core.steps;
        let outcome = async {
            let links = steps.route.first_outcome().await?;
            let live = links.iter().find_map(Connection::live);
            self.check(live.ok_or_else(ConnectError::nobody_to_ask)?)
                .await
        };
        // A lookup and a greeting, for each of several servers.
        let limit = 3 * steps.timeout();
        match tokio::time::timeout(limit, outcome).await {
            Ok(outcome) => outcome.map_err(ConnectError::into_error),
            Err(_) => Err(LockError::unavailable("no answer from Redis in time")),
        }
    }

    /// Whether the user may do everything.
    async fn check(&self, mut live: Live) -> Result<(), ConnectError> {
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
                redis::from_redis_value(steps.scripts.answer(&Action::Get, &id, answer))?;
            Ok(refusal)
        });
        match refusal {
            Ok(refusal) => {
                if refusal.is_empty() {
                    return self.check_by_hash(&id, &mut live).await;
                }
                Err(ConnectError::lasting(format!(
                    "Redis does not let this user do what is needed: {refusal}; docs/REDIS.md has \
                     the rights that it needs"
                )))
            }
            Err(error) if error.is_cluster_error() => Ok(()),
            Err(error) => Err(ConnectError::connecting(
                &steps.connector.any_node(),
                false,
                &error,
            )),
        }
    }

    /// Whether a script may be called as steps call it.
    async fn check_by_hash(
        &self,
        id: &ConversationId,
        live: &mut Live,
    ) -> Result<(), ConnectError> {
        let steps = &self.core.steps;
        let delete = steps
            .scripts
            .command(&Action::Delete, id, false, &Times::NONE);
        let answer = within(steps.timeout(), delete.query_async(&mut live.connection)).await;
        let answer: redis::RedisResult<redis::Value> = answer;
        match answer {
            Err(error) if ConnectError::is_refusal(&error) => {
                let node = steps.connector.any_node();
                Err(ConnectError::connecting(&node, false, &error))
            }
            // Whatever else may be is found out by the first step.
            _ => Ok(()),
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        let servers = self.core.steps.route.all_links();
        let mut all = servers.iter().flat_map(|links| links.iter());
        all.any(Connection::is_live)
    }

    /// The clock of the server that has the conversation, as far as is known.
    pub(crate) fn server_time(&self, id: &ConversationId) -> Timestamp {
        let links = self.core.steps.route.links_for(id);
        let unknown = Timestamp::default();
        links.map_or(unknown, |links| link_for(&links, id).server_time())
    }
}

impl Drop for RedisLockStore {
    fn drop(&mut self) {
        self.core.subscriber.stop();
    }
}

impl fmt::Debug for RedisLockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLockStore")
            .field("topology", &self.core.steps.connector.topology)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Backend for RedisLockStore {
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        let (core, id, issue) = (self.core.clone(), id.clone(), issue.clone());
        Step::timely(core.issue(id, issue))
    }

    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let (core, id, claim) = (self.core.clone(), id.clone(), claim.clone());
        Step::pending(async move { core.claim(&id, claim).await })
    }

    fn advance(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let (core, id, claim) = (self.core.clone(), id.clone(), claim.clone());
        Step::pending(async move { core.advance(&id, claim).await })
    }

    /// Not where replicas have to acknowledge who is served, and not beside
    /// instances of Rasa, which do not know of it.
    fn hands_over(&self) -> bool {
        self.core.replicas.is_none() && self.core.steps.scripts.are_lists()
    }

    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished> {
        let (core, id, finish) = (self.core.clone(), id.clone(), finish.clone());
        Step::pending(core.finish(id, finish))
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
        admin::list(self.core.steps.clone())
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        self.core.subscriber.listen(client, &listener);
    }
}
