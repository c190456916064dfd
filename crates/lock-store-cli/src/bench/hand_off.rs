//! A line through which a lock is handed on.

use std::sync::Arc;

use lock_store::{LockError, Place};
use tokio::task::JoinSet;

use super::clock::{self, Nanos};
use super::measured::Turn;
use super::worker::Scene;

/// Those of this process who wait in the line.
pub(super) fn line(scene: &Arc<Scene>, tasks: &mut JoinSet<()>) {
    let plan = &scene.plan;
    for party in (scene.process..plan.waiters).step_by(plan.processes) {
        tasks.spawn(stand_in_line(scene.clone(), party));
    }
}

async fn stand_in_line(scene: Arc<Scene>, party: usize) {
    let mut turns = Turns {
        id: scene.plan.line(),
        next: party / scene.plan.processes,
        step: scene.plan.waiters.div_ceil(scene.plan.processes),
    };
    loop {
        match turns.take_all(&scene, party).await {
            Ok(()) => return,
            Err(error) => scene.fault(party, &error).await,
        }
    }
}

/// The turns of one party. Neighbours in the line, and one who is alone in it
/// and their next turn, are different clients.
struct Turns {
    id: String,
    next: usize,
    step: usize,
}

impl Turns {
    /// Until there is no time left. Whoever has the lock queues again before
    /// they hand it on, so the line is as long at each hand-off.
    async fn take_all(&mut self, scene: &Scene, party: usize) -> Result<(), LockError> {
        let Some(mut standing) = self.queue(scene).await? else {
            return Ok(());
        };
        loop {
            let (place, in_line) = standing;
            let guard = place.wait().await?;
            let ran = clock::now();
            let Some(next) = self.queue(scene).await? else {
                return guard.release().await;
            };
            let (token, number) = (guard.fencing_token().get(), guard.ticket_number());
            let released = clock::now();
            guard.release().await?;
            let turn = Turn {
                token,
                number,
                in_line,
                ran,
                released,
            };
            if !scene.turn(party, turn) {
                return Ok(());
            }
            standing = next;
        }
    }

    /// In line, and since when; nothing if there is no time left.
    async fn queue(&mut self, scene: &Scene) -> Result<Option<(Place, Nanos)>, LockError> {
        let Some(wait_timeout) = scene.wait_timeout(clock::now()) else {
            return Ok(None);
        };
        let store = &scene.stores[self.next % scene.stores.len()];
        self.next += self.step;
        let place = store
            .take_ticket(&self.id)
            .wait_timeout(wait_timeout)
            .await?;
        Ok(Some((place, clock::now())))
    }
}
