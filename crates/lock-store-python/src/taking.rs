//! A guard or a place on its way out of what Python holds.

use std::sync::Arc;

use crate::lent::Lent;
use crate::locked;
use crate::process::Process;

/// Somebody wants to take it away, to release it or to wait for its turn. When
/// this is dropped before that, it is given back in the background.
pub(crate) struct Taking<T: Send + Sync + 'static> {
    process: &'static Process,
    /// Under which an exit finds it. Until it is really taken it still does.
    number: u64,
    lent: Arc<Lent<T>>,
}

impl<T: Send + Sync + 'static> Taking<T> {
    /// Once: `None` if somebody wanted it before.
    pub(crate) fn begin(
        process: &'static Process,
        number: u64,
        lent: &Arc<Lent<T>>,
    ) -> Option<Self> {
        lent.want().then(|| Self {
            process,
            number,
            lent: lent.clone(),
        })
    }

    pub(crate) async fn take(&self) -> Option<T> {
        match self.lent.try_take() {
            Ok(value) => value,
            // Somebody uses it, until told.
            Err(_) => self.lent.take().await,
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Taking<T> {
    fn drop(&mut self) {
        // An exit waits for it from here on, before it is found no more.
        let parting = self.process.parting.token();
        locked(&self.process.held).remove(&self.number);
        match (self.lent.try_take(), self.process.running()) {
            (Ok(value), _) => self.process.give_back(|| value),
            // Whoever uses it may let go later than this, and drops nothing.
            (Err(_), Some(runtime)) => {
                let lent = self.lent.clone();
                let give_back = async move { drop(lent.take().await) };
                self.process.parting.spawn_on(give_back, runtime);
            }
            // Without a runtime nobody uses it.
            (Err(_), None) => {}
        }
        drop(parting);
    }
}
