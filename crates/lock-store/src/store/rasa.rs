//! The methods of Rasa's `LockStore`, for programs that are written for it.
//!
//! A ticket that is issued here is in Rasa's manner: its lifetime runs from
//! issue, waiting included, and it is known by its number alone. New programs
//! use [`LockStore::lock`].

use std::time::Duration;

use super::LockStore;
use crate::backend::{Finish, Issue, Issued, TicketName};
use crate::config::check_lifetime;
use crate::error::LockError;
use crate::identity::ConversationId;
use crate::telemetry;
use crate::ticket::TicketLock;

impl LockStore {
    /// An empty lock for the conversation; nothing is stored.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lock_store::LockError> {
    /// use std::time::Duration;
    /// use lock_store::{LockStore, Timestamp};
    ///
    /// let store = LockStore::in_memory();
    /// let mut lock = store.create_lock("conversation-42")?;
    /// let number = lock.issue_ticket(Duration::from_secs(60), Timestamp::now());
    /// store.save_lock(&lock).await?;
    /// assert!(store.is_someone_waiting("conversation-42").await?);
    ///
    /// store.cleanup("conversation-42", number).await?;
    /// assert_eq!(store.get_lock("conversation-42").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_lock(&self, conversation_id: impl AsRef<str>) -> Result<TicketLock, LockError> {
        Ok(TicketLock::new(ConversationId::new(conversation_id)?))
    }

    /// The lock as it is stored; `None` when nobody holds or waits.
    pub async fn get_lock(
        &self,
        conversation_id: impl AsRef<str>,
    ) -> Result<Option<TicketLock>, LockError> {
        let id = ConversationId::new(conversation_id)?;
        let _operation = telemetry::operation("get");
        self.engine.backend.get(&id).resolve().await
    }

    /// Replaces what is stored for the lock's conversation. A lock without
    /// tickets is not stored. Not atomic with an earlier
    /// [`get_lock`](Self::get_lock): meant for repair, not for locking.
    pub async fn save_lock(&self, lock: &TicketLock) -> Result<(), LockError> {
        let _operation = telemetry::operation("put");
        self.engine.backend.put(lock.clone()).resolve().await
    }

    /// Deletes the lock: waiters learn that they are gone, the holder that it
    /// lost. Says whether there was one.
    pub async fn delete_lock(&self, conversation_id: impl AsRef<str>) -> Result<bool, LockError> {
        let id = ConversationId::new(conversation_id)?;
        let _operation = telemetry::operation("delete");
        self.engine.backend.delete(&id).resolve().await
    }

    /// The stored lock, or an empty one.
    pub async fn get_or_create_lock(
        &self,
        conversation_id: impl AsRef<str>,
    ) -> Result<TicketLock, LockError> {
        let id = ConversationId::new(conversation_id)?;
        let stored = self.get_lock(&id).await?;
        Ok(stored.unwrap_or_else(|| TicketLock::new(id)))
    }

    /// Issues a ticket in Rasa's manner, in one atomic step, and returns its
    /// number. It is served when `get_lock` says so, is not woken, and dies
    /// `lifetime` from now.
    ///
    /// # Cancel safety
    ///
    /// When dropped, a ticket may have been issued that then expires.
    pub async fn issue_ticket(
        &self,
        conversation_id: impl AsRef<str>,
        lifetime: Duration,
    ) -> Result<u64, LockError> {
        check_lifetime(lifetime)?;
        self.engine.check_open()?;
        let id = ConversationId::new(conversation_id)?;
        let issue = Issue::new(None, lifetime, self.engine.timing.claim_window);
        let _operation = telemetry::operation("issue");
        match self.engine.backend.issue(&id, &issue).resolve().await? {
            Issued::Served { number, .. } | Issued::Waiting { number, .. } => Ok(number),
            Issued::Taken => unreachable!("a request that queues is never told `Taken`"),
        }
    }

    /// Drops dead tickets at the head of the queue and wakes who is next.
    pub async fn update_lock(&self, conversation_id: impl AsRef<str>) -> Result<(), LockError> {
        let id = ConversationId::new(conversation_id)?;
        self.finish(id, TicketName::Nobodys).await
    }

    /// Whether there is any ticket, the served one included.
    pub async fn is_someone_waiting(
        &self,
        conversation_id: impl AsRef<str>,
    ) -> Result<bool, LockError> {
        let lock = self.get_lock(conversation_id).await?;
        Ok(lock.is_some_and(|lock| lock.is_someone_waiting()))
    }

    /// Removes a ticket by its number, in one atomic step, and promotes the
    /// next; harmless when it is not there. The lock is deleted with its last
    /// ticket.
    pub async fn finish_serving(
        &self,
        conversation_id: impl AsRef<str>,
        ticket_number: u64,
    ) -> Result<(), LockError> {
        let id = ConversationId::new(conversation_id)?;
        self.finish(id, TicketName::Number(ticket_number)).await
    }

    async fn finish(&self, id: ConversationId, ticket: TicketName) -> Result<(), LockError> {
        let _operation = telemetry::operation("finish");
        let finish = Finish::new(ticket, self.engine.timing.claim_window);
        let finished = self.engine.backend.finish(&id, &finish).resolve().await?;
        self.engine.on_finished(&id, &finished);
        Ok(())
    }

    /// What Rasa does when a message is done. As the lock is deleted with its
    /// last ticket, it is [`finish_serving`](Self::finish_serving).
    pub async fn cleanup(
        &self,
        conversation_id: impl AsRef<str>,
        ticket_number: u64,
    ) -> Result<(), LockError> {
        self.finish_serving(conversation_id, ticket_number).await
    }
}
