//! What is known from looking: the locks as they were last seen, and what must
//! have happened between two looks. It knows neither Redis nor a terminal.

mod served;
mod waits;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use lock_store::ConversationId;

use super::lock::Seen;
use served::{Mark, Served};
use waits::Waits;

/// How many looks a sparkline can show.
const REMEMBERED: usize = 512;

/// One look at all locks.
#[derive(Debug)]
pub(crate) struct Look {
    /// When it was done, counted from the start.
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) locks: Vec<Seen>,
    /// What was said of each lock that cannot be read.
    pub(crate) damaged: Vec<String>,
}

/// What a look comes to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) conversations: usize,
    pub(crate) waiting: u64,
    pub(crate) dead: usize,
    pub(crate) damaged: usize,
    pub(crate) longest_queue: u64,
    pub(crate) oldest_wait: Duration,
    /// Per second since the look before, if there is one.
    pub(crate) rates: Option<Rates>,
    pub(crate) wait_median: Option<Duration>,
    pub(crate) wait_p99: Option<Duration>,
    pub(crate) took: Duration,
    /// Since the look before.
    pub(crate) interval: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    pub(crate) acquired: f64,
    pub(crate) handed_off: f64,
}

/// What past looks came to, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) acquired: VecDeque<f64>,
    pub(crate) handed_off: VecDeque<f64>,
    pub(crate) waiting: VecDeque<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    locks: Vec<Seen>,
    figures: Figures,
    history: History,
    waits: Waits,
    damaged: Vec<String>,
    looked_at: Option<Duration>,
    /// The heads at the last look, unless an outage came between.
    marks: Option<HashMap<ConversationId, Mark>>,
    trouble: Option<String>,
}

impl Model {
    /// The locks as they were last seen, in no order.
    pub(crate) fn locks(&self) -> &[Seen] {
        &self.locks
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// When it was last looked.
    pub(crate) fn looked_at(&self) -> Option<Duration> {
        self.looked_at
    }

    /// Why the last attempt to look came to nothing, if it did.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Looking came to nothing. The last picture stays; but what happens until
    /// the next one is no matter of seconds, so it is not counted.
    pub(crate) fn away(&mut self, why: String) {
        self.trouble = Some(why);
        self.marks = None;
    }

    pub(crate) fn see(&mut self, look: Look) {
        let marks: HashMap<_, _> = look
            .locks
            .iter()
            .map(|lock| (lock.id.clone(), Mark::of(lock)))
            .collect();
        let before = self.marks.replace(marks);
        let interval = match (&before, self.looked_at) {
            (Some(_), Some(last)) => Some(look.at.saturating_sub(last)),
            _ => None,
        };
        let rates = before.zip(interval).map(|(before, interval)| {
            let waits = self.waits.open(look.at);
            let mut served = Served::default();
            for lock in &look.locks {
                let mark = Mark::of(lock);
                let before = before.get(&lock.id);
                served += mark.since(before);
                if let Some(wait) = mark.wait(lock, before) {
                    waits.record(wait);
                }
            }
            served.per_second(interval)
        });
        self.waits.forget(look.at);
        self.figures = self.sum_up(&look, rates, interval);
        self.remember();
        self.looked_at = Some(look.at);
        self.trouble = None;
        self.locks = look.locks;
        self.damaged = look.damaged;
    }

    fn sum_up(&self, look: &Look, rates: Option<Rates>, interval: Option<Duration>) -> Figures {
        let locks = || look.locks.iter();
        Figures {
            conversations: look.locks.len(),
            waiting: locks().map(|lock| lock.waiting).sum(),
            dead: locks().filter(|lock| lock.dead).count(),
            damaged: look.damaged.len(),
            longest_queue: locks().map(|lock| lock.waiting).max().unwrap_or(0),
            oldest_wait: locks()
                .map(|lock| lock.oldest_wait)
                .max()
                .unwrap_or_default(),
            rates,
            wait_median: self.waits.at_quantile(0.5),
            wait_p99: self.waits.at_quantile(0.99),
            took: look.took,
            interval,
        }
    }

    fn remember(&mut self) {
        let History {
            acquired,
            handed_off,
            waiting,
        } = &mut self.history;
        if let Some(rates) = self.figures.rates {
            push(acquired, rates.acquired);
            push(handed_off, rates.handed_off);
        }
        push(waiting, self.figures.waiting);
    }
}

fn push<T>(history: &mut VecDeque<T>, value: T) {
    if history.len() == REMEMBERED {
        history.pop_front();
    }
    history.push_back(value);
}

#[cfg(test)]
mod tests;
