//! What can go wrong, told apart by what the caller can do about it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::ConversationId;

type Source = Arc<dyn Error + Send + Sync + 'static>;

/// Why a lock could not be acquired, kept or given back.
///
/// Its text says what happened, for which conversation, and what to do. The
/// predicates and [`kind`](Self::kind) are for programs. Cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lock_store::LockError> {
/// use std::time::Duration;
/// use lock_store::{LockErrorKind, LockStore};
///
/// let store = LockStore::in_memory();
/// let _held = store.lock("conversation-42").await?;
/// let error = store
///     .lock("conversation-42")
///     .wait_timeout(Duration::from_millis(5))
///     .await
///     .unwrap_err();
/// assert_eq!(error.kind(), LockErrorKind::TimedOut);
/// assert_eq!(error.ahead(), Some(1));
/// assert!(error.is_retryable());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LockError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: LockErrorKind,
    conversation_id: Option<ConversationId>,
    waited: Option<Duration>,
    ahead: Option<u64>,
    detail: Option<String>,
    source: Option<Source>,
}

/// The kinds of [`LockError`], by what the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockErrorKind {
    /// The turn did not come within the wait timeout. The ticket was given
    /// back. Trying again joins the queue at its end.
    TimedOut,
    /// A held lock is no longer ours: its lease ran out, or somebody deleted
    /// it. What was done under it may have met another holder's work.
    Lost,
    /// A waiting ticket is no longer in the queue: the lock was deleted, the
    /// store lost its data, or this process was taken for dead. Trying again
    /// joins the queue at its end.
    Gone,
    /// The store could not be reached, or did not answer in time.
    Unavailable,
    /// The conversation id is empty or too long.
    InvalidConversationId,
    /// A setting is wrong. The text says which and what would be right.
    Config,
    /// What is stored for the conversation is not a lock.
    Corrupt,
    /// The store was closed, or the runtime in which it was made has ended.
    Closed,
    /// Fewer replicas than configured have acknowledged the acquisition in
    /// time; the ticket is given back. Trying again joins the queue at its end.
    NotReplicated,
}

impl LockErrorKind {
    /// A short name, as metrics use it for the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Gone => "gone",
            Self::Unavailable => "unavailable",
            Self::InvalidConversationId => "invalid_conversation_id",
            Self::Config => "config",
            Self::Corrupt => "corrupt",
            Self::Closed => "closed",
            Self::NotReplicated => "not_replicated",
        }
    }
}

impl LockError {
    /// What happened.
    pub fn kind(&self) -> LockErrorKind {
        self.0.kind
    }

    /// The conversation that it happened to.
    pub fn conversation_id(&self) -> Option<&ConversationId> {
        self.0.conversation_id.as_ref()
    }

    /// How long the caller had waited for its turn.
    pub fn waited(&self) -> Option<Duration> {
        self.0.waited
    }

    /// How many tickets were ahead when last looked.
    pub fn ahead(&self) -> Option<u64> {
        self.0.ahead
    }

