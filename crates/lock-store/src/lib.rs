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
//! - `diagnose`: raw questions to the servers of a configuration, to find out
//!   what is wrong with them.
//! - `metrics`: metrics through the `metrics` facade, and `describe_metrics`.
//! - `testing`: the conformance suite for implementations of [`Backend`].

mod acquisition;
mod backend;
mod background;
mod config;
mod engine;
mod error;
mod guard;
mod identity;
mod line;
mod place;
mod request;
mod store;
mod sync;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;
mod time;
mod timers;

#[cfg(feature = "diagnose")]
pub use backend::diagnose;
pub use backend::{
    Backend, Claim, Claimed, Conversations, Finish, Finished, InMemoryLockStore, Inspection, Issue,
    Issued, Listener, LockSummary, RedisLockStore, ServerInfo, Step, Survey, TicketName,
    Uncontended, WakeUp,
};
pub use config::{
    ConfigReader, DEFAULT_CLAIM_WINDOW, DEFAULT_LOCK_LIFETIME, DEFAULT_WAIT_TIME, DeploymentMode,
    Fallback, Layout, LockStoreConfig, ReadConfig, RedisConfig, Setting, Source, StoreType, Timing,
};
pub use error::{LockError, LockErrorKind};
pub use guard::LockGuard;
pub use identity::{ClientId, ConversationId, FencingToken, Owner, ParseOwnerError};
pub use place::Place;
pub use request::{Acquiring, Lock, Mode, Request, TakeTicket, TryLock};
pub use store::{DEFAULT_CLOSE_LIMIT, LockStore};
#[cfg(feature = "metrics")]
pub use telemetry::describe_metrics;
pub use ticket::{Changes, Ticket, TicketLock, TicketState};
pub use time::{SteadyClock, Timestamp};
