//! The storage of a fleet: Redis, standalone, with Sentinel, or a cluster.
//!
//! A step goes this way: [`Steps::run`](steps) finds the connection of its
//! conversation ([`route`], [`link`]), sends its [script](scripts), and sends it
//! again if need be. The rules of a queue stand in `lua/`. Calls to the next
//! owner come back over [`wakeups`].

mod connect;
mod doubts;
mod element;
mod keys;
mod link;
mod replicas;
mod route;
mod scripts;
mod steps;
mod trouble;
mod wakeups;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::stream;
use redis::Value;
use tokio::time::Instant;

use self::connect::{Connector, Place, within};
use self::doubts::Doubts;
use self::keys::Keys;
use self::link::Link;
use self::replicas::Replicas;
use self::route::Route;
use self::scripts::{Answer, Ask, Scripts};
use self::steps::Steps;
use self::trouble::{Trouble, plain};
use self::wakeups::Wakeups;
use super::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, Issue, Issued, Listener, Step,
    TicketName,
};
use crate::config::{DEFAULT_CLAIM_WINDOW, RedisConfig};
use crate::error::LockError;
use crate::identity::{ClientId, ConversationId, Owner};
use crate::telemetry;
use crate::ticket::{Changes, TicketLock};

/// Ids that one `SCAN` looks at: a step of far below a millisecond.
const SCAN_COUNT: usize = 500;

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

