//! What people on call ask: where Redis is, what its servers say, which locks
//! there are, and what is wrong.

mod address;
#[cfg(feature = "diagnose")]
pub mod diagnose;
mod inspect;
mod listing;
mod servers;

pub use self::inspect::{Inspection, LockSummary, Survey};
pub(super) use self::listing::list;
pub use self::servers::ServerInfo;
