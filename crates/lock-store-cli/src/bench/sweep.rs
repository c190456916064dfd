//! Nothing of it stays in the store.

use std::time::Duration;

use lock_store::{ConversationId, LockStore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::plan::Plan;

/// So many at once.
const AT_ONCE: usize = 256;

/// What came of cleaning up.
#[derive(Debug, Clone)]
pub(super) enum Swept {
    /// Nothing is left; so many conversations still had tickets.
    Clean { removed: u64 },
    /// Why something may be left.
    NotSure(String),
}

/// Removes what is left of this run, within this time.
pub(super) async fn sweep(store: &LockStore, plan: &Plan, limit: Duration) -> Swept {
    match timeout(limit, remove_all(store, plan)).await {
        Ok(Ok(removed)) => Swept::Clean { removed },
        Ok(Err(why)) => Swept::NotSure(why),
        Err(_) => Swept::NotSure("there was no answer in time".into()),
    }
}

async fn remove_all(store: &LockStore, plan: &Plan) -> Result<u64, String> {
    let mut removed = 0;
    let mut removing = JoinSet::new();
    let mut ids = plan.all_conversations();
    loop {
        while removing.len() < AT_ONCE {
            let Some(id) = ids.next() else { break };
            let store = store.clone();
            removing.spawn(async move {
                let id = ConversationId::new(id)?;
                // Also of a store that is closed.
                store.backend().delete(&id).resolve().await
            });
        }
        match removing.join_next().await {
            Some(Ok(Ok(was_there))) => removed += u64::from(was_there),
            Some(Ok(Err(error))) => return Err(error.to_string()),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Ok(removed),
        }
    }
}
