//! Conformance of `InMemoryLockStore`: every check, on a clock that takes no
//! time.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use lock_store::testing::Storage;
use lock_store::{InMemoryLockStore, LockStore};

fn storage() -> Storage {
    let memory = Arc::new(InMemoryLockStore::new());
    Storage::new(move |timing| {
        let store = LockStore::with_timing(memory.clone(), timing).unwrap();
        Box::pin(async move { store })
    })
}

lock_store::conformance_tests!(storage(), paused);