    /// Whether the same call may succeed later: timed out, gone, unavailable,
    /// not replicated.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            LockErrorKind::TimedOut
                | LockErrorKind::Gone
                | LockErrorKind::Unavailable
                | LockErrorKind::NotReplicated
        )
    }

    /// Whether the turn did not come in time.
    pub fn is_timed_out(&self) -> bool {
        self.0.kind == LockErrorKind::TimedOut
    }

    /// Whether a held lock was lost.
    pub fn is_lost(&self) -> bool {
        self.0.kind == LockErrorKind::Lost
    }

    /// Whether a waiting ticket left the queue without its owner's doing.
    pub fn is_gone(&self) -> bool {
        self.0.kind == LockErrorKind::Gone
    }

    /// Whether the store could not be reached.
    pub fn is_unavailable(&self) -> bool {
        self.0.kind == LockErrorKind::Unavailable
    }

    /// For backends: the store could not be reached, or did not answer.
    /// `source` must carry no secret.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync + 'static>>) -> Self {
        Self::new(LockErrorKind::Unavailable).with_source(source)
    }

    /// For backends: what is stored is not a lock. `detail` names the place
    /// and what was found there.
    pub fn corrupt(detail: impl Into<String>) -> Self {
        Self::new(LockErrorKind::Corrupt).with_detail(detail)
    }

    /// A setting is wrong. `detail` names it and what would be right.
    pub fn config(detail: impl Into<String>) -> Self {
        Self::new(LockErrorKind::Config).with_detail(detail)
    }

    /// The same error, for this conversation.
    #[must_use]
    pub fn for_conversation(self, id: &ConversationId) -> Self {
        self.edit(|inner| inner.conversation_id = Some(id.clone()))
    }

    pub(crate) fn new(kind: LockErrorKind) -> Self {
        Self(Arc::new(Inner {
            kind,
            conversation_id: None,
            waited: None,
            ahead: None,
            detail: None,
            source: None,
        }))
    }

    /// The runtime in which a store was made has ended.
    pub(crate) fn runtime_ended() -> Self {
        Self::new(LockErrorKind::Closed)
            .with_detail("the runtime in which the store was made has ended")
    }

    pub(crate) fn not_replicated(missing: impl Into<String>) -> Self {
        Self::new(LockErrorKind::NotReplicated).with_detail(missing)
    }

    pub(crate) fn lost(id: &ConversationId) -> Self {
        Self::new(LockErrorKind::Lost).for_conversation(id)
    }

    pub(crate) fn invalid_conversation_id(id: &str, found: &str) -> Self {
        let start: String = id.chars().take(40).collect();
        let detail = if start.is_empty() {
            found.to_owned()
        } else {
            format!("{found}, it starts with {start:?}")
        };
        Self::new(LockErrorKind::InvalidConversationId).with_detail(detail)
    }

    pub(crate) fn with_detail(self, detail: impl Into<String>) -> Self {
        self.edit(|inner| inner.detail = Some(detail.into()))
    }

    pub(crate) fn with_source(
        self,
        source: impl Into<Box<dyn Error + Send + Sync + 'static>>,
    ) -> Self {
        self.edit(|inner| inner.source = Some(Arc::from(source.into())))
    }

    pub(crate) fn after_waiting(self, waited: Duration, ahead: u64) -> Self {
        self.edit(|inner| {
            inner.waited = Some(waited);
            inner.ahead = Some(ahead);
        })
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(match inner.kind {
            LockErrorKind::TimedOut => "timed out waiting for the lock",
            LockErrorKind::Lost => "lost the lock",
            LockErrorKind::Gone => "the ticket is gone from the queue",
            LockErrorKind::Unavailable => "the lock store is unavailable",
            LockErrorKind::InvalidConversationId => "invalid conversation id",
            LockErrorKind::Config => "configuration error",
            LockErrorKind::Corrupt => "the stored lock is damaged",
            LockErrorKind::Closed => "the lock store is closed",
            LockErrorKind::NotReplicated => "too few replicas have the lock",
        })?;
        if let Some(id) = &inner.conversation_id {
            write!(f, " of conversation {id:?}")?;
        }
        if let Some(waited) = inner.waited {
            write!(f, " after {:.3} s", waited.as_secs_f64())?;
        }
        if let Some(ahead) = inner.ahead {
            write!(f, ", with {ahead} ahead")?;
        }
        if let Some(detail) = &inner.detail {
            write!(f, ": {detail}")?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        f.write_str(match inner.kind {
            LockErrorKind::TimedOut => "; allow a longer wait_timeout, or handle messages faster",
            LockErrorKind::Lost => {
                "; do not act on what it protected; allow a longer lifetime, or use keep_alive"
            }
            LockErrorKind::Gone => "; take a new ticket",
            LockErrorKind::Unavailable | LockErrorKind::NotReplicated => "; trying again can help",
            LockErrorKind::InvalidConversationId => "; it must have 1 to 1024 bytes",
            LockErrorKind::Corrupt => "; nothing was changed: repair or delete it",
            LockErrorKind::Closed => "; make a new one",
            LockErrorKind::Config => "",
        })
    }
}

impl fmt::Debug for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("LockError")
            .field("kind", &inner.kind)
            .field("conversation_id", &inner.conversation_id)
            .field("waited", &inner.waited)
            .field("ahead", &inner.ahead)
            .field("detail", &inner.detail)
            .field("source", &inner.source)
            .finish()
    }
}

impl Error for LockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
