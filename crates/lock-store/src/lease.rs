//! Keeping leases alive: every third of its lifetime, a held lock with
//! `keep_alive` is claimed again.
//!
//! Renewals are moved back to a grid of a sixteenth of the lifetime, so that
//! those of many guards ring together and leave in one pipelined batch.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::error::LockError;
use crate::store::Shared;
use crate::wait::{Entry, Lease};

impl Shared {
    /// What the timekeeper found due.
    pub(crate) fn on_alarms(&self, due: Vec<Alarm>) {
        for alarm in due {
            match alarm {
                Alarm::Look(conversation) => self.see_after_line(&conversation),
                Alarm::Watch(conversation) => self.see_after_promoted(&conversation),
                Alarm::Renew(entry) => {
                    if let Some(entry) = entry.upgrade() {
                        self.renew(&entry);
                    }
                }
            }
        }
    }

    /// Sets the next renewal of a held lock that is to be kept alive.
    pub(crate) fn schedule_renewal(&self, entry: &Arc<Entry>) {
        if entry.keep_alive && entry.is_held() {
            let lifetime = entry.lifetime();
            let at = self.on_grid(Instant::now() + lifetime / 3, lifetime / 16);
            self.set_renewal(entry, at);
        }
    }

    /// The lease may have become as short as this.
    pub(crate) fn schedule_renewal_within(&self, entry: &Arc<Entry>, lifetime: Duration) {
        if entry.keep_alive {
            self.set_renewal(entry, Instant::now() + lifetime / 3);
        }
    }

    /// The storage did not answer: tries again while the lease runs.
    pub(crate) fn schedule_renewal_soon(&self, entry: &Arc<Entry>) {
        if entry.keep_alive && entry.is_held() {
            let soon = self.timing.wait_time.min(entry.lifetime() / 8);
            self.set_renewal(entry, Instant::now() + soon);
        }
    }

    fn set_renewal(&self, entry: &Arc<Entry>, at: Instant) {
        let key = self
            .alarms
            .set(at, Alarm::Renew(Arc::downgrade(entry)), &self.me);
        if let Some(before) = entry.set_renewal(key) {
            self.alarms.cancel(before);
        }
    }

    fn renew(&self, entry: &Arc<Entry>) {
        let _rang = entry.take_renewal();
        if !entry.is_held() {
            return;
        }
        match entry.lease() {
            Lease::Until(until) if until > Instant::now() => self.extend_by_itself(entry),
            Lease::Until(_) => {
                self.end(entry, LockError::lost(&entry.conversation));
            }
            Lease::Over(_) => {}
        }
    }

    fn on_grid(&self, at: Instant, grid: Duration) -> Instant {
        let since_start = at.saturating_duration_since(self.started);
        let past_the_line = since_start.as_nanos() % grid.as_nanos().max(1);
        // A sixteenth of a lifetime: far below u64's 580 years.
        at - Duration::from_nanos(u64::try_from(past_the_line).unwrap_or(0))
    }
}
