//! The steps of a ticket, as the rest of the library asks for them: what is
//! asked of the scripts, and what their answers come to.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::connect::within;
use super::element;
use super::order;
use super::replicas::Replicas;
use super::replies::{self, Answer};
use super::scripts::Action;
use super::sender::{Steps, strange_reply};
use super::subscriber::Subscriber;
use crate::backend::{Claim, Claimed, Finish, Finished, Issue, Issued, TicketName};
use crate::config::DEFAULT_CLAIM_WINDOW;
use crate::error::LockError;
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::telemetry;
use crate::ticket::{Changes, TicketLock};

/// How often a ticket is given back that may still be issued.
const AGAIN: Duration = Duration::from_secs(1);

/// What the steps need, besides a connection.
pub(super) struct Core {
    pub(super) steps: Arc<Steps>,
    pub(super) subscriber: Arc<Subscriber>,
    pub(super) replicas: Option<Replicas>,
}

impl Core {
    /// Mostly the answer of the script is all that there is to do; what else may
    /// be has its own box, so that this future is small.
    pub(super) async fn issue(
        self: Arc<Self>,
        id: ConversationId,
        issue: Issue,
    ) -> Result<Issued, LockError> {
        let timeout = self.steps.timeout();
        // A caller that does not queue does not wait, either.
        let wait = match issue.wait_timeout {
            Duration::ZERO => timeout,
            wait if issue.queue => wait,
            wait => wait.min(timeout),
        };
        let limit = Instant::from_std(issue.asked) + wait;
        self.subscriber.answer_within(issue.claim_window);
        let lease = issue.owner.map(|owner| Claim {
            asked: issue.asked,
            ..Claim::new(owner, issue.lifetime, issue.claim_window)
        });
        let request = self.steps.request(&id, Action::Issue(issue), limit);
        let done = order::issue(&self.steps, request).await?;
        let answer = replies::read_issue(done.reply).ok_or_else(|| strange_reply(&id))?;
        let issued = told(&id, answer);
        let is_all = self.replicas.is_none() && self.steps.route.can_gather();
        match lease {
            Some(lease) if !is_all => Box::pin(self.settle(id, issued, lease, limit)).await,
            _ => Ok(issued),
        }
    }

    /// What else has to be done for a ticket that was issued: replicas have to
    /// have it, or in a cluster its call must be heard.
    async fn settle(
        self: Arc<Self>,
        id: ConversationId,
        issued: Issued,
        lease: Claim,
        limit: Instant,
    ) -> Result<Issued, LockError> {
        match issued {
            Issued::Served { number, .. } => {
                self.subscriber.subscribe_soon(&id);
                // In time for the caller to be told what is missing.
                let now = Instant::now();
                let by = now + limit.saturating_duration_since(now) * 3 / 4;
                let (ticket, claim_window) = (TicketName::Owner(lease.owner), lease.claim_window);
                let claim = Claim {
                    number: Some(number),
                    ..lease
                };
                if let Err(error) = self.replicated(&id, claim, by).await {
                    self.leave(&id, ticket, claim_window).await;
                    return Err(error);
                }
            }
            Issued::Waiting {
                number,
                fencing_token,
                behind,
                ..
            } => {
                // Its turn may come meanwhile; and a caller that gives up soon
                // is to know that its ticket was there.
                let now = Instant::now();
                let left = limit.saturating_duration_since(now);
                let subscribed_by = now + (lease.claim_window / 3).min(left / 2);
                if self.subscriber.subscribed(&id, subscribed_by).await {
                    // Its turn may have come before its call could be heard.
                    let claim = Claim {
                        number: Some(number),
                        ..lease
                    };
                    let claimed = self.claim(&id, claim).await?;
                    return Ok(as_issued(claimed, number, fencing_token, behind));
                }
            }
            Issued::Taken => {}
        }
        Ok(issued)
    }

    pub(super) async fn claim(
        &self,
        id: &ConversationId,
        claim: Claim,
    ) -> Result<Claimed, LockError> {
        let limit = self.steps.limit_of(&claim);
        let again = self.replicas.as_ref().filter(|_| !claim.extends);
        let again = again.map(|replicas| (replicas, claim.clone()));
        let claimed = self.lease(id, Action::Claim(claim), limit).await?;
        if let (Claimed::Served { .. }, Some((replicas, claim))) = (claimed, again) {
            replicas.have(&self.steps, id, claim, limit).await?;
        }
        Ok(claimed)
    }

    pub(super) async fn advance(
        &self,
        id: &ConversationId,
        claim: Claim,
    ) -> Result<Claimed, LockError> {
        let limit = self.steps.limit_of(&claim);
        self.lease(id, Action::Advance(claim), limit).await
    }

    async fn lease(
        &self,
        id: &ConversationId,
        action: Action,
        limit: Instant,
    ) -> Result<Claimed, LockError> {
        let done = self
            .steps
            .send(self.steps.request(id, action, limit))
            .await?;
        let answer = replies::read_claim(done.reply).ok_or_else(|| strange_reply(id))?;
        Ok(told(id, answer))
    }

