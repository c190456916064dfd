//! One step of an owner at a time.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::identity::Owner;
use crate::sync::Mutex;

type Waiting = HashMap<Owner, Arc<AsyncMutex<()>>, ahash::RandomState>;

/// The owners that have a step under way.
#[derive(Debug, Default)]
pub(super) struct Turns(Arc<Mutex<Waiting>>);

/// The step of this owner is the only one, until this is dropped.
#[derive(Debug)]
pub(in super::super) struct Turn {
    owner: Owner,
    all: Arc<Mutex<Waiting>>,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// In the order asked.
    pub(super) async fn of(&self, owner: Owner) -> Turn {
        // Before it waits: dropped then, it clears up all the same.
        let mut turn = Turn {
            owner,
            all: self.0.clone(),
            held: None,
        };
        let mutex = self.0.lock().entry(owner).or_default().clone();
        turn.held = Some(mutex.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.held.take());
        let mut all = self.all.lock();
        // Whoever waits has it, too.
        if all
            .get(&self.owner)
            .is_some_and(|mutex| Arc::strong_count(mutex) == 1)
        {
            all.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClientId;

    #[tokio::test]
    async fn nothing_is_left_of_a_turn_also_if_it_was_not_waited_for() {
        let turns = Turns::default();
        let client = ClientId::from_u64(7);
        let owner = Owner {
            client,
            sequence: 1,
        };
        let first = turns.of(owner).await;
        let mut second = Box::pin(turns.of(owner));
        let mut third = Box::pin(turns.of(owner));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert!(futures_util::poll!(&mut third).is_pending());
        let sequence = 2;
        drop(turns.of(Owner { client, sequence }).await);
        drop(first);
        assert_eq!(turns.0.lock().len(), 1);
        drop(third);
        drop(second.await);
        assert!(turns.0.lock().is_empty());
    }
}
