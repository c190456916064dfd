//! A walk at random over Redis and the reference, compared step by step.
//!
//! The server's clock cannot be set, but it can be asked: a step happens at
//! some moment between the two answers around it. The reference is tried at
//! each moment in between at which it would do something else; and everything
//! that the server dated in one step must give one and the same moment.

mod outcome;
pub mod step;
mod think;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use lock_store::{
    Backend, ClientId, ConversationId, Issue, Layout, Listener, Owner, RedisLockStore, Ticket,
    TicketLock, Timestamp, WakeUp,
};
use redis_fixture::{Connection, FOR_EVER, Server};
use tokio::sync::mpsc;

use self::outcome::{Mismatch, outcome};
use self::step::{Dice, Step, Told};
use super::redis::{at, own_prefix};

const CLIENTS: u64 = 4;

/// If the machine was busy for so long, too much may have happened meanwhile.
const UNCLEAR: Duration = Duration::from_millis(8);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A call as it was heard: whether it was for a turn, and whose.
pub type Call = (bool, Owner);

/// Hears all calls of one client.
struct Ears(mpsc::UnboundedSender<(ConversationId, Call)>);

impl Listener for Ears {
    fn wake_up(&self, event: WakeUp) -> bool {
        let call = match event {
            WakeUp::Turn {
                conversation,
                owner,
            } => (conversation, (true, owner)),
            WakeUp::Gone {
                conversation,
                owner,
            } => (conversation, (false, owner)),
            _ => return true,
        };
        let _ = self.0.send(call);
        true
    }
}

/// The reference and Redis, side by side.
pub struct Walk {
    dice: Dice,
    backend: Arc<RedisLockStore>,
    raw: Connection,
    prefix: String,
    /// What keys have between the prefix and the conversation.
    queues: &'static str,
    window: Duration,
    /// The conversation, and how many there were.
    id: ConversationId,
    conversations: u64,
    reference: TicketLock,
    /// When its key ends, with all that is in it, and nobody is told.
    key_ends: Timestamp,
    /// Everybody who ever had a ticket in it, and the number on it.
    known: Vec<(Owner, u64)>,
    sequence: u64,
    calls: mpsc::UnboundedReceiver<(ConversationId, Call)>,
    /// Kept, as the backend only remembers them weakly.
    _ears: Vec<Arc<dyn Listener>>,
    /// What was done to this conversation, for whoever has to find a bug.
    story: Vec<String>,
    pub deaths: usize,
    pub abandoned: usize,
    /// Advances that removed finished tickets, and finishes that did.
    pub advanced: usize,
    pub finished_with: usize,
}

impl Walk {
    pub async fn new(server: &Server, layout: Layout, seed: u64) -> Self {
        let prefix = own_prefix();
        let mut redis = at(&server.url());
        redis.key_prefix = Some(prefix.clone());
        redis.layout = layout;
        redis.socket_timeout = Duration::from_secs(60);
        let backend = Arc::new(RedisLockStore::connect(&redis).await.unwrap());
        let (sender, calls) = mpsc::unbounded_channel();
        let mut raw = server.connect().unwrap();
        let mut ears = Vec::new();
        for client in 0..CLIENTS {
            let client = ClientId::from_u64(client);
            let ear: Arc<dyn Listener> = Arc::new(Ears(sender.clone()));
            backend.wake_ups(client, Arc::downgrade(&ear) as Weak<dyn Listener>);
            ears.push(ear);
            let channel = format!("{prefix}:wake:{client}");
            eventually("the subscription", || {
                let heard = raw.command(&["PUBSUB", "NUMSUB", &channel]).unwrap();
                heard.list()[1].clone().integer() == 1
            })
            .await;
        }
        let mut dice = Dice::new(seed);
        let window = ms(15 + dice.below(40));
        let id = ConversationId::new("0").unwrap();
        Self {
            dice,
            backend,
            raw,
            prefix,
            queues: match layout {
                Layout::Rasa => "lock",
                _ => "tickets",
            },
            window,
            reference: TicketLock::new(id.clone()),
            id,
            key_ends: Timestamp::default(),
            conversations: 1,
            known: Vec::new(),
            sequence: 0,
            calls,
            _ears: ears,
            story: Vec::new(),
            deaths: 0,
            abandoned: 0,
            advanced: 0,
            finished_with: 0,
        }
    }

