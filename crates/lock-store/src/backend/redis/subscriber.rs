//! Wake-ups: one channel per store, on connections of their own, which do
//! nothing but listen.
//!
//! A [subscription](listening) is such a connection to one server. On a standalone server
//! and with Sentinel there is one. In a cluster a call comes from the node
//! that has the conversation, on a channel in the same slot; so there is an
//! subscription at every node on which this process waits, and channels are subscribed
//! to when they are first waited on.

mod listening;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connect::Node;
use super::element::micros;
use super::followed::Followed;
use super::keys::Tag;
use super::routing::{Cluster, Links, Route};
use super::sender::Steps;
use crate::backend::{Listener, WakeUp};
use crate::identity::{ClientId, ConversationId, Owner};
use crate::sync::Mutex;
use crate::telemetry;

/// A connection that is not answered for so long gets no calls, either.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// Sees after a ticket that was called and has no waiter here.
pub(super) type OnUnknownTurn = Box<dyn Fn(ConversationId, Owner) + Send + Sync>;

/// Who is called, and where calls come from.
pub(super) struct Subscriber {
    steps: Arc<Steps>,
    listeners: Mutex<Vec<(ClientId, Weak<dyn Listener>)>>,
    on_unknown_turn: OnceLock<OnUnknownTurn>,
    /// The owners of uncontended tickets that others came behind.
    pub(super) followed: Followed,
    /// The shortest claim window that there was, in µs.
    shortest_window: AtomicU64,
    state: Mutex<State>,
    /// The last heartbeat that came back.
    heartbeats: watch::Sender<u64>,
    last_heartbeat: AtomicU64,
    /// How many in a row did not.
    unheard: AtomicU64,
    /// Told when there are more channels to subscribe to.
    wanted_more: Notify,
    /// Told when a subscription was confirmed.
    confirmed: Notify,
    /// In a cluster: the task that follows it.
    follow: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct State {
    /// In a cluster: the tags in which somebody waits.
    tags: HashSet<Tag>,
    subscriptions: HashMap<Option<Node>, Subscription>,
    refusal_told: bool,
}

struct Subscription {
    task: AbortHandle,
    is_complete: bool,
    /// Whether it could not subscribe, or lost its subscription.
    is_unsubscribed: bool,
    /// Channels whose subscription is confirmed.
    channels: HashSet<String>,
}

impl State {
    fn is_subscribed(&self, channel: &str) -> bool {
        self.subscriptions
            .values()
            .any(|subscription| subscription.channels.contains(channel))
    }
}

impl Subscriber {
    /// Begins to listen. Needs a runtime.
    pub(super) fn new(steps: &Arc<Steps>) -> Arc<Self> {
        let subscriber = Arc::new(Self {
            steps: steps.clone(),
            listeners: Mutex::default(),
            on_unknown_turn: OnceLock::new(),
            followed: Followed::default(),
            shortest_window: AtomicU64::new(u64::MAX),
            state: Mutex::default(),
            heartbeats: watch::Sender::new(0),
            last_heartbeat: AtomicU64::new(0),
            unheard: AtomicU64::new(0),
            wanted_more: Notify::new(),
            confirmed: Notify::new(),
            follow: Mutex::default(),
        });
        match &steps.route {
            Route::One(_) => subscriber.add_subscription(None),
            Route::Cluster(cluster, _) => {
                let task = steps
                    .home
                    .runtime
                    .spawn(keep_subscriptions(subscriber.clone(), cluster.clone()));
                subscriber.follow.lock().replace(task.abort_handle());
            }
        }
        subscriber
    }

    pub(super) fn see_after_unknown_turns(&self, see_after: OnUnknownTurn) {
        let _ = self.on_unknown_turn.set(see_after);
    }

    /// A client that does not answer within this is taken for dead: silence
    /// must be noticed before.
    #[inline]
    pub(super) fn answer_within(&self, claim_window: Duration) {
        let window = micros(claim_window);
        if window < self.shortest_window.load(Ordering::Relaxed) {
            self.shortest_window.fetch_min(window, Ordering::Relaxed);
            self.wanted_more.notify_waiters();
        }
    }

    /// Over which connection to publish a heartbeat, and on which channel: over
    /// each in turn. `None` in a cluster, where each node has its own channels.
    fn heartbeat_over(&self, number: u64) -> Option<(Links, usize, String)> {
        let Route::One(links) = &self.steps.route else {
            return None;
        };
        let client = self.listeners.lock().first().map(|(client, _)| *client)?;
        let index = usize::try_from(number).unwrap_or(0) % links.len();
        Some((links.clone(), index, self.steps.keys.channel(client)))
    }

