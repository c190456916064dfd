//! What a store says of itself.

#![allow(clippy::unwrap_used)]

use lock_store::LockStore;

#[test]
fn a_store_says_who_it_is() {
    let store = LockStore::in_memory();
    let text = format!("{store:?}");
    assert!(text.contains(&store.client_id().to_string()), "{text}");
    assert!(
        text.contains("InMemoryLockStore { conversations: 0"),
        "{text}"
    );
}
