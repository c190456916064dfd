//! Locks for conversations.
//!
//! Messages of one conversation are handled one at a time, in the order in
//! which they arrived; messages of different conversations in parallel. Each
//! message takes a *ticket* and is served when its ticket comes first.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), lock_store::LockError> {
//! use lock_store::LockStore;
//!
//! let store = LockStore::in_memory();
//! let reply = store
//!     .run("conversation-42", async |guard| {
//!         // One message of the conversation is handled here.
//!         format!("handled under token {}", guard.fencing_token())
//!     })
//!     .await?;
//! assert!(reply.starts_with("handled"));
//! # Ok(())
//! # }
//! ```
//!
//! The way of a message through the code: [`LockStore::lock`] takes a ticket
//! from the [`Backend`]; it is served, or waits in line until it is woken;
//! its [`LockGuard`] gives the ticket back, which wakes the next. The rules
//! of a queue are those of [`TicketLock`].
//!
//! # Features
//!
//! - `metrics`: metrics through the `metrics` facade.
//! - `testing`: the conformance suite for implementations of [`Backend`].

mod alarm;
mod backend;
mod config;
mod error;
mod guard;
mod identity;
mod lease;
mod store;
mod sync;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;
mod time;
mod wait;

pub use backend::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, InMemoryLockStore, Inspection, Issue,
    Issued, Listener, LockSummary, RedisLockStore, Step, Survey, TicketName, WakeUp,
};
pub use config::{
    DEFAULT_CLAIM_WINDOW, DEFAULT_LOCK_LIFETIME, DEFAULT_WAIT_TIME, DeploymentMode, Fallback,
    Layout, LockStoreConfig, RedisConfig, StoreType, Timing,
};
pub use error::{LockError, LockErrorKind};
pub use guard::LockGuard;
pub use identity::{ClientId, ConversationId, FencingToken, Owner, ParseOwnerError};
pub use store::{Acquiring, Lock, LockStore, Mode, Request, TakeTicket, TryLock};
pub use ticket::{Changes, Ticket, TicketLock, TicketState};
pub use time::{SteadyClock, Timestamp};
pub use wait::Place;
