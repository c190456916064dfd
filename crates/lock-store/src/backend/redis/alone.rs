//! Tickets that were served at once, and that nobody waits behind as far as is
//! known: what most tickets are.
//!
//! Giving one back needs no script: `LREM` removes its element, which is known
//! to the letter, and there is nobody to be called. That holds as long as we
//! would have heard of a follower: the first who queues behind such a ticket
//! tells its owner (`follow`). Should that come too late, the queue is seen
//! after once more; should our hearing have been interrupted, nobody counts as
//! alone any more.

use std::collections::HashMap;

use crate::identity::{FencingToken, Owner};
use crate::sync::Mutex;

use super::element::micros;

#[derive(Debug, Default)]
pub(super) struct Alone(Mutex<HashMap<Owner, Known, ahash::RandomState>>);

#[derive(Debug)]
struct Known {
    element: String,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Held,
    /// It is being removed.
    Leaving,
    /// Somebody queued behind it while it was being removed.
    Followed,
}

impl Alone {
    /// A ticket was served at once, over an empty queue.
    pub(super) fn served(&self, owner: Owner, lifetime: std::time::Duration, token: FencingToken) {
        let lifetime = micros(lifetime);
        let element = format!("{owner} {lifetime} {lifetime} 0 {token} {token} C");
        let stage = Stage::Held;
        self.0.lock().insert(owner, Known { element, stage });
    }

    /// Its element is another one by now, or will be.
    pub(super) fn changed(&self, owner: Owner) {
        let mut known = self.0.lock();
        if known
            .get(&owner)
            .is_some_and(|known| known.stage == Stage::Held)
        {
            known.remove(&owner);
        }
    }

    /// It is to be removed: its element, if that is all there is to do.
    pub(super) fn leave(&self, owner: Owner) -> Option<String> {
        let mut all = self.0.lock();
        let known = all.get_mut(&owner)?;
        if known.stage == Stage::Held {
            known.stage = Stage::Leaving;
            return Some(known.element.clone());
        }
        // An earlier attempt was given up.
        all.remove(&owner);
        None
    }

    /// It was removed; says whether somebody queued behind it meanwhile.
    pub(super) fn left(&self, owner: Owner) -> bool {
        let known = self.0.lock().remove(&owner);
        known.is_some_and(|known| known.stage == Stage::Followed)
    }

    /// Somebody queues behind it. Says whether it is gone already, so that the
    /// queue must be seen after.
    pub(super) fn follow(&self, owner: Owner) -> bool {
        let mut all = self.0.lock();
        match all.get_mut(&owner) {
            Some(Known {
                stage: Stage::Held, ..
            }) => {
                all.remove(&owner);
                false
            }
            Some(known) => {
                known.stage = Stage::Followed;
                false
            }
            None => true,
        }
    }

    /// We may not have heard of somebody.
    pub(super) fn forget_all(&self) {
        self.0.lock().retain(|_, known| {
            let keep = known.stage != Stage::Held;
            if keep {
                known.stage = Stage::Followed;
            }
            keep
        });
    }
}
