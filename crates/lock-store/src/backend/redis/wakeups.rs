//! Wake-ups: one channel per store, on connections of their own, which do
//! nothing but listen.
//!
//! An [ear](ear) is such a connection to one server. On a standalone server
//! and with Sentinel there is one. In a cluster a call comes from the node
//! that has the conversation, on a channel in the same slot; so there is an
//! ear at every node on which this process waits, and channels are subscribed
//! to when they are first waited on.

mod ear;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::alone::Alone;
use super::connect::Node;
use super::element::micros;
use super::keys::Tag;
use super::route::{Cluster, Route};
use super::steps::Steps;
use crate::backend::{Listener, WakeUp};
use crate::identity::{ClientId, ConversationId, Owner};
use crate::sync::Mutex;
use crate::telemetry;

/// A connection that is not answered for so long hears nothing, either.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// Gives back a ticket that was called and that nobody here waits for.
pub(super) type GiveBack = Box<dyn Fn(ConversationId, Owner) + Send + Sync>;

/// Who is called, and where calls come from.
pub(super) struct Wakeups {
    steps: Arc<Steps>,
    listeners: Mutex<Vec<(ClientId, Weak<dyn Listener>)>>,
    give_back: OnceLock<GiveBack>,
    pub(super) alone: Alone,
    /// The shortest claim window that there was, in µs.
    shortest_window: AtomicU64,
    state: Mutex<State>,
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
    ears: HashMap<Option<Node>, Ear>,
    refusal_told: bool,
}

struct Ear {
    task: AbortHandle,
    hears: bool,
    /// Whether it could not subscribe, or lost its subscription.
    is_deaf: bool,
    /// Channels whose subscription is confirmed.
    channels: HashSet<String>,
}

impl State {
    fn is_subscribed(&self, channel: &str) -> bool {
        self.ears.values().any(|ear| ear.channels.contains(channel))
    }
}

impl Wakeups {
    /// Begins to listen. Needs a runtime.
    pub(super) fn new(steps: &Arc<Steps>) -> Arc<Self> {
        let wakeups = Arc::new(Self {
            steps: steps.clone(),
            listeners: Mutex::default(),
            give_back: OnceLock::new(),
            alone: Alone::default(),
            shortest_window: AtomicU64::new(u64::MAX),
            state: Mutex::default(),
            wanted_more: Notify::new(),
            confirmed: Notify::new(),
            follow: Mutex::default(),
        });
        match &steps.route {
            Route::One(_) => wakeups.grow_ear(None),
            Route::Cluster(cluster, _) => {
                let task = tokio::spawn(keep_ears(wakeups.clone(), cluster.clone()));
                wakeups.follow.lock().replace(task.abort_handle());
            }
        }
        wakeups
    }

    pub(super) fn give_back_with(&self, give_back: GiveBack) {
        let _ = self.give_back.set(give_back);
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
        let is_deaf = |ear: &Ear| !ear.hears;
        let deaf = self.state.lock().ears.values().any(is_deaf);
        if (deaf || self.has_the_deaf_beside())
            && let Some(listener) = listener.upgrade()
        {
            listener.wake_up(WakeUp::Suspended);
        }
        self.wanted_more.notify_waiters();
    }

    /// Sees to it that calls for this conversation are heard before long: a
    /// holder is told when its ticket is taken away.
    pub(super) fn hear_soon(&self, id: &ConversationId) {
        if matches!(self.steps.route, Route::Cluster(..))
            && self.state.lock().tags.insert(Tag::of(id))
        {
            self.wanted_more.notify_waiters();
        }
    }