    /// An acquisition counts when enough replicas have it, by then.
    async fn replicated(
        &self,
        id: &ConversationId,
        claim: Claim,
        by: Instant,
    ) -> Result<(), LockError> {
        match &self.replicas {
            Some(replicas) => replicas.have(&self.steps, id, claim, by).await,
            None => Ok(()),
        }
    }

    /// Gives a ticket back that does not count.
    async fn leave(&self, id: &ConversationId, ticket: TicketName, claim_window: Duration) {
        let finish = Finish::new(ticket, claim_window);
        let limit = Instant::now() + self.steps.timeout();
        if let Err(error) = self.finish_once(id, &finish, limit).await {
            telemetry::release_failed(id, &error);
        }
    }

    /// As [`issue`](Self::issue): mostly one step is all.
    pub(super) async fn finish(
        self: Arc<Self>,
        id: ConversationId,
        finish: Finish,
    ) -> Result<Finished, LockError> {
        let least = self.steps.time_for(finish.claim_window);
        let limit = Instant::now() + finish.patience.unwrap_or(least).max(least);
        let TicketName::Owner(owner) = finish.ticket else {
            return Ok(Box::pin(self.finish_once(&id, &finish, limit)).await?.0);
        };
        let element = self.uncontended(owner, &finish);
        let mut in_doubt = false;
        if let Some(element) = element {
            let request = self.steps.request(&id, Action::Leave(element), limit);
            let done = self.steps.send(request).await?;
            if !matches!(done.reply, Value::Int(0)) {
                telemetry::deleted(&id);
                let finished = Finished {
                    found: true,
                    in_doubt: false,
                    next: None,
                };
                if !self.steps.indeterminate.has(owner) {
                    return Ok(finished);
                }
                let finishing = self.finish_repeats(id, owner, finish, done.generation);
                return Box::pin(finishing).await.map(|()| finished);
            }
            in_doubt = done.repeated;
        }
        Box::pin(self.finish_by_script(id, owner, finish, limit, in_doubt)).await
    }

    async fn finish_by_script(
        self: Arc<Self>,
        id: ConversationId,
        owner: Owner,
        finish: Finish,
        limit: Instant,
        in_doubt: bool,
    ) -> Result<Finished, LockError> {
        let (mut finished, generation) = self.finish_once(&id, &finish, limit).await?;
        if in_doubt && !finished.found {
            (finished.found, finished.in_doubt) = (true, true);
        }
        self.finish_repeats(id, owner, finish, generation).await?;
        Ok(finished)
    }

    /// The ticket was given back over that connection. If it may still be issued
    /// over another one, it is given back again.
    async fn finish_repeats(
        self: Arc<Self>,
        id: ConversationId,
        owner: Owner,
        finish: Finish,
        generation: u64,
    ) -> Result<(), LockError> {
        let Some(until) = self.steps.indeterminate.until(owner, generation) else {
            self.steps.indeterminate.forget(owner);
            return Ok(());
        };
        let is_awaited = finish.patience.is_none();
        let again = self.clone().finish_until(until, id, owner, finish);
        if is_awaited {
            self.steps.home.runtime.spawn(again);
        } else {
            again.await;
        }
        Ok(())
    }

    /// The element of a ticket that was served in an empty queue and has not
    /// changed since, as far as is known. `LREM` costs the server a quarter of
    /// the script, and calls no owner; so the first ticket that comes behind it
    /// changes the element, and then it is not found.
    fn uncontended(&self, owner: Owner, finish: &Finish) -> Option<String> {
        let ticket = finish.uncontended?;
        let is_usable = self.steps.scripts.are_lists()
            && self.replicas.is_none()
            && !self.subscriber.followed.take(owner);
        is_usable.then(|| element::uncontended(owner, ticket.lifetime, ticket.fencing_token))
    }

    /// Gives a ticket back again and again, as long as it may still be issued.
    async fn finish_until(
        self: Arc<Self>,
        until: Instant,
        id: ConversationId,
        owner: Owner,
        finish: Finish,
    ) {
        // One that was issued once more has another number.
        let finish = Finish {
            number: None,
            first_finished: None,
            uncontended: None,
            ..finish
        };
        while Instant::now() < until {
            tokio::time::sleep_until(until.min(Instant::now() + AGAIN)).await;
            let limit = until + self.steps.timeout();
            if let Err(error) = self.finish_once(&id, &finish, limit).await {
                telemetry::release_failed(&id, &error);
                break;
            }
        }
        self.steps.indeterminate.forget(owner);
    }

