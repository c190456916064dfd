//! The scripts in Redis against `TicketLock`: the same random transitions on
//! both, compared step by step.
//!
//! The server's clock cannot be set, but it can be asked: a step happens at
//! some moment between the two answers around it. The reference is tried at
//! each moment in between at which it would do something else; and everything
//! that the server dated in one step must give one and the same moment.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use lock_store::{
    Backend, Changes, Claim, Claimed, ClientId, ConversationId, Finish, Finished, Issue, Issued,
    Listener, Owner, RedisLockStore, Ticket, TicketLock, TicketName, TicketState, Timestamp,
    WakeUp,
};
use redis_fixture::{Connection, FOR_EVER, Server};
use tokio::sync::mpsc;

use support::redis::{at, own_prefix};

const CLIENTS: u64 = 4;

/// What `put` uses.
const DEFAULT_WINDOW: Duration = lock_store::DEFAULT_CLAIM_WINDOW;

/// If the machine was busy for so long, too much may have happened meanwhile.
const UNCLEAR: Duration = Duration::from_millis(8);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Random numbers that are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len().max(1) as u64);
        from.get(usize::try_from(index).unwrap()).copied()
    }
}

/// A step, as both are asked for it.
#[derive(Debug, Clone)]
enum Step {
    Issue(Issue),
    Claim(Claim),
    Finish(Finish),
    Put(Vec<Ticket>),
    Delete,
}

/// An answer without what depends on the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Served {
        number: u64,
        token: u64,
    },
    Waiting {
        ticket: Option<(u64, u64)>,
        ahead: u64,
        look_again: Duration,
    },
    Taken,
    Gone,
    Finished(Finished),
    Deleted(bool),
    Nothing,
}

impl From<Issued> for Told {
    fn from(issued: Issued) -> Self {
        match issued {
            Issued::Served {
                number,
                fencing_token,
            } => Self::Served {
                number,
                token: fencing_token.get(),
            },
            Issued::Waiting {
                number,
                fencing_token,
                ahead,
                look_again,
            } => Self::Waiting {
                ticket: Some((number, fencing_token.get())),
                ahead,
                look_again,
            },
            Issued::Taken => Self::Taken,
        }
    }
}

impl From<Claimed> for Told {
    fn from(claimed: Claimed) -> Self {
        match claimed {
            Claimed::Served {
                number,
                fencing_token,
            } => Self::Served {
                number,
                token: fencing_token.get(),
            },
            Claimed::Waiting { ahead, look_again } => Self::Waiting {
                ticket: None,
                ahead,
                look_again,
            },
            Claimed::Gone => Self::Gone,
        }
    }
}

/// A call as it was heard: whether it was for a turn, and whose.
type Call = (bool, Owner);

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
struct Walk {
    dice: Dice,
    backend: Arc<RedisLockStore>,
    raw: Connection,
    prefix: String,
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
    deaths: usize,
    abandoned: usize,
}

