//! Steps that wait to leave together.
//!
//! As long as few requests are under way over a connection, each step leaves at
//! once. When [`PRESSURE`] is reached steps gather; whenever fewer than
//! [`CALLS`] calls are under way, all that has gathered leaves in one call, at
//! most [`STEPS`] of them. When nothing has gathered, steps leave at once again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sender::Sent;
use crate::sync::Mutex;

/// From so many requests under way on, steps gather. Measured: below it the wait
/// for a call costs more than the call saves.
pub(super) const PRESSURE: usize = 128;

/// So many calls of gathered steps are under way at most: one is carried out
/// while the other one travels.
const CALLS: usize = 2;

/// So many steps are in one call at most: Redis is busy with it for about a
/// millisecond.
pub(super) const STEPS: usize = 128;

/// The steps that wait, of one connection.
#[derive(Default)]
pub(super) struct Gathered {
    /// Whether steps gather now; only a hint outside of the lock.
    gathering: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    steps: VecDeque<Sent>,
    calls: usize,
}

impl Gathered {
    /// Whether a step has to wait with the others.
    #[inline]
    pub(super) fn is_gathering(&self) -> bool {
        self.gathering.load(Ordering::Relaxed)
    }

    /// Adds a step. `true` if a call has to be made now: by
    /// [`next`](Self::next), until there is none.
    pub(super) fn push(&self, step: Sent) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.steps.push_back(step);
        self.gathering.store(true, Ordering::Relaxed);
        let is_room = waiting.calls < CALLS;
        waiting.calls += usize::from(is_room);
        is_room
    }

    /// What leaves in the next call, in the order in which it came. `None` when
    /// nothing waits: then the caller makes no more calls.
    pub(super) fn next(&self) -> Option<Vec<Sent>> {
        let mut waiting = self.waiting.lock();
        if waiting.steps.is_empty() {
            waiting.calls -= 1;
            if waiting.calls == 0 {
                self.gathering.store(false, Ordering::Relaxed);
            }
            return None;
        }
        let count = waiting.steps.len().min(STEPS);
        Some(waiting.steps.drain(..count).collect())
    }

    /// Takes out what has waited in vain until its limit.
    pub(super) fn expired(&self) -> Vec<Sent> {
        let mut waiting = self.waiting.lock();
        if !waiting.steps.iter().any(Sent::is_over) {
            return Vec::new();
        }
        let (over, rest) = waiting.steps.drain(..).partition(Sent::is_over);
        waiting.steps = rest;
        Vec::from(over)
    }
}