    async fn finish_once(
        &self,
        id: &ConversationId,
        finish: &Finish,
        limit: Instant,
    ) -> Result<(Finished, u64), LockError> {
        let request = self
            .steps
            .request(id, Action::Finish(finish.clone()), limit);
        let done = self.steps.send(request).await?;
        let answer = replies::read_finish(done.reply).ok_or_else(|| strange_reply(id))?;
        let (mut finished, is_empty) = told(id, answer);
        if is_empty && finished.found {
            telemetry::deleted(id);
        }
        if done.repeated && !finished.found {
            (finished.found, finished.in_doubt) = (true, true);
        }
        if let Some(next) = finished.next.filter(|_| done.elsewhere) {
            self.tell(id, "turn", next).await;
        }
        Ok((finished, done.generation))
    }

    /// Tells an owner something at the node that has the slot, besides what a
    /// script said: it may have said so at the one to which the slot is moving,
    /// where nobody listens yet.
    pub(super) async fn tell(&self, id: &ConversationId, word: &str, owner: Owner) {
        let steps = &self.steps;
        let links = steps.route.links_for(id);
        let Some(mut live) = links.and_then(|links| links[0].live()) else {
            return;
        };
        let mut publish = redis::cmd(steps.scripts.publish);
        publish
            .arg(steps.keys.channel_for(id, owner.client))
            .arg(format!("{word} {owner} {}", steps.keys.queue(id)));
        // A call that is lost costs time.
        let told: redis::RedisResult<Value> =
            within(steps.timeout(), publish.query_async(&mut live.connection)).await;
        drop(told);
    }

    pub(super) async fn get(&self, id: &ConversationId) -> Result<Option<TicketLock>, LockError> {
        let limit = Instant::now() + self.steps.timeout();
        let done = self
            .steps
            .send(self.steps.request(id, Action::Get, limit))
            .await?;
        let elements: Vec<Vec<u8>> =
            redis::from_redis_value(done.reply).map_err(|_| strange_reply(id))?;
        if elements.is_empty() {
            return Ok(None);
        }
        let key = self.steps.keys.queue(id);
        element::read_queue(id, &key, &elements).map(Some)
    }

    pub(super) async fn put(&self, lock: &TicketLock) -> Result<(), LockError> {
        let id = lock.conversation_id();
        let limit = Instant::now() + self.steps.timeout();
        let action = Action::Put {
            claim_window: DEFAULT_CLAIM_WINDOW,
            elements: lock.tickets().map(element::write).collect(),
        };
        let done = self
            .steps
            .send(self.steps.request(id, action, limit))
            .await?;
        let changes = replies::read_put(done.reply).ok_or_else(|| strange_reply(id))?;
        told(id, Answer { of: (), changes });
        Ok(())
    }

    pub(super) async fn delete(&self, id: &ConversationId) -> Result<bool, LockError> {
        let limit = Instant::now() + self.steps.timeout();
        let done = self
            .steps
            .send(self.steps.request(id, Action::Delete, limit))
            .await?;
        let found = matches!(done.reply, Value::Int(1));
        if found {
            telemetry::deleted(id);
        }
        Ok(found || done.repeated)
    }
}

/// Reports what a step did to others.
fn told<T>(id: &ConversationId, answer: Answer<T>) -> T {
    let Answer { of, changes } = answer;
    let Changes {
        expired, abandoned, ..
    } = &changes;
    if !expired.is_empty() || !abandoned.is_empty() {
        telemetry::expired(id, &changes);
    }
    of
}

fn as_issued(
    claimed: Claimed,
    number: u64,
    fencing_token: FencingToken,
    behind: FencingToken,
) -> Issued {
    match claimed {
        Claimed::Served {
            number,
            fencing_token,
        } => Issued::Served {
            number,
            fencing_token,
        },
        Claimed::Waiting { ahead, look_again } => Issued::Waiting {
            number,
            fencing_token,
            ahead,
            look_again,
            behind,
        },
        // It went while we subscribed: looking finds that out at once.
        Claimed::Gone => Issued::Waiting {
            number,
            fencing_token,
            ahead: 0,
            look_again: Duration::ZERO,
            behind,
        },
    }
}

/// A call for a ticket that has no waiter here.
///
/// Its caller may not have noticed yet that it was issued, because its executor
/// is busy: then the ticket is claimed for it. Or its request was given up, and
/// done all the same: then the ticket is given back.
pub(super) fn on_unknown_turn(core: &Weak<Core>, id: ConversationId, owner: Owner) {
    let Some(core) = core.upgrade() else {
        return;
    };
    let runtime = core.steps.home.runtime.clone();
    if let Some(asked) = core.steps.order.asked(&id, owner) {
        runtime.spawn(async move {
            let claim = Claim {
                owner,
                number: None,
                lifetime: asked.lifetime,
                claim_window: asked.claim_window,
                extends: false,
                asked: Instant::now().into_std(),
            };
            if let Err(error) = core.claim(&id, claim).await {
                telemetry::look_failed(&id, &error);
            }
        });
    } else if core.steps.indeterminate.has(owner) {
        runtime.spawn(async move {
            let ticket = TicketName::Owner(owner);
            core.leave(&id, ticket, DEFAULT_CLAIM_WINDOW).await;
        });
    }
}
