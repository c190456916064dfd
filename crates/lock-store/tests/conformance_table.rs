//! Conformance of `Table`: the same checks over a backend whose answers take
//! their time.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use lock_store::LockStore;
use lock_store::testing::Storage;
use support::table::Table;

fn storage() -> Storage {
    let table = Table::default();
    Storage::new(move |timing| {
        let store = LockStore::with_timing(table.clone(), timing).unwrap();
        Box::pin(async move { store })
    })
}

lock_store::conformance_tests!(storage(), paused);