    /// Sees to it that calls for this conversation are heard. Says whether
    /// they may have been missed before.
    pub(super) async fn hear(&self, id: &ConversationId, limit: Instant) -> bool {
        if matches!(self.steps.route, Route::One(_)) {
            return false;
        }
        let tag = Tag::of(id);
        let channels = self.channels_of(tag);
        let are_heard = || {
            let state = self.state.lock();
            channels.iter().all(|channel| state.is_subscribed(channel))
        };
        if self.state.lock().tags.insert(tag) {
            self.wanted_more.notify_waiters();
        } else if are_heard() {
            return false;
        }
        loop {
            let confirmed = self.confirmed.notified();
            tokio::pin!(confirmed);
            confirmed.as_mut().enable();
            // Whoever is deaf looks by itself.
            let is_deaf = self.state.lock().ears.values().any(|ear| ear.is_deaf);
            if is_deaf || are_heard() {
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

    fn grow_ear(self: &Arc<Self>, node: Option<Node>) {
        let mut state = self.state.lock();
        state.ears.entry(node).or_insert_with_key(|node| Ear {
            task: tokio::spawn(ear::listen(self.clone(), node.clone())).abort_handle(),
            hears: false,
            is_deaf: false,
            channels: HashSet::new(),
        });
    }

    /// Grows an ear at each node where somebody waits, and drops the others.
    fn grow_ears(self: &Arc<Self>, cluster: &Cluster) {
        let tags: Vec<_> = self.state.lock().tags.iter().copied().collect();
        let nodes: HashSet<_> = tags
            .iter()
            .filter_map(|tag| cluster.node_of_slot(tag.slot()))
            .collect();
        for node in &nodes {
            self.grow_ear(Some(node.clone()));
        }
        let mut state = self.state.lock();
        state.ears.retain(|node, ear| {
            let is_needed = node.as_ref().is_some_and(|node| nodes.contains(node));
            if !is_needed {
                ear.task.abort();
            }
            is_needed
        });
    }

    /// Stops listening. The tasks keep this alive until then.
    pub(super) fn stop(&self) {
        if let Some(follow) = self.follow.lock().take() {
            follow.abort();
        }
        for (_, ear) in self.state.lock().ears.drain() {
            ear.task.abort();
        }
    }

    /// An ear hears all that it should, from now on.
    fn hears(&self, node: Option<&Node>) {
        let all = {
            let mut state = self.state.lock();
            if let Some(ear) = state.ears.get_mut(&node.cloned()) {
                (ear.hears, ear.is_deaf) = (true, false);
            }
            state.refusal_told = false;
            state.ears.values().all(|ear| ear.hears)
        };
        if all {
            self.tell_all(&WakeUp::Resumed);
            if self.has_the_deaf_beside() {
                self.tell_all(&WakeUp::Suspended);
            }
        }
    }

    /// In Rasa's layout there may be instances that call nobody, and make
    /// others unable to: whatever is heard, waiters look every `wait_time`, too.
    fn has_the_deaf_beside(&self) -> bool {
        !self.steps.scripts.are_lists()
    }

    /// An ear hears nothing.
    fn is_deaf(&self, node: Option<&Node>) {
        if let Some(ear) = self.state.lock().ears.get_mut(&node.cloned()) {
            (ear.hears, ear.is_deaf) = (false, true);
            ear.channels.clear();
        }
        self.confirmed.notify_waiters();
        self.tell_all(&WakeUp::Suspended);
    }

    fn is_confirmed(&self, node: Option<&Node>, channel: &str) {
        if let Some(ear) = self.state.lock().ears.get_mut(&node.cloned()) {
            ear.channels.insert(channel.to_owned());
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
        let Some((word, owner, conversation)) = self.read(message) else {
            telemetry::strange_call(&String::from_utf8_lossy(message));
            return;
        };
        let event = match word {
            Word::Follow => {
                self.alone.take(owner);
                return;
            }
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
            && let Some(give_back) = self.give_back.get()
        {
            give_back(conversation, owner);
        }
    }

    fn read(&self, message: &[u8]) -> Option<(Word, Owner, ConversationId)> {
        let mut words = std::str::from_utf8(message).ok()?.splitn(3, ' ');
        let word = match words.next()? {
            "turn" => Word::Turn,
            "gone" => Word::Gone,
            "follow" => Word::Follow,
            _ => return None,
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
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Wakeups")
            .field("ears", &state.ears.len())
            .finish_non_exhaustive()
    }
}

/// Follows the cluster: its map, and where somebody waits.
async fn keep_ears(wakeups: Arc<Wakeups>, cluster: Arc<Cluster>) {
    loop {
        let (renewed, wanted_more) = (cluster.renewed.notified(), wakeups.wanted_more.notified());
        tokio::pin!(renewed, wanted_more);
        renewed.as_mut().enable();
        wanted_more.as_mut().enable();
        wakeups.grow_ears(&cluster);
        tokio::select! {
            // An ear that is there may have more to subscribe to now.
            () = renewed => wakeups.wanted_more.notify_waiters(),
            () = wanted_more => {}
        }
    }
}
