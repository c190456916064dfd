//! From one holder to the next: from before the release until the next one
//! runs.

use std::time::{Duration, Instant};

use lock_store::{LockGuard, LockStore};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::contender::{Contender, LIFETIME};

/// How a line is called in tables and in Redis.
pub(crate) fn line_name(stores: usize, waiters: usize) -> String {
    format!("{stores} clients, {waiters} waiters")
}

/// A conversation with a holder and a number of waiters. Neighbours in the
/// line are clients of different stores, if there are several.
pub(crate) struct Line {
    stores: Vec<LockStore>,
    conversation: String,
    /// How many tickets were taken.
    taken: usize,
    waiters: JoinSet<()>,
    turn: UnboundedSender<(Instant, LockGuard)>,
    turns: UnboundedReceiver<(Instant, LockGuard)>,
    holder: Option<LockGuard>,
}

impl Line {
    pub(crate) async fn form(stores: &[LockStore], waiters: usize) -> Self {
        let (turn, turns) = unbounded_channel();
        let mut line = Self {
            stores: stores.to_vec(),
            conversation: line_name(stores.len(), waiters),
            taken: 0,
            waiters: JoinSet::new(),
            turn,
            turns,
            holder: None,
        };
        for _ in 0..=waiters {
            line.join().await;
        }
        line.holder = line.turns.recv().await.map(|(_, guard)| guard);
        line
    }

    pub(crate) fn name(&self) -> &str {
        &self.conversation
    }

    /// One more waiter, in line when this returns.
    async fn join(&mut self) {
        let store = &self.stores[self.taken % self.stores.len()];
        let request = store.take_ticket(&self.conversation);
        let place = request.wait_timeout(LIFETIME).await.unwrap();
        self.taken += 1;
        let turn = self.turn.clone();
        self.waiters.spawn(async move {
            let guard = place.wait().await.unwrap();
            let now = Instant::now();
            // The other end is gone when all is over.
            let _ = turn.send((now, guard));
        });
    }

    /// Passes the lock on so many times, with all others still in line.
    pub(crate) async fn pass_on(&mut self, times: usize) -> Vec<Duration> {
        let mut hand_offs = Vec::with_capacity(times);
        for _ in 0..times {
            let holder = self.holder.take().unwrap();
            let released = Instant::now();
            holder.release().await.unwrap();
            let (runs, guard) = self.turns.recv().await.unwrap();
            hand_offs.push(runs - released);
            self.holder = Some(guard);
            self.join().await;
            while self.waiters.try_join_next().is_some() {}
        }
        hand_offs
    }

    /// Everybody leaves.
    pub(crate) async fn break_up(mut self) {
        self.waiters.shutdown().await;
        if let Some(holder) = self.holder.take() {
            holder.release().await.unwrap();
        }
    }
}

/// The same of a lock that knows no line: whoever comes first of those who try
/// again and again. A holder comes back when somebody else was it.
pub(crate) async fn polled<C: Contender>(
    contender: &C,
    waiters: usize,
    hand_offs: usize,
) -> Vec<Duration> {
    let (done, mut all_done) = unbounded_channel();
    let holders = watch::Sender::new(0_u32);
    let mut set = JoinSet::new();
    for _ in 0..=waiters {
        let (mut contender, done) = (contender.clone(), done.clone());
        let mut next = holders.subscribe();
        let holders = holders.clone();
        set.spawn(async move {
            loop {
                let held = contender.lock("polled").await;
                let runs = Instant::now();
                holders.send_modify(|count| *count += 1);
                next.mark_unchanged();
                // Time for all to try, and be refused.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let event = (runs, Instant::now());
                contender.release(held).await;
                if done.send(event).is_err() || next.changed().await.is_err() {
                    return;
                }
            }
        });
    }
    let mut times = Vec::with_capacity(hand_offs);
    let (_, mut before) = all_done.recv().await.unwrap();
    for _ in 0..hand_offs {
        let (runs, release) = all_done.recv().await.unwrap();
        times.push(runs.saturating_duration_since(before));
        before = release;
    }
    drop(all_done);
    // Whoever waits for a next holder may be the last one.
    while set.join_next().await.is_some() {
        holders.send_modify(|count| *count += 1);
    }
    times
}

/// Messages of one conversation that come at once, each handled for a while:
/// from one to the next, and how long all take.
pub(crate) async fn burst<C: Contender>(
    contender: &C,
    messages: usize,
    work: Duration,
) -> (Vec<Duration>, Duration) {
    let (done, mut all_done) = unbounded_channel();
    let begun = Instant::now();
    for _ in 0..messages {
        let (mut contender, done) = (contender.clone(), done.clone());
        tokio::spawn(async move {
            let held = contender.lock("burst").await;
            let runs = Instant::now();
            tokio::time::sleep(work).await;
            let event = (runs, Instant::now());
            contender.release(held).await;
            let _ = done.send(event);
        });
    }
    drop(done);
    let mut events = Vec::with_capacity(messages);
    while let Some(event) = all_done.recv().await {
        events.push(event);
    }
    let elapsed = begun.elapsed();
    events.sort_unstable();
    let hand_off = |pair: &[(Instant, Instant)]| pair[1].0.saturating_duration_since(pair[0].1);
    (events.windows(2).map(hand_off).collect(), elapsed)
}
