//! `lock-store list`: the conversations that have a lock.

use std::cmp::Reverse;

use futures_util::StreamExt as _;
use lock_store::{LockError, LockSummary};
use serde::Serialize;

use crate::args::{ListArgs, Order};
use crate::fleet::{self, DONE, NOT_SO, Output};
use crate::log::Log;
use crate::people::{Plain, Span, count};
use crate::screen::Screen;

/// Fewer are not worth putting in order before the end.
const FEW: usize = 10_000;

/// A line of JSON.
#[derive(Serialize)]
struct Line<'l> {
    conversation_id: &'l str,
    ticket: u64,
    fencing_token: u64,
    state: &'static str,
    expired: bool,
    owner: Option<String>,
    waiting: u64,
    oldest_wait_seconds: f64,
    lease_left_seconds: f64,
    age_seconds: f64,
}

/// Lists them, and returns the exit code.
pub(crate) async fn run(args: &ListArgs, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    let fleet = fleet::open(&args.connection, "list", log).await?;
    let mut list = List::begin(args, screen)?;
    let mut survey = fleet.redis.survey();
    let mut failed = false;
    while let Some(seen) = survey.next().await {
        match seen {
            Ok(lock) => {
                if !list.add(lock)? {
                    break;
                }
            }
            Err(error) => {
                failed = true;
                complain(&error, log);
            }
        }
    }
    list.end(screen)?;
    Ok(if failed { NOT_SO } else { DONE })
}

fn complain(error: &LockError, log: &Log) {
    if error.is_unavailable() {
        log.error(format_args!("not all were listed: {error}"));
    } else {
        log.error(format_args!("{error}"));
    }
}

struct List<'a> {
    args: &'a ListArgs,
    output: Output,
    limit: usize,
    /// Those that are to be put in order.
    kept: Vec<LockSummary>,
    shown: u64,
    waiting: u64,
    /// Nobody reads any more.
    is_closed: bool,
}

impl<'a> List<'a> {
    fn begin(args: &'a ListArgs, screen: &Screen) -> anyhow::Result<Self> {
        let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
        Ok(Self {
            args,
            output: Output::open(screen)?,
            limit: limit.unwrap_or(usize::MAX),
            kept: Vec::new(),
            shown: 0,
            waiting: 0,
            is_closed: false,
        })
    }

    /// Whether more are wanted.
    fn add(&mut self, lock: LockSummary) -> anyhow::Result<bool> {
        if self
            .args
            .waiting_more_than
            .is_some_and(|n| lock.waiting <= n)
        {
            return Ok(true);
        }
        let Some(order) = self.args.sort else {
            return self.show(&lock);
        };
        self.kept.push(lock);
        if self.kept.len() >= self.limit.saturating_mul(2).max(FEW) {
            self.cut(order);
        }
        Ok(true)
    }

    /// Keeps the first ones, in order.
    fn cut(&mut self, order: Order) {
        sort(&mut self.kept, order);
        self.kept.truncate(self.limit);
    }

    /// Whether another one is wanted.
    fn show(&mut self, lock: &LockSummary) -> anyhow::Result<bool> {
        if self.shown == 0 && !self.args.json {
            self.output.line(format_args!(
                "{:>7}  {:>7}  {:>11}  {:>10}  {:>7}  CONVERSATION",
                "TICKET", "WAITING", "OLDEST WAIT", "LEASE LEFT", "AGE"
            ))?;
        }
        self.shown += 1;
        self.waiting += lock.waiting;
        let is_read = if self.args.json {
            self.output.json(&line(lock))?
        } else {
            self.output.line(format_args!(
                "{:>7}  {:>7}  {:>11}  {:>10}  {:>7}  {}",
                lock.serving.number,
                lock.waiting,
                wait(lock),
                left(lock),
                Span(lock.age()),
                Plain(lock.conversation_id.as_str())
            ))?
        };
        self.is_closed = !is_read;
        Ok(is_read && usize::try_from(self.shown).is_ok_and(|shown| shown < self.limit))
    }

    fn end(mut self, screen: &Screen) -> anyhow::Result<()> {
        if let Some(order) = self.args.sort {
            self.cut(order);
            for lock in std::mem::take(&mut self.kept) {
                if !self.show(&lock)? {
                    break;
                }
            }
        }
        let is_read = self.output.end()?;
        if self.args.json || !is_read || self.is_closed {
            return Ok(());
        }
        if self.shown == 0 {
            let which = match self.args.waiting_more_than {
                Some(n) => format!("no conversation has more than {n} waiting"),
                None => "no conversation has a lock".to_owned(),
            };
            screen.say(format_args!("{which}"));
        } else {
            screen.say(format_args!(
                "{}, {} waiting",
                count(self.shown, "conversation"),
                count(self.waiting, "ticket")
            ));
        }
        Ok(())
    }
}

fn sort(locks: &mut [LockSummary], order: Order) {
    // What is alike stays in an order that can be foretold.
    locks.sort_unstable_by(|a, b| a.conversation_id.cmp(&b.conversation_id));
    match order {
        Order::Waiting => locks.sort_by_key(|lock| Reverse(lock.waiting)),
        Order::Wait => locks.sort_by_key(|lock| Reverse(lock.oldest_wait())),
        Order::Age => locks.sort_by_key(|lock| Reverse(lock.age())),
        Order::Lease => locks.sort_by_key(LockSummary::lease_left),
        Order::Id => {}
    }
}

fn wait(lock: &LockSummary) -> String {
    match &lock.next {
        Some(_) => Span(lock.oldest_wait()).to_string(),
        None => "-".to_owned(),
    }
}

fn left(lock: &LockSummary) -> String {
    if lock.is_dead() {
        return "expired".to_owned();
    }
    Span(lock.lease_left()).to_string()
}

fn line(lock: &LockSummary) -> Line<'_> {
    Line {
        conversation_id: lock.conversation_id.as_str(),
        ticket: lock.serving.number,
        fencing_token: lock.serving.fencing_token.get(),
        state: lock.serving.state.as_str(),
        expired: lock.is_dead(),
        owner: lock.serving.owner.map(|owner| owner.to_string()),
        waiting: lock.waiting,
        oldest_wait_seconds: lock.oldest_wait().as_secs_f64(),
        lease_left_seconds: lock.lease_left().as_secs_f64(),
        age_seconds: lock.age().as_secs_f64(),
    }
}
