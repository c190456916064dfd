//! The mutex that the store is built on, replaced by shuttle's when the
//! interleavings are explored (`RUSTFLAGS="--cfg shuttle"`).

#[cfg(not(shuttle))]
use std::sync as imp;

#[cfg(shuttle)]
use shuttle::sync as imp;

pub(crate) use imp::MutexGuard;

/// A mutex that outlives a panic of its holder.
///
/// What it protects here is changed in steps that leave it whole, so a panic
/// in one task is no reason to fail all the others.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