    fn next_heartbeat(&self) -> u64 {
        self.last_heartbeat.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes whether a heartbeat came back; says whether two in a row did not.
    fn is_heard(&self, is_heard: bool) -> bool {
        if is_heard {
            self.unheard.store(0, Ordering::Relaxed);
            return false;
        }
        self.unheard.fetch_add(1, Ordering::Relaxed) >= 1
    }

    /// How often to see whether a listening connection is alive.
    fn ping_every(&self) -> Duration {
        let window = Duration::from_micros(self.shortest_window.load(Ordering::Relaxed));
        (window / 4).clamp(PING_AT_MOST_EVERY, PING_EVERY)
    }

    pub(super) fn listen(&self, client: ClientId, listener: &Weak<dyn Listener>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|(_, listener)| listener.strong_count() > 0);
        listeners.push((client, listener.clone()));
        drop(listeners);
        let is_unsubscribed = |subscription: &Subscription| !subscription.is_complete;
        let unsubscribed = self
            .state
            .lock()
            .subscriptions
            .values()
            .any(is_unsubscribed);
        if (unsubscribed || self.has_unsubscribed_instances())
            && let Some(listener) = listener.upgrade()
        {
            listener.wake_up(WakeUp::Suspended);
        }
        self.wanted_more.notify_waiters();
    }

    /// Sees to it that calls for this conversation are heard before long: a
    /// holder is told when its ticket is taken away.
    pub(super) fn subscribe_soon(&self, id: &ConversationId) {
        if matches!(self.steps.route, Route::Cluster(..))
            && self.state.lock().tags.insert(Tag::of(id))
        {
            self.wanted_more.notify_waiters();
        }
    }

    /// Sees to it that calls for this conversation are heard. Says whether
    /// they may have been missed before.
    pub(super) async fn subscribed(&self, id: &ConversationId, limit: Instant) -> bool {
        if matches!(self.steps.route, Route::One(_)) {
            return false;
        }
        let tag = Tag::of(id);
        let channels = self.channels_of(tag);
        let are_subscribed = || {
            let state = self.state.lock();
            channels.iter().all(|channel| state.is_subscribed(channel))
        };
        if self.state.lock().tags.insert(tag) {
            self.wanted_more.notify_waiters();
        } else if are_subscribed() {
            return false;
        }
        loop {
            let confirmed = self.confirmed.notified();
            tokio::pin!(confirmed);
            confirmed.as_mut().enable();
            // An unsubscribed process checks by itself.
            let is_unsubscribed = self
                .state
                .lock()
                .subscriptions
                .values()
                .any(|subscription| subscription.is_unsubscribed);
            if is_unsubscribed || are_subscribed() {
                return true;
            }
            tokio::select! {
                () = confirmed => {}
                // The timers find out.
                () = tokio::time::sleep_until(limit) => return true,
            }
        }
    }

    /// The channels to subscribe to at a server.
    fn wanted(&self, node: Option<&Node>) -> Vec<String> {
        match &self.steps.route {
            Route::One(_) => {
                let listeners = self.listeners.lock();
                let channel = |(client, _): &(ClientId, _)| self.steps.keys.channel(*client);
                listeners.iter().map(channel).collect()
            }
            Route::Cluster(cluster, _) => {
                let tags: Vec<_> = self.state.lock().tags.iter().copied().collect();
                let here = |tag: &Tag| cluster.node_of_slot(tag.slot()).as_ref() == node;
                let tags = tags.into_iter().filter(here);
                tags.flat_map(|tag| self.channels_of(tag)).collect()
            }
        }
    }

    fn channels_of(&self, tag: Tag) -> Vec<String> {
        let listeners = self.listeners.lock();
        let channel = |(client, _): &(ClientId, _)| self.steps.keys.sharded_channel(tag, *client);
        listeners.iter().map(channel).collect()
    }

    fn add_subscription(self: &Arc<Self>, node: Option<Node>) {
        let mut state = self.state.lock();
        state
            .subscriptions
            .entry(node)
            .or_insert_with_key(|node| Subscription {
                task: self
                    .steps
                    .home
                    .runtime
                    .spawn(listening::listen(self.clone(), node.clone()))
                    .abort_handle(),
                is_complete: false,
                is_unsubscribed: false,
                channels: HashSet::new(),
            });
    }

    /// Makes a subscription at each node where this process waits, and drops the others.
    fn add_subscriptions(self: &Arc<Self>, cluster: &Cluster) {
        let tags: Vec<_> = self.state.lock().tags.iter().copied().collect();
        let nodes: HashSet<_> = tags
            .iter()
            .filter_map(|tag| cluster.node_of_slot(tag.slot()))
            .collect();
        for node in &nodes {
            self.add_subscription(Some(node.clone()));
        }
        let mut state = self.state.lock();
        state.subscriptions.retain(|node, subscription| {
            let is_needed = node.as_ref().is_some_and(|node| nodes.contains(node));
            if !is_needed {
                subscription.task.abort();
            }
            is_needed
        });
    }

    /// The runtime of the store has ended.
    pub(super) fn has_ended(&self) {
        self.tell_all(&WakeUp::Ended);
    }

    /// Stops listening. The tasks keep this alive until then.
    pub(super) fn stop(&self) {
        if let Some(follow) = self.follow.lock().take() {
            follow.abort();
        }
        for (_, subscription) in self.state.lock().subscriptions.drain() {
            subscription.task.abort();
        }
    }