impl Walk {
    async fn new(server: &Server, seed: u64) -> Self {
        let prefix = own_prefix();
        let mut redis = at(&server.url());
        redis.key_prefix = Some(prefix.clone());
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
        }
    }

    fn key(&self) -> String {
        format!("{}:tickets:{}", self.prefix, self.id)
    }

    fn server_time(&mut self) -> Timestamp {
        let time = self.raw.command(&["TIME"]).unwrap().texts();
        timestamp(&time)
    }

    /// What comes next.
    fn think(&mut self) -> Step {
        let alive: Vec<_> = self
            .reference
            .tickets()
            .filter_map(|t| Some((t.owner?, t.number)))
            .collect();
        let head = alive.first().copied();
        match self.dice.below(100) {
            0..45 => self.issue(),
            45..72 => {
                let anybody = if self.dice.one_in(4) {
                    &self.known
                } else {
                    &alive
                };
                let whose = if self.dice.one_in(2) {
                    head
                } else {
                    self.dice.choose(anybody)
                };
                match whose {
                    Some(whose) => self.claim(whose),
                    None => self.issue(),
                }
            }
            72..95 => {
                let anybody = if self.dice.one_in(4) {
                    &self.known
                } else {
                    &alive
                };
                let whose = if self.dice.one_in(2) {
                    head
                } else {
                    self.dice.choose(anybody)
                };
                let by_number = self.dice.one_in(2);
                let (ticket, number) = match (self.dice.below(10), whose) {
                    (0, _) => (TicketName::Nobodys, None),
                    (1..4, _) => {
                        let numbers: Vec<_> = self.reference.tickets().map(|t| t.number).collect();
                        let number = self.dice.choose(&numbers).unwrap_or(3);
                        (TicketName::Number(number), None)
                    }
                    (_, Some((owner, number))) => {
                        (TicketName::Owner(owner), by_number.then_some(number))
                    }
                    (_, None) => return self.issue(),
                };
                Step::Finish(Finish {
                    ticket,
                    number,
                    claim_window: self.window,
                    patience: None,
                })
            }
            95..98 => {
                let mut tickets: Vec<_> = self.reference.tickets().cloned().collect();
                let kept: Vec<_> = tickets.iter().map(|_| !self.dice.one_in(3)).collect();
                let mut kept = kept.iter();
                tickets.retain(|_| *kept.next().unwrap());
                Step::Put(tickets)
            }
            _ => Step::Delete,
        }
    }

    fn issue(&mut self) -> Step {
        let lifetime = ms(30 + self.dice.below(220));
        // One without any wait dies in the middle of the queue.
        let wait = match self.dice.below(4) {
            0 => Duration::ZERO,
            _ => ms(60 + self.dice.below(300)),
        };
        let repeated = self.dice.one_in(10);
        let again = self.dice.choose(&self.known).filter(|_| repeated);
        let owner = match again {
            Some((owner, _)) => Some(owner),
            None if self.dice.one_in(8) => None,
            None => {
                self.sequence += 1;
                let client = ClientId::from_u64(self.dice.below(CLIENTS));
                Some(Owner {
                    client,
                    sequence: self.sequence,
                })
            }
        };
        Step::Issue(Issue {
            owner,
            lifetime,
            wait_timeout: wait,
            claim_window: self.window,
            queue: !self.dice.one_in(8),
            repeated: again.is_some(),
            asked: Instant::now(),
        })
    }

    fn claim(&mut self, (owner, number): (Owner, u64)) -> Step {
        Step::Claim(Claim {
            owner,
            number: (!self.dice.one_in(3)).then_some(number),
            lifetime: ms(30 + self.dice.below(220)),
            claim_window: self.window,
            asked: Instant::now(),
        })
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
    async fn step(&mut self) -> bool {
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
                      redis.call('LLEN', KEYS[1])}";
        let key = self.key();
        let reply = self
            .raw
            .command(&["EVAL", script, "1", &key])
            .unwrap()
            .list();
        let (ttl, length) = (reply[0].clone().integer(), reply[5].clone().integer());
        if length == 0 {
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

/// Why Redis cannot have done it at that moment.
#[derive(Debug)]
#[allow(dead_code)] // for `Debug`
struct Mismatch {
    at: Timestamp,
    what: String,
    /// When the last of the tickets dies that should be there.
    dead_by: Option<Timestamp>,
}

/// What the reference does at this moment, if that is what Redis did.
fn outcome(
    before: &TicketLock,
    step: &Step,
    told: Told,
    stored: &[Ticket],
    calls: &[Call],
    now: Timestamp,
    between: (Timestamp, Timestamp),
) -> Result<Changes, Mismatch> {
    let mut lock = before.clone();
    let compared = outcome_of(before, &mut lock, step, told, stored, calls, now, between);
    compared.map_err(|what| Mismatch {
        at: now,
        what,
        dead_by: lock.tickets().map(|ticket| ticket.expires).max(),
    })
}

#[allow(clippy::too_many_arguments)]
fn outcome_of(
    before: &TicketLock,
    lock: &mut TicketLock,
    step: &Step,
    told: Told,
    stored: &[Ticket],
    calls: &[Call],
    now: Timestamp,
    (earliest, latest): (Timestamp, Timestamp),
) -> Result<Changes, String> {
    let mut changes = Changes::default();
    let id = before.conversation_id();
    let mut gone: Vec<Owner> = Vec::new();
    let (expected, caller) = match step {
        Step::Issue(issue) => (lock.issue(issue, now, &mut changes).into(), issue.owner),
        Step::Claim(claim) => (
            lock.claim(claim, now, &mut changes).into(),
            Some(claim.owner),
        ),
        Step::Finish(finish) => {
            let finished = lock.finish(finish, now, &mut changes);
            (Told::Finished(finished), None)
        }
        Step::Put(tickets) => {
            let last_token = lock.last_token();
            *lock = TicketLock::resumed(id.clone(), tickets.clone().into(), last_token);
            lock.drop_dead_heads(now, DEFAULT_WINDOW, &mut changes);
            (Told::Nothing, None)
        }
        Step::Delete => {
            let existed = !lock.is_empty();
            *lock = TicketLock::resumed(id.clone(), VecDeque::new(), lock.last_token());
            (Told::Deleted(existed), None)
        }
    };
    if let Step::Put(_) | Step::Delete = step {
        let left = |owner: Owner| lock.tickets().any(|t| t.owner == Some(owner));
        let had = before.tickets().filter_map(|ticket| ticket.owner);
        gone.extend(had.filter(|owner| !left(*owner)));
    }
    let dropped = changes.expired.iter().chain(&changes.abandoned);
    gone.extend(dropped.filter_map(|ticket| ticket.owner));
    let woken = changes.wake.filter(|woken| Some(*woken) != caller);
    let mut expected_calls: Vec<Call> = gone.into_iter().map(|owner| (false, owner)).collect();
    expected_calls.extend(woken.map(|owner| (true, owner)));
    expected_calls.sort_unstable();
    let mut calls = calls.to_vec();
    if let Step::Put(_) = step {
        // One that is dropped twice over may be told twice.
        calls.dedup();
        expected_calls.dedup();
    }
    if calls != expected_calls {
        return Err(format!("calls {expected_calls:?}"));
    }

    // When it was, by all that it dated.
    let mut dates = Vec::new();
    compare(before.tickets(), lock.tickets(), stored, now, &mut dates)?;
    if let Some(date) = compare_told(expected, told, now, stored)? {
        dates.push(date);
    }
    dates.sort_unstable();
    dates.dedup();
    let in_time = dates.iter().all(|date| (earliest..=latest).contains(date));
    if dates.len() > 1 || !in_time {
        return Err(format!("dates {dates:?}"));
    }
    Ok(changes)
}

/// That what is stored is what is expected; finds the dates of what is new.
fn compare<'t>(
    before: impl Iterator<Item = &'t Ticket>,
    expected: impl ExactSizeIterator<Item = &'t Ticket>,
    stored: &[Ticket],
    now: Timestamp,
    dates: &mut Vec<Timestamp>,
) -> Result<(), String> {
    let before: BTreeMap<_, _> = before
        .map(|ticket| (ticket.fencing_token, ticket))
        .collect();
    if expected.len() != stored.len() {
        return Err(format!("{} tickets", expected.len()));
    }
    for (expected, stored) in expected.zip(stored) {
        let known = before.get(&expected.fencing_token);
        let same = (
            expected.number,
            expected.owner,
            expected.state,
            expected.lifetime,
        ) == (stored.number, stored.owner, stored.state, stored.lifetime);
        if !same {
            return Err(format!("{expected:?}"));
        }
        if known.is_none() && expected.fencing_token.get() == now.as_micros() {
            dates.push(Timestamp::from_micros(stored.fencing_token.get()));
        } else if expected.fencing_token != stored.fencing_token {
            return Err(format!("{expected:?}"));
        }
        if known.is_some_and(|known| known.expires == expected.expires) {
            if stored.expires != expected.expires {
                return Err(format!("{expected:?}"));
            }
        } else {
            // It was dated by the moment of the step.
            let span = expected.expires - now;
            dates
                .push(Timestamp::from_micros(0) + (stored.expires - (Timestamp::default() + span)));
        }
    }
    Ok(())
}

/// That an answer is what is expected; finds its date, if it has one.
fn compare_told(
    expected: Told,
    told: Told,
    now: Timestamp,
    stored: &[Ticket],
) -> Result<Option<Timestamp>, String> {
    let wrong = || Err(format!("told {expected:?}"));
    match (expected, told) {
        (
            Told::Served { number, token },
            Told::Served {
                number: told,
                token: by,
            },
        ) => {
            let head = stored.first();
            let is_stored = head.is_some_and(|head| {
                (head.number, head.fencing_token.get(), head.state)
                    == (told, by, TicketState::Claimed)
            });
            if number != told || !is_stored || (token != by && token != now.as_micros()) {
                return wrong();
            }
            Ok(None)
        }
        (
            Told::Waiting { ticket, ahead, .. },
            Told::Waiting {
                ticket: told,
                ahead: told_ahead,
                look_again,
            },
        ) => {
            if ahead != told_ahead || ticket.map(|t| t.0) != told.map(|t| t.0) {
                return wrong();
            }
            let place = usize::try_from(ahead).unwrap();
            let token = stored.get(place).map(|ticket| ticket.fencing_token.get());
            if told.is_some() && told.map(|t| t.1) != token {
                return wrong();
            }
            let head_dies = stored[0].expires - Timestamp::default();
            let date = head_dies.checked_sub(look_again);
            Ok(Some(Timestamp::default() + date.unwrap_or_default()))
        }
        (expected, told) if expected == told => Ok(None),
        _ => wrong(),
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < FOR_EVER, "waited in vain for {what}");
        tokio::time::sleep(ms(2)).await;
    }
}

