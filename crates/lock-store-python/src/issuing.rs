//! A ticket in Rasa's manner that nobody waits for any more.
//!
//! It is known by its number alone. So when its asker gives up, the request is
//! seen through to its answer, and the ticket finished: else it would keep the
//! conversation waiting until it expires.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::open::Opened;

/// A ticket whose number was not told yet. When this is dropped it is finished
/// in the background.
pub(crate) struct Issued {
    store: Arc<Opened>,
    id: String,
    number: u64,
    /// It lives at least until then. Later the number may be another ticket's.
    until: Option<Instant>,
    is_told: bool,
}

impl Issued {
    /// From here on it is the asker's.
    pub(crate) fn into_number(mut self) -> u64 {
        self.is_told = true;
        self.number
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        let process = self.store.process;
        let Some(runtime) = process.running().filter(|_| !self.is_told) else {
            return;
        };
        let (store, id) = (self.store.clone(), std::mem::take(&mut self.id));
        let (number, until) = (self.number, self.until);
        let finish = async move {
            let Some(opened) = store.get() else {
                return;
            };
            let finished = opened.finish_serving(id, number);
            // What cannot be finished expires.
            let _ = match until {
                Some(until) => timeout_at(until, finished).await.unwrap_or(Ok(())),
                None => finished.await,
            };
        };
        process.parting.spawn_on(finish, runtime);
    }
}

type Issue = Pin<Box<dyn Future<Output = Result<Issued, Failure>> + Send>>;

/// A ticket that is asked for. When this is dropped under way, it goes on in
/// the background.
pub(crate) struct Issuing {
    store: Arc<Opened>,
    issue: Option<Issue>,
    is_begun: bool,
}

impl Issuing {
    /// The store is open by now.
    pub(crate) fn begin(store: Arc<Opened>, id: String, lifetime: Duration) -> Self {
        let opened = store.clone();
        let issue = async move {
            let until = Instant::now().checked_add(lifetime);
            let number = opened.open().await?.issue_ticket(&id, lifetime).await?;
            Ok(Issued {
                store: opened,
                id,
                number,
                until,
                is_told: false,
            })
        };
        Self {
            store,
            issue: Some(Box::pin(issue)),
            is_begun: false,
        }
    }
}

impl Future for Issuing {
    type Output = Result<Issued, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.is_begun = true;
        let Some(issue) = &mut self.issue else {
            return Poll::Pending;
        };
        let issued = issue.as_mut().poll(cx);
        if issued.is_ready() {
            self.issue = None;
        }
        issued
    }
}

impl Drop for Issuing {
    fn drop(&mut self) {
        let process = self.store.process;
        if let Some(issue) = self.issue.take().filter(|_| self.is_begun)
            && let Some(runtime) = process.running()
        {
            // Its answer is dropped, and with it the ticket.
            process
                .parting
                .spawn_on(async { drop(issue.await) }, runtime);
        }
    }
}
