//! Waiting until replicas have an acquisition.
//!
//! `WAIT` blocks its connection, and speaks of the writes of that connection.
//! So each server has one more link for it, over which the claim of a ticket
//! that is served is written once more. Many of them share one `WAIT`: what
//! comes while one is under way goes with the next.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{RedisResult, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::connect::{Node, within};
use super::connection::Connection;
use super::errors::is_unknown_script;
use super::replies::read_claim;
use super::scripts::{Action, Times};
use super::sender::Steps;
use crate::backend::{Claim, Claimed};
use crate::error::LockError;
use crate::identity::ConversationId;
use crate::sync::Mutex;

/// The longest that an acquisition waits for replicas.
fn longest_wait(timeout: Duration) -> Duration {
    // A longer time for replies says that the machines are slow.
    Duration::from_secs(1).max(timeout / 10)
}

#[derive(Debug)]
pub(super) struct Replicas {
    needed: usize,
    servers: Mutex<HashMap<Option<Node>, mpsc::UnboundedSender<Asked>>>,
}

#[derive(Debug)]
struct Asked {
    id: ConversationId,
    claim: Claim,
    told: oneshot::Sender<Result<(), String>>,
}

impl Replicas {
    /// `None` if none are needed.
    pub(super) fn new(needed: usize) -> Option<Self> {
        (needed > 0).then(|| Self {
            needed,
            servers: Mutex::default(),
        })
    }

    /// Waits until the replicas have it that the ticket is served, until `by` at
    /// the latest.
    ///
    /// # Errors
    ///
    /// Not replicated, with what was missing. The ticket is still there.
    pub(super) async fn have(
        &self,
        steps: &Arc<Steps>,
        id: &ConversationId,
        claim: Claim,
        by: Instant,
    ) -> Result<(), LockError> {
        let (told, outcome) = oneshot::channel();
        let asked = Asked {
            id: id.clone(),
            claim,
            told,
        };
        self.ask(steps, id, asked);
        let by = by.min(Instant::now() + 2 * longest_wait(steps.timeout()));
        let outcome = timeout_at(by, outcome).await;
        match outcome {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(missing))) => Err(LockError::not_replicated(missing).for_conversation(id)),
            Ok(Err(_)) | Err(_) => {
                let missing = "they did not acknowledge it in time";
                Err(LockError::not_replicated(missing).for_conversation(id))
            }
        }
    }

    fn ask(&self, steps: &Arc<Steps>, id: &ConversationId, mut asked: Asked) {
        let links = steps.route.links_for(id);
        let node = links.and_then(|links| links[0].node().cloned());
        let mut servers = self.servers.lock();
        if let Some(known) = servers.get(&node) {
            match known.send(asked) {
                Ok(()) => return,
                Err(mpsc::error::SendError(again)) => asked = again,
            }
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let link = Connection::new(
            steps.connector.clone(),
            node.clone(),
            steps.scripts.clone(),
            &steps.home.runtime,
        );
        steps
            .home
            .runtime
            .spawn(confirm(link, Arc::downgrade(steps), self.needed, receiver));
        // Cannot fail: the receiver lives in the task.
        let _ = sender.send(asked);
        servers.insert(node, sender);
    }
}

async fn confirm(
    link: Connection,
    steps: Weak<Steps>,
    needed: usize,
    mut asked: mpsc::UnboundedReceiver<Asked>,
) {
    let mut batch = Vec::new();
    while asked.recv_many(&mut batch, 512).await > 0 {
        let Some(steps) = steps.upgrade() else {
            return;
        };
        let outcomes = confirm_batch(&link, &steps, needed, &batch).await;
        match outcomes {
            Ok(outcomes) => {
                for (asked, outcome) in batch.drain(..).zip(outcomes) {
                    let _ = asked.told.send(outcome);
                }
            }
            Err(error) => {
                for asked in batch.drain(..) {
                    let _ = asked.told.send(Err(error.to_string()));
                }
            }
        }
    }
}

/// For each of them whether the replicas have it.
async fn confirm_batch(
    link: &Connection,
    steps: &Steps,
    needed: usize,
    batch: &[Asked],
) -> RedisResult<Vec<Result<(), String>>> {
    let longest_wait = longest_wait(steps.timeout());
    let limit = Instant::now() + longest_wait;
    let Ok(mut live) = timeout_at(limit, link.connected()).await else {
        let silent = std::io::Error::from(std::io::ErrorKind::NotConnected);
        return Err(silent.into());
    };
    let patience = longest_wait.min(steps.timeout()).as_millis();
    let patience = u64::try_from(patience).unwrap_or(1000);
    let mut by_text = false;
    let mut replies = loop {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for asked in batch {
            let action = Action::Claim(asked.claim.clone());
            let command = (steps.scripts).command(&action, &asked.id, by_text, &Times::NONE);
            pipeline.add_command(command);
        }
        pipeline.cmd("WAIT").arg(needed).arg(patience);
        let reply = pipeline.query_async(&mut live.connection);
        let replies: Vec<Value> = match within(2 * longest_wait, reply).await {
            Ok(replies) => replies,
            Err(error) => {
                link.replace(live.generation);
                return Err(error);
            }
        };
        // The server has forgotten the scripts.
        if by_text || !replies.iter().any(is_unknown_script) {
            break replies;
        }
        by_text = true;
    };
    let have = match replies.pop() {
        Some(Value::Int(have)) => usize::try_from(have).unwrap_or(0),
        Some(Value::ServerError(error)) => return Ok(vec![Err(error.to_string()); batch.len()]),
        _ => 0,
    };
    let outcome = |asked: &Asked, reply: Value| {
        let action = Action::Claim(asked.claim.clone());
        match read_claim(steps.scripts.answer(&action, &asked.id, reply)).map(|answer| answer.of) {
            Some(Claimed::Served { .. }) if have >= needed => Ok(()),
            Some(Claimed::Served { .. }) => Err(format!(
                "{have} of {needed} replicas have acknowledged it in time"
            )),
            _ => Err("the ticket was not there any more".into()),
        }
    };
    let outcomes = batch.iter().zip(replies);
    Ok(outcomes
        .map(|(asked, reply)| outcome(asked, reply))
        .collect())
}
