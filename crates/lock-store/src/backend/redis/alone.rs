//! Tickets that were served at once, and that nobody waits behind as far as is
//! known: what most tickets are.
//!
//! Giving one back needs no script: `LREM` removes its element, which is known
//! to the letter, and there is nobody to be called. Whoever queues behind such
//! a ticket first changes its element, so that it is not found any more, and
//! then the script does it; and tells its owner, which saves the attempt.

use std::collections::HashMap;
use std::time::Duration;

use super::element::micros;
use crate::identity::{FencingToken, Owner};
use crate::sync::Mutex;

/// Their elements.
#[derive(Debug, Default)]
pub(super) struct Alone(Mutex<HashMap<Owner, String, ahash::RandomState>>);

impl Alone {
    /// A ticket was served at once, over an empty queue.
    pub(super) fn served(&self, owner: Owner, lifetime: Duration, token: FencingToken) {
        let lifetime = micros(lifetime);
        let element = format!("{owner} {lifetime} {lifetime} 0 {token} {token} C");
        self.0.lock().insert(owner, element);
    }

    /// It is to be removed, or its element is another one by now.
    pub(super) fn take(&self, owner: Owner) -> Option<String> {
        self.0.lock().remove(&owner)
    }
}