    fn key(&self) -> String {
        format!("{}:{}:{}", self.prefix, self.queues, self.id)
    }

    fn server_time(&mut self) -> Timestamp {
        let time = self.raw.command(&["TIME"]).unwrap().texts();
        timestamp(&time)
    }

    /// Lets the server do it. `None` if it was not done in time, and so may
    /// still be done.
    async fn ask(&self, step: &Step) -> Option<Told> {
        let (backend, id) = (&self.backend, &self.id);
        let told = match step {
            Step::Issue(issue) => {
                let issue = Issue {
                    asked: Instant::now(),
                    ..issue.clone()
                };
                backend.issue(id, &issue).resolve().await.map(Told::from)
            }
            Step::Claim(claim) => backend.claim(id, claim).resolve().await.map(Told::from),
            Step::Advance(claim) => backend.advance(id, claim).resolve().await.map(Told::from),
            Step::Finish(finish) => backend
                .finish(id, finish)
                .resolve()
                .await
                .map(Told::Finished),
            Step::Put(tickets) => {
                let lock = TicketLock::resumed(
                    id.clone(),
                    tickets.clone().into(),
                    self.reference.last_token(),
                );
                backend.put(lock).resolve().await.map(|()| Told::Nothing)
            }
            Step::Delete => backend.delete(id).resolve().await.map(Told::Deleted),
        };
        match told {
            Ok(told) => Some(told),
            Err(error) if error.is_unavailable() => None,
            Err(error) => panic!("{step:?} fails: {error}"),
        }
    }

    /// One step on both. Says whether it could be compared.
    pub async fn step(&mut self) -> bool {
        if self.dice.one_in(7) {
            let head_dies = self.reference.tickets().next().map(|head| head.expires);
            let pause = match head_dies {
                // To the end of its time, a little before or after.
                Some(expires) if self.dice.one_in(2) => {
                    let left = expires - self.server_time();
                    let about = Duration::from_micros(self.dice.below(2_000));
                    (left + about).saturating_sub(ms(1)).min(ms(300))
                }
                _ => ms(self.dice.below(60)),
            };
            // Time is the subject.
            tokio::time::sleep(pause).await;
        }
        let step = self.think();
        let earliest = self.server_time();
        let told = self.ask(&step).await;
        let latest = self.server_time();
        let took = latest - earliest;
        let Some(told) = told.filter(|_| took < UNCLEAR) else {
            self.next_conversation();
            return false;
        };
        self.story.push(format!(
            "{step:?}\n  at {earliest:?} + {took:?} told {told:?}"
        ));
        let calls = self.heard().await;
        let stored = self.backend.get(&self.id).resolve().await.unwrap();
        let stored: Vec<_> = stored
            .iter()
            .flat_map(|lock| lock.tickets().cloned())
            .collect();
        let key_ends = self.check_time_to_live(&stored, took);
        let looked = self.server_time() + took;

        let mut moments = vec![earliest, latest];
        let deaths = self.reference.tickets().map(|ticket| ticket.expires);
        moments.extend(deaths.filter(|dies| (earliest..=latest).contains(dies)));
        moments.sort_unstable();
        let ended = TicketLock::new(self.id.clone());
        let mut befores = vec![&self.reference];
        if self.key_ends <= latest {
            befores.push(&ended);
        }
        let mut outcomes = Vec::new();
        for before in befores {
            for &now in &moments {
                let between = (earliest, latest);
                outcomes.push(outcome(before, &step, told, &stored, &calls, now, between));
            }
        }
        let Some(matching) = outcomes.iter().find_map(|outcome| outcome.as_ref().ok()) else {
            let had_ended = |outcome: &Result<_, Mismatch>| {
                let all_dead =
                    |mismatch: &Mismatch| mismatch.dead_by.is_some_and(|by| by <= looked);
                outcome.as_ref().is_err_and(all_dead)
            };
            if stored.is_empty() && outcomes.iter().any(had_ended) {
                self.next_conversation();
                return false;
            }
            let story = self.story[self.story.len().saturating_sub(12)..].join("\n");
            panic!("{story}\n  stored {stored:#?}\n  calls {calls:?}\n  but {outcomes:#?}");
        };
        self.deaths += matching.expired.len();
        self.abandoned += matching.abandoned.len();
        let left = self.reference.tickets().len().saturating_sub(stored.len());
        match (&step, told) {
            (Step::Advance(_), Told::Served { .. }) if left > 0 => self.advanced += 1,
            (Step::Finish(finish), Told::Finished(finished))
                if finish.first_finished.is_some() && finished.found =>
            {
                let dropped = matching.expired.len() + matching.abandoned.len();
                self.finished_with += usize::from(left > 1 + dropped);
            }
            _ => {}
        }
        let before = self.reference.last_token();
        self.reference = TicketLock::resumed(self.id.clone(), stored.into(), before);
        self.key_ends = key_ends;
        if let (
            Step::Issue(issue),
            Told::Served { number, .. }
            | Told::Waiting {
                ticket: Some((number, _)),
                ..
            },
        ) = (&step, told)
            && let Some(owner) = issue.owner
        {
            // Asked for again after it was gone, it has a new number.
            self.known.retain(|(known, _)| *known != owner);
            self.known.push((owner, number));
        }
        true
    }