/// Many walks side by side, as most of their time is spent waiting for deaths.
#[test]
fn scripts_do_what_the_reference_does() {
    const WALKS: u64 = 12;
    const STEPS: usize = 250;
    let server = Server::start();
    let deaths: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let walks: Vec<_> = (0..WALKS)
            .map(|seed| {
                let server = &server;
                scope.spawn(move || {
                    on_a_runtime(async {
                        let mut walk = Walk::new(server, seed).await;
                        let begun = Instant::now();
                        let mut steps = 0;
                        while steps < STEPS {
                            steps += usize::from(walk.step().await);
                            assert!(begun.elapsed() < 2 * FOR_EVER, "only {steps} are clear");
                        }
                        (walk.deaths, walk.abandoned)
                    })
                })
            })
            .collect();
        walks.into_iter().map(|walk| walk.join().unwrap()).collect()
    });
    // That the walks lead anywhere.
    let (expired, abandoned) = deaths
        .iter()
        .fold((0, 0), |sum, d| (sum.0 + d.0, sum.1 + d.1));
    assert!(
        expired > 100 && abandoned > 20,
        "{expired} expired, {abandoned} abandoned"
    );
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// For steps one by one, with long times.
struct Bench {
    backend: RedisLockStore,
    id: ConversationId,
}

