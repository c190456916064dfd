//! A lock and its release, again and again.

use std::sync::Arc;

use lock_store::LockError;
use tokio::task::JoinSet;

use super::clock;
use super::worker::Scene;

/// So many in a row, then as many round trips.
const SLICE: usize = 20;

/// Nobody else is there: a lock and its release, and round trips beside it, so
/// that what disturbs the one disturbs the other as well.
pub(super) async fn one_task(scene: Arc<Scene>) {
    let id = scene.plan.one_task();
    loop {
        for _ in 0..SLICE {
            if !cycle(&scene, 0, &id).await {
                return;
            }
        }
        let Some(redis) = &scene.redis else { continue };
        for _ in 0..SLICE {
            if clock::now() >= scene.until() {
                return;
            }
            match redis.ping().await {
                Ok(time) => scene.round_trip(time),
                Err(error) => {
                    scene.fault(0, &error).await;
                    break;
                }
            }
        }
    }
}

/// All tasks of this process at once.
pub(super) fn load(scene: &Arc<Scene>, tasks: &mut JoinSet<()>) {
    let first = scene.process * scene.plan.tasks;
    for task in first..first + scene.plan.tasks {
        let scene = scene.clone();
        tasks.spawn(async move {
            let conversations = scene.plan.conversations_of(task);
            for id in conversations.iter().cycle() {
                if !cycle(&scene, task, id).await {
                    return;
                }
            }
        });
    }
}

/// Whether there was still time for it.
async fn cycle(scene: &Scene, task: usize, id: &str) -> bool {
    // In memory nothing else would ever let others run.
    tokio::task::consume_budget().await;
    let begun = clock::now();
    let Some(wait_timeout) = scene.wait_timeout(begun) else {
        return false;
    };
    let outcome: Result<(), LockError> = async {
        let request = scene.stores[0].lock(id);
        let guard = request.wait_timeout(wait_timeout).await?;
        guard.release().await
    }
    .await;
    match outcome {
        Ok(()) => scene.cycle(task, begun, clock::now()),
        Err(error) => scene.fault(task, &error).await,
    }
    true
}