struct Core {
    steps: Arc<Steps>,
    wakeups: Arc<Wakeups>,
    doubts: Doubts,
    replicas: Option<Replicas>,
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
        let keys = Keys::new(config.key_prefix.as_deref(), is_cluster);
        let publish = if is_cluster { "SPUBLISH" } else { "PUBLISH" };
        let scripts = Arc::new(Scripts::new(&keys, publish));
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
        core.wakeups
            .give_back_with(Box::new(move |id, owner| give_back(&weak, id, owner)));
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
        match answer {
            Ok(refusal) => {
                let refusal: String = refusal;
                if refusal.is_empty() {
                    return Ok(());
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

    /// Whether there is a connection.
    pub(crate) fn is_connected(&self) -> bool {
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
        list(self.core.clone())
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        self.core.wakeups.listen(client, &listener);
    }
}

impl Core {
    async fn issue(
        self: Arc<Self>,
        id: &ConversationId,
        issue: Issue,
    ) -> Result<Issued, LockError> {
        let asked = Instant::from_std(issue.asked);
        let timeout = self.steps.timeout();
        // Whoever does not queue does not wait, either.
        let patience = match issue.wait_timeout {
            Duration::ZERO => timeout,
            wait if issue.queue => wait,
            wait => wait.min(timeout),
        };
        let limit = asked + patience;
        let mut watch = self.doubts.watch(issue.owner);
        let ask = Ask::Issue(issue);
        let done = self
            .steps
            .run(id, &ask, limit, |generation, until| {
                watch.asked(generation, until);
            })
            .await?;
        watch.answered();
        let answer = scripts::read_issue(done.reply).ok_or_else(|| strange_reply(id))?;
        let Ask::Issue(issue) = ask else {
            return Ok(answer.of);
        };
        let issued = told(id, answer);
        let Some(owner) = issue.owner else {
            return Ok(issued);
        };
        let claim = |number| Claim {
            owner,
            number: Some(number),
            lifetime: issue.lifetime,
            claim_window: issue.claim_window,
            asked: issue.asked,
        };
        match issued {
            Issued::Served { number, .. } => {
                if let Err(error) = self.replicated(id, claim(number)).await {
                    self.clone().leave(id, owner, issue.claim_window).await;
                    return Err(error);
                }
            }
            Issued::Waiting {
                number,
                fencing_token,
                ..
            } => {
                let heard_by = limit.min(Instant::now() + timeout);
                if self.wakeups.hear(id, heard_by).await {
                    // Its turn may have come before its call could be heard.
                    let claimed = self.claim(id, claim(number)).await?;
                    return Ok(as_issued(claimed, number, fencing_token));
                }
            }
            Issued::Taken => {}
        }
        Ok(issued)
    }

    async fn claim(&self, id: &ConversationId, claim: Claim) -> Result<Claimed, LockError> {
        let limit = Instant::now() + self.steps.timeout().min(claim.lifetime);
        let ask = Ask::Claim(claim);
        let done = self.steps.run(id, &ask, limit, |_, _| ()).await?;
        let answer = scripts::read_claim(done.reply).ok_or_else(|| strange_reply(id))?;
        let claimed = told(id, answer);
        if let (Claimed::Served { .. }, Ask::Claim(claim)) = (claimed, ask) {
            self.replicated(id, claim).await?;
        }
        Ok(claimed)
    }

    /// An acquisition counts when enough replicas have it.
    async fn replicated(&self, id: &ConversationId, claim: Claim) -> Result<(), LockError> {
        match &self.replicas {
            Some(replicas) => replicas.have(&self.steps, id, claim).await,
            None => Ok(()),
        }
    }

    /// Gives a ticket back that does not count.
    async fn leave(self: Arc<Self>, id: &ConversationId, owner: Owner, claim_window: Duration) {
        let finish = Finish {
            ticket: TicketName::Owner(owner),
            number: None,
            claim_window,
            patience: None,
        };
        if let Err(error) = self.finish(id, finish).await {
            telemetry::release_failed(id, &error);
        }
    }

    async fn finish(&self, id: &ConversationId, finish: Finish) -> Result<Finished, LockError> {
        let patience = finish.patience.unwrap_or(self.steps.timeout());
        let limit = Instant::now() + patience;
        let doubt = match finish.ticket {
            TicketName::Owner(owner) => self.doubts.take(owner),
            TicketName::Number(_) | TicketName::Nobodys => None,
        };
        let ask = Ask::Finish(finish);
        let (mut finished, generation) = self.finish_once(id, &ask, limit).await?;
        if let Some(doubt) = doubt.filter(|doubt| doubt.generation != generation)
            && (!finished.found || finished.in_doubt)
        {
            tokio::time::sleep_until(doubt.until).await;
            let limit = Instant::now() + patience;
            (finished, _) = self.finish_once(id, &ask, limit).await?;
        }
        Ok(finished)
    }

    async fn finish_once(
        &self,
        id: &ConversationId,
        ask: &Ask,
        limit: Instant,
    ) -> Result<(Finished, u64), LockError> {
        let done = self.steps.run(id, ask, limit, |_, _| ()).await?;
        let answer = scripts::read_finish(done.reply).ok_or_else(|| strange_reply(id))?;
        let (mut finished, is_empty) = told(id, answer);
        if is_empty && finished.found {
            telemetry::deleted(id);
        }
        if done.repeated && !finished.found {
            (finished.found, finished.in_doubt) = (true, true);
        }
        Ok((finished, done.generation))
    }

    async fn get(&self, id: &ConversationId) -> Result<Option<TicketLock>, LockError> {
        let limit = Instant::now() + self.steps.timeout();
        let done = self.steps.run(id, &Ask::Get, limit, |_, _| ()).await?;
        let elements: Vec<Vec<u8>> =
            redis::from_redis_value(done.reply).map_err(|_| strange_reply(id))?;
        if elements.is_empty() {
            return Ok(None);
        }
        let key = self.steps.keys.queue(id);
        element::read_queue(id, &key, &elements).map(Some)
    }

    async fn put(&self, lock: &TicketLock) -> Result<(), LockError> {
        let id = lock.conversation_id();
        let limit = Instant::now() + self.steps.timeout();
        let ask = Ask::Put {
            claim_window: DEFAULT_CLAIM_WINDOW,
            elements: lock.tickets().map(element::write).collect(),
        };
        let done = self.steps.run(id, &ask, limit, |_, _| ()).await?;
        let changes = scripts::read_put(done.reply).ok_or_else(|| strange_reply(id))?;
        told(id, Answer { of: (), changes });
        Ok(())
    }

    async fn delete(&self, id: &ConversationId) -> Result<bool, LockError> {
        let limit = Instant::now() + self.steps.timeout();
        let done = self.steps.run(id, &Ask::Delete, limit, |_, _| ()).await?;
        let found = matches!(done.reply, Value::Int(1));
        if found {
            telemetry::deleted(id);
        }
        Ok(found || done.repeated)
    }
}

/// Reports what a step did to others.
fn told<T>(id: &ConversationId, answer: Answer<T>) -> T {
    let Answer { of, changes } = answer;
    let Changes {
        expired, abandoned, ..
    } = &changes;
    if !expired.is_empty() || !abandoned.is_empty() {
        telemetry::expired(id, &changes);
    }
    of
}

fn strange_reply(id: &ConversationId) -> LockError {
    LockError::unavailable("Redis answered a script of ours with something else")
        .for_conversation(id)
}

fn as_issued(claimed: Claimed, number: u64, fencing_token: crate::FencingToken) -> Issued {
    match claimed {
        Claimed::Served {
            number,
            fencing_token,
        } => Issued::Served {
            number,
            fencing_token,
        },
        Claimed::Waiting { ahead, look_again } => Issued::Waiting {
            number,
            fencing_token,
            ahead,
            look_again,
        },
        // It went while we subscribed: looking finds that out at once.
        Claimed::Gone => Issued::Waiting {
            number,
            fencing_token,
            ahead: 0,
            look_again: Duration::ZERO,
        },
    }
}

/// A call for a ticket that nobody here waits for: its request was given up,
/// and done all the same.
fn give_back(core: &Weak<Core>, id: ConversationId, owner: Owner) {
    if let Some(core) = core.upgrade() {
        tokio::spawn(async move { core.leave(&id, owner, DEFAULT_CLAIM_WINDOW).await });
    }
}

/// Goes through the keys of each server in steps that block nobody.
fn list(core: Arc<Core>) -> Conversations {
    struct Listing {
        core: Arc<Core>,
        servers: Vec<route::Links>,
        cursor: u64,
        seen: HashSet<ConversationId>,
        found: Vec<ConversationId>,
        is_over: bool,
    }
    let servers = core.steps.route.all_links();
    let listing = Listing {
        core,
        servers,
        cursor: 0,
        seen: HashSet::new(),
        found: Vec::new(),
        is_over: false,
    };
    Box::pin(stream::unfold(listing, async |mut listing| {
        loop {
            if let Some(id) = listing.found.pop() {
                return Some((Ok(id), listing));
            }
            if listing.is_over {
                return None;
            }
            let links = listing.servers.last()?;
            match scan(&listing.core.steps, &links[0], listing.cursor).await {
                Ok((cursor, keys)) => {
                    for key in keys {
                        let id = listing.core.steps.keys.conversation(&key);
                        // A key may come twice.
                        if let Some(id) = id.filter(|id| listing.seen.insert(id.clone())) {
                            listing.found.push(id);
                        }
                    }
                    listing.cursor = cursor;
                    if cursor == 0 {
                        listing.servers.pop();
                    }
                }
                Err(error) => {
                    listing.is_over = true;
                    return Some((Err(error), listing));
                }
            }
        }
    }))
}

async fn scan(steps: &Steps, link: &Link, cursor: u64) -> Result<(u64, Vec<String>), LockError> {
    let timeout = steps.timeout();
    let Ok(mut live) = tokio::time::timeout(timeout, link.connected()).await else {
        let trouble = link.trouble().unwrap_or_else(Trouble::nobody_to_ask);
        return Err(LockError::unavailable(trouble.text));
    };
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor)
        .arg("MATCH")
        .arg(steps.keys.pattern())
        .arg("COUNT")
        .arg(SCAN_COUNT);
    let found = within(timeout, scan.query_async(&mut live.connection)).await;
    let (cursor, keys): (u64, Vec<Vec<u8>>) =
        found.map_err(|error| LockError::unavailable(plain(&error)))?;
    // What is not UTF-8 is not one of our keys.
    let keys = keys
        .into_iter()
        .filter_map(|key| String::from_utf8(key).ok());
    Ok((cursor, keys.collect()))
}