impl Bench {
    async fn new(server: &Server, id: &str) -> Self {
        let mut redis = at(&server.url());
        // Thousands of steps may stand in line for their replies.
        redis.socket_timeout = FOR_EVER;
        let backend = RedisLockStore::connect(&redis).await.unwrap();
        let id = ConversationId::new(id).unwrap();
        Self { backend, id }
    }

    fn owner(sequence: u64) -> Owner {
        Owner {
            client: ClientId::from_u64(1),
            sequence,
        }
    }

    fn ask(sequence: u64) -> Issue {
        Issue {
            owner: Some(Self::owner(sequence)),
            lifetime: Duration::from_secs(600),
            wait_timeout: Duration::from_secs(600),
            claim_window: Duration::from_secs(60),
            queue: true,
            repeated: false,
            asked: Instant::now(),
        }
    }

    async fn issue(&self, issue: Issue) -> Issued {
        self.backend
            .issue(&self.id, &issue)
            .resolve()
            .await
            .unwrap()
    }

    async fn claim(&self, sequence: u64, number: u64) -> Claimed {
        let claim = Claim {
            owner: Self::owner(sequence),
            number: Some(number),
            lifetime: Duration::from_secs(600),
            claim_window: Duration::from_secs(60),
            asked: Instant::now(),
        };
        self.backend
            .claim(&self.id, &claim)
            .resolve()
            .await
            .unwrap()
    }

    async fn finish(&self, ticket: TicketName, number: Option<u64>) -> Finished {
        let finish = Finish {
            ticket,
            number,
            claim_window: Duration::from_secs(60),
            patience: None,
        };
        self.backend
            .finish(&self.id, &finish)
            .resolve()
            .await
            .unwrap()
    }

    /// A head and so many waiters, the sequence of each also its number.
    async fn fill(&self, waiters: u64) {
        let mut issues = Vec::new();
        for sequence in 0..=waiters {
            // Tasks of one thread begin in order.
            let step = self.backend.issue(&self.id, &Self::ask(sequence));
            issues.push((sequence, tokio::spawn(step.resolve())));
        }
        for (sequence, issued) in issues {
            match issued.await.unwrap().unwrap() {
                Issued::Served { number, .. } | Issued::Waiting { number, .. } => {
                    assert_eq!(number, sequence);
                }
                Issued::Taken => panic!("not asked to queue"),
            }
        }
    }
}

/// How often each command was called since the last look, by what the server
/// counts, inside scripts too.
fn commands(server: &Server) -> BTreeMap<String, u64> {
    let stats = server.command(&["INFO", "commandstats"]).text();
    server.command(&["CONFIG", "RESETSTAT"]).ok();
    // What this look itself costs, and pings that come when they come.
    let is_ours = |name: &str| !["info", "ping"].contains(&name) && !name.starts_with("config");
    stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .filter(|(name, _)| is_ours(name))
        .map(|(name, rest)| {
            (
                name.to_owned(),
                rest.split(',').next().unwrap().parse().unwrap(),
            )
        })
        .collect()
}