    /// A subscription gets all calls that it should, from now on.
    fn is_complete(&self, node: Option<&Node>) {
        let all = {
            let mut state = self.state.lock();
            if let Some(subscription) = state.subscriptions.get_mut(&node.cloned()) {
                (subscription.is_complete, subscription.is_unsubscribed) = (true, false);
            }
            state.refusal_told = false;
            state
                .subscriptions
                .values()
                .all(|subscription| subscription.is_complete)
        };
        if all {
            self.tell_all(&WakeUp::Resumed);
            if self.has_unsubscribed_instances() {
                self.tell_all(&WakeUp::Suspended);
            }
        }
    }

    /// In Rasa's layout there may be instances that call nobody, and make
    /// others unable to: whatever is heard, waiters look every `wait_time`, too.
    fn has_unsubscribed_instances(&self) -> bool {
        !self.steps.scripts.are_lists()
    }

    /// A subscription gets no calls.
    fn is_unsubscribed(&self, node: Option<&Node>) {
        if let Some(subscription) = self.state.lock().subscriptions.get_mut(&node.cloned()) {
            (subscription.is_complete, subscription.is_unsubscribed) = (false, true);
            subscription.channels.clear();
        }
        self.confirmed.notify_waiters();
        self.tell_all(&WakeUp::Suspended);
    }

    fn is_confirmed(&self, node: Option<&Node>, channel: &str) {
        if let Some(subscription) = self.state.lock().subscriptions.get_mut(&node.cloned()) {
            subscription.channels.insert(channel.to_owned());
        }
        self.confirmed.notify_waiters();
    }

    /// The server does not let us subscribe: said once.
    fn is_refused(&self, error: &str) {
        let told = std::mem::replace(&mut self.state.lock().refusal_told, true);
        if !told {
            telemetry::pushes_refused(error);
        }
    }

    fn tell_all(&self, event: &WakeUp) {
        let listeners = self.listeners.lock().clone();
        for listener in listeners
            .iter()
            .filter_map(|(_, listener)| listener.upgrade())
        {
            listener.wake_up(event.clone());
        }
    }

    /// Passes a call on. Runs where the connection is read, so that nothing
    /// stands between a call and its answer.
    fn on_push(&self, push: &PushInfo) {
        if !matches!(push.kind, PushKind::Message | PushKind::SMessage) {
            return;
        }
        let Some(Value::BulkString(message)) = push.data.last() else {
            return;
        };
        if let Some(beat) = message.strip_prefix(b"beat ") {
            let beat = std::str::from_utf8(beat)
                .ok()
                .and_then(|it| it.parse().ok());
            self.heartbeats.send_replace(beat.unwrap_or(0));
            return;
        }
        let Some((word, owner, conversation)) = self.read(message) else {
            telemetry::strange_call(&String::from_utf8_lossy(message));
            return;
        };
        let event = match word {
            Word::Follow => return self.followed.insert(owner),
            Word::Watch(after) => WakeUp::Watch {
                conversation: conversation.clone(),
                owner,
                after,
            },
            Word::Turn => WakeUp::Turn {
                conversation: conversation.clone(),
                owner,
            },
            Word::Gone => WakeUp::Gone {
                conversation: conversation.clone(),
                owner,
            },
        };
        let listeners = self.listeners.lock();
        let known = listeners.iter().find(|(client, _)| *client == owner.client);
        let listener = known.and_then(|(_, listener)| listener.upgrade());
        drop(listeners);
        let Some(listener) = listener else {
            return;
        };
        if !listener.wake_up(event)
            && word == Word::Turn
            && let Some(see_after) = self.on_unknown_turn.get()
        {
            see_after(conversation, owner);
        }
    }

    fn read(&self, message: &[u8]) -> Option<(Word, Owner, ConversationId)> {
        let mut words = std::str::from_utf8(message).ok()?.splitn(3, ' ');
        let word = match words.next()? {
            "turn" => Word::Turn,
            "gone" => Word::Gone,
            "follow" => Word::Follow,
            word => {
                let after = word.strip_prefix("watch-")?.parse().ok()?;
                Word::Watch(Duration::from_micros(after))
            }
        };
        let owner = words.next()?.parse().ok()?;
        let conversation = self.steps.keys.conversation(words.next()?)?;
        Some((word, owner, conversation))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Turn,
    Gone,
    Follow,
    Watch(Duration),
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Subscriber")
            .field("subscriptions", &state.subscriptions.len())
            .finish_non_exhaustive()
    }
}

/// Follows the cluster: its map, and where somebody waits.
async fn keep_subscriptions(subscriber: Arc<Subscriber>, cluster: Arc<Cluster>) {
    loop {
        let (renewed, wanted_more) = (
            cluster.renewed.notified(),
            subscriber.wanted_more.notified(),
        );
        tokio::pin!(renewed, wanted_more);
        renewed.as_mut().enable();
        wanted_more.as_mut().enable();
        subscriber.add_subscriptions(&cluster);
        tokio::select! {
            // A subscription that is there may have more to subscribe to now.
            () = renewed => subscriber.wanted_more.notify_waiters(),
            () = wanted_more => {}
        }
    }
}
