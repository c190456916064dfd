//! A store of this process: opened at first use.

use std::sync::Arc;

use lock_store::{InMemoryLockStore, LockStore, LockStoreConfig, StoreType};
use tokio::sync::OnceCell;

use crate::error::Failure;
use crate::locked;
use crate::process::Process;

/// The Rust store, or how to get it. Shared by all that came from it, so that
/// when the last of them is gone the store is closed.
pub(crate) struct Opened {
    pub(crate) process: &'static Process,
    config: Arc<LockStoreConfig>,
    store: OnceCell<LockStore>,
}

impl Opened {
    /// In memory it is there at once.
    pub(crate) fn new(
        process: &'static Process,
        config: &Arc<LockStoreConfig>,
    ) -> Result<Arc<Self>, Failure> {
        let store = match config.store_type {
            StoreType::InMemory => {
                let memory = InMemoryLockStore::new();
                OnceCell::new_with(Some(LockStore::with_timing(memory, config.timing.clone())?))
            }
            _ => OnceCell::new(),
        };
        let opened = Arc::new(Self {
            process,
            config: config.clone(),
            store,
        });
        let mut stores = locked(&process.stores);
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(&opened));
        drop(stores);
        Ok(opened)
    }

    /// The store, if it is open.
    #[inline]
    pub(crate) fn get(&self) -> Option<&LockStore> {
        self.store.get()
    }

    /// The store. Of those who ask at once one opens it; if that one goes
    /// away, or fails, the next tries.
    pub(crate) async fn open(&self) -> Result<&LockStore, Failure> {
        let open = || LockStore::create(&self.config);
        Ok(self.store.get_or_try_init(open).await?)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Tickets that are being given back still have their tasks: an exit
        // waits for them.
        if let Some(store) = self.store.take()
            && let Some(runtime) = self.process.running()
        {
            let close = async move {
                let _ = store.close().await;
            };
            self.process.parting.spawn_on(close, runtime);
        }
    }
}