/// The commands of each kind of step, with so many waiters.
async fn costs(server: &Server, waiters: u64) -> Vec<(&'static str, BTreeMap<String, u64>)> {
    let bench = Bench::new(server, &format!("with {waiters}")).await;
    bench.fill(waiters).await;
    let (middle, last) = (waiters / 2, waiters + 1);
    let mut costs = Vec::new();
    let mut cost = |step| costs.push((step, commands(server)));
    cost("");
    assert!(matches!(
        bench.issue(Bench::ask(last)).await,
        Issued::Waiting { .. }
    ));
    cost("issue");
    let again = Issue {
        repeated: true,
        ..Bench::ask(last)
    };
    assert!(matches!(bench.issue(again).await, Issued::Waiting { .. }));
    cost("issue again");
    let without_queue = Issue {
        queue: false,
        ..Bench::ask(last + 1)
    };
    assert_eq!(bench.issue(without_queue).await, Issued::Taken);
    cost("try");
    assert!(matches!(bench.claim(0, 0).await, Claimed::Served { .. }));
    cost("extend");
    for sequence in [1, middle, last] {
        assert!(matches!(
            bench.claim(sequence, sequence).await,
            Claimed::Waiting { .. }
        ));
        cost("look");
    }
    assert!(
        bench
            .finish(TicketName::Owner(Bench::owner(0)), Some(0))
            .await
            .found
    );
    cost("finish and call");
    assert!(matches!(bench.claim(1, 1).await, Claimed::Served { .. }));
    cost("claim");
    assert!(!bench.finish(TicketName::Nobodys, None).await.found);
    cost("see after the head");
    assert_eq!(bench.claim(5_000_000, 5_000_000).await, Claimed::Gone);
    cost("gone");
    assert!(bench.finish(TicketName::Number(last), None).await.found);
    cost("finish by number");
    assert!(
        bench
            .finish(TicketName::Owner(Bench::owner(middle)), Some(middle))
            .await
            .found
    );
    cost("leave the middle");
    costs.split_off(1)
}

#[tokio::test]
async fn steps_cost_the_same_however_many_wait() {
    let server = Server::start();
    let few = costs(&server, 10).await;
    let many = costs(&server, 10_000).await;
    for (few, many) in few.iter().zip(&many) {
        let calls: u64 = few.1.values().sum();
        assert!((2..=16).contains(&calls), "{few:?}");
        if few.0 == "gone" {
            // Where nothing is, it is looked for by halves.
            let lindex = |costs: &BTreeMap<String, u64>| costs["lindex"];
            assert!(lindex(&many.1) <= lindex(&few.1) + 12, "{few:?} {many:?}");
        } else {
            assert_eq!(few, many);
        }
    }
}

/// Whoever leaves the middle leaves a gap in the numbers.
#[tokio::test]
async fn gaps_in_the_numbers_cost_little() {
    let server = Server::start();
    let bench = Bench::new(&server, "a").await;
    bench.fill(10_000).await;
    for sequence in (1..1_000).step_by(10) {
        assert!(
            bench
                .finish(TicketName::Owner(Bench::owner(sequence)), Some(sequence))
                .await
                .found
        );
    }
    for sequence in [5, 500, 999, 5_000, 10_000] {
        commands(&server);
        let claimed = bench.claim(sequence, sequence).await;
        let left = (1..1_000)
            .step_by(10)
            .filter(|gone| *gone < sequence)
            .count() as u64;
        assert!(
            matches!(claimed, Claimed::Waiting { ahead, .. } if ahead == sequence - left),
            "{claimed:?}"
        );
        let costs = commands(&server);
        assert!(costs["lindex"] <= 2 + 15, "{costs:?}");
    }
}

/// Also when the clock of the server is behind the one that gave the last.
#[tokio::test]
async fn tokens_rise_past_a_clock_that_is_behind() {
    let server = Server::start();
    let bench = Bench::new(&server, "a").await;
    bench.fill(1).await;
    let stored = bench
        .backend
        .get(&bench.id)
        .resolve()
        .await
        .unwrap()
        .unwrap();
    let mut tickets: VecDeque<Ticket> = stored.tickets().cloned().collect();
    let ahead = tickets[1].fencing_token.get() + 3_600_000_000;
    tickets[1].fencing_token = lock_store::FencingToken::new(ahead);
    let lock = TicketLock::resumed(bench.id.clone(), tickets, stored.last_token());
    bench.backend.put(lock).resolve().await.unwrap();
    for sequence in 2..5 {
        let Issued::Waiting {
            number,
            fencing_token,
            ..
        } = bench.issue(Bench::ask(sequence)).await
        else {
            panic!("two are there");
        };
        assert_eq!(
            (number, fencing_token.get()),
            (sequence, ahead + sequence - 1)
        );
    }
}