    fn next_conversation(&mut self) {
        self.id = ConversationId::new(self.conversations.to_string()).unwrap();
        self.conversations += 1;
        self.reference = TicketLock::new(self.id.clone());
        self.known.clear();
        self.story.clear();
    }

    /// All calls that were made so far, for this conversation: one that we make
    /// ourselves comes after them.
    async fn heard(&mut self) -> Vec<Call> {
        let owner = Owner {
            client: ClientId::from_u64(0),
            sequence: u64::MAX,
        };
        let channel = format!("{}:wake:{}", self.prefix, owner.client);
        let call = format!("gone {owner} {}", self.key());
        let ears = self.raw.command(&["PUBLISH", &channel, &call]).unwrap();
        assert_eq!(ears.integer(), 1);
        let mut calls = Vec::new();
        loop {
            let next = tokio::time::timeout(FOR_EVER, self.calls.recv()).await;
            match next.unwrap().unwrap() {
                (id, (_, caller)) if caller == owner && id == self.id => break,
                (id, call) if id == self.id => calls.push(call),
                _ => {}
            }
        }
        calls.sort_unstable();
        calls
    }

    /// No key without an end, and none that ends before its tickets. Says when
    /// it ends at the earliest.
    fn check_time_to_live(&mut self, stored: &[Ticket], tolerance: Duration) -> Timestamp {
        // The server may be held up between any two calls.
        let script = "local before, ttl = redis.call('TIME'), redis.call('PTTL', KEYS[1]) \
                      local after = redis.call('TIME') \
                      return {ttl, before[1], before[2], after[1], after[2], \
                      redis.call('EXISTS', KEYS[1])}";
        let key = self.key();
        let reply = self
            .raw
            .command(&["EVAL", script, "1", &key])
            .unwrap()
            .list();
        let (ttl, exists) = (reply[0].clone().integer(), reply[5].clone().integer());
        if exists == 0 {
            return Timestamp::default();
        }
        assert!(ttl >= 0, "a key without an end: {:?}", self.story);
        let ttl = ms(u64::try_from(ttl).unwrap());
        let [before, after] = [1, 3].map(|at| {
            let time = [reply[at].clone().text(), reply[at + 1].clone().text()];
            timestamp(&time)
        });
        let longest = stored.iter().map(|ticket| ticket.expires).max();
        // A script's own time to live counts from when it began.
        assert!(
            longest.is_none_or(|longest| after + ttl + tolerance >= longest),
            "{}\nthe key ends at {:?}, a ticket at {longest:?}",
            self.story.join("\n"),
            after + ttl
        );
        // It is told in whole milliseconds.
        before + ttl.saturating_sub(ms(1))
    }
}

fn timestamp(time: &[String]) -> Timestamp {
    let (seconds, micros): (u64, u64) = (time[0].parse().unwrap(), time[1].parse().unwrap());
    Timestamp::from_micros(seconds * 1_000_000 + micros)
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < FOR_EVER, "waited in vain for {what}");
        tokio::time::sleep(ms(2)).await;
    }
}
