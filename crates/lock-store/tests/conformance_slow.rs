//! Conformance of `Slow`: every check, over the storage that the tests hold
//! back, while nobody does.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use lock_store::LockStore;
use lock_store::testing::Storage;
use support::slow::Slow;

fn storage() -> Storage {
    let slow = Slow::default();
    Storage::new(move |timing| {
        let store = LockStore::with_timing(slow.clone(), timing).unwrap();
        Box::pin(async move { store })
    })
}

lock_store::conformance_tests!(storage(), paused);
