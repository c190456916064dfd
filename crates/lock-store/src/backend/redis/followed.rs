//! Owners of uncontended tickets that others have come behind since.
//!
//! Knowing it saves an attempt to give the ticket back by its element, which has
//! changed. So it may be forgotten: only the latest are remembered, as an owner
//! may have given its ticket back before it was told.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::identity::Owner;
use crate::sync::Mutex;

const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Followed {
    owners: Mutex<Owners>,
    /// Mostly there are none, and that is known without the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Owners {
    all: HashSet<Owner, ahash::RandomState>,
    /// In the order in which they came, those that were taken out included.
    order: VecDeque<Owner>,
}

impl Followed {
    pub(super) fn insert(&self, owner: Owner) {
        let mut owners = self.owners.lock();
        owners.all.insert(owner);
        owners.order.push_back(owner);
        if owners.order.len() > REMEMBERED
            && let Some(oldest) = owners.order.pop_front()
        {
            owners.all.remove(&oldest);
        }
        self.count.store(owners.all.len(), Ordering::Release);
    }

    /// Whether it is known that others have come behind; forgets it.
    #[inline]
    pub(super) fn take(&self, owner: Owner) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut owners = self.owners.lock();
        let was_there = owners.all.remove(&owner);
        self.count.store(owners.all.len(), Ordering::Release);
        was_there
    }
}
