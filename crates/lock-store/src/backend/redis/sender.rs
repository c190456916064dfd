//! Sends steps, and sends them again until they are done or their callers'
//! limits have come.
//!
//! A step leaves at once, from its caller's own task; or with others in one
//! call, when many are under way ([`gather`](super::gather)). Issues of one
//! conversation keep their [order](super::order).
//!
//! **Why it is safe to send a step again.** Each step finds out whether it was
//! done: a repeated issue finds its ticket by its owner, a claim sets the same
//! lease once more, a finish removes what may not be there. And each step that
//! would do harm when it comes late carries the moment until which it may be
//! done, by the server's clock: the end of its attempt. So of two attempts only
//! the second can be carried out once it was sent.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::backoff::{Backoff, SENDING};
use super::connect::{Connector, Node};
use super::connection::{Connection, Failure, Live};
use super::element;
use super::errors::{Decision, classify, classify_text, plain};
use super::gather::{PRESSURE, STEPS};
use super::home::Home;
use super::indeterminate::{Indeterminate, Watch};
use super::keys::Keys;
use super::layout_rasa::Turn;
use super::order::Order;
use super::replies::{self, OfMany};
use super::routing::{Links, Route};
use super::scripts::{Action, Scripts, Times};
use crate::backend::Claim;
use crate::error::LockError;
use crate::identity::ConversationId;
use crate::telemetry;

/// An attempt is not limited to less than this by a window or a lease: on a busy
/// machine a reply may take some time, and a connection is not to be replaced
/// for that.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);

/// What every step needs.
pub(super) struct Steps {
    pub(super) keys: Keys,
    pub(super) scripts: Arc<Scripts>,
    pub(super) connector: Arc<Connector>,
    pub(super) route: Route,
    pub(super) order: Order,
    pub(super) indeterminate: Arc<Indeterminate>,
    pub(super) home: Home,
}

/// A step as its caller asks for it.
pub(super) struct Request {
    pub(super) id: ConversationId,
    pub(super) action: Action,
    /// When the caller gives up.
    pub(super) limit: Instant,
    /// Whether an attempt was made that may have been carried out.
    repeated: bool,
    /// Of an issue: the attempts whose outcome is not known.
    watch: Watch,
}

/// A step that was done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) reply: Value,
    /// The connection over which it was done.
    pub(super) generation: u64,
    /// Whether an earlier attempt may have done it already.
    pub(super) repeated: bool,
    /// Whether it was done by another node than the one that calls come from.
    pub(super) elsewhere: bool,
}

pub(super) type Answer = Result<Done, LockError>;

/// A request that others carry, and where its answer goes.
pub(super) struct Sent {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Answer>,
}

impl Sent {
    /// Whether its caller has given up, or was dropped.
    pub(super) fn is_over(&self) -> bool {
        self.answer.is_closed() || self.request.limit <= Instant::now()
    }
}

impl Steps {
    /// How long one reply may take.
    pub(super) fn timeout(&self) -> Duration {
        self.connector.timeout
    }

    /// How long a step goes on that a claim window depends on: as long as any
    /// reply may take, and long enough for a second attempt within the window.
    pub(super) fn time_for(&self, claim_window: Duration) -> Duration {
        let attempt = (claim_window / 3).max(SHORTEST_ATTEMPT).min(self.timeout());
        let two = 2 * attempt + SHORTEST_ATTEMPT;
        two.min(claim_window)
            .max(self.timeout())
            .max(3 * SHORTEST_ATTEMPT)
    }

    /// When a claim is given up: its lease would be over, too.
    pub(super) fn limit_of(&self, claim: &Claim) -> Instant {
        let time = self.time_for(claim.claim_window);
        Instant::now() + time.min(claim.lifetime.max(3 * SHORTEST_ATTEMPT))
    }

    pub(super) fn request(&self, id: &ConversationId, action: Action, limit: Instant) -> Request {
        Request {
            watch: Watch::new(&self.indeterminate, &action),
            id: id.clone(),
            action,
            limit,
            repeated: false,
        }
    }

    /// Does a step. It has left, or waits to leave with others, when this was
    /// polled once.
    ///
    /// # Errors
    ///
    /// Unavailable no later than its limit; or what is stored is damaged.
    pub(super) async fn send(self: &Arc<Self>, request: Request) -> Answer {
        if self.home.has_ended() {
            return Err(ended(&request.id));
        }
        match self.gather(request) {
            Ok(answered) => {
                let answer = answered.await;
                answer.unwrap_or_else(|_| Err(LockError::runtime_ended()))
            }
            Err(request) => self.send_alone(request).await,
        }
    }

    /// Has a step leave together with others, if many requests are under way;
    /// else hands it back. Dropping the receiver takes it out.
    #[allow(clippy::result_large_err)] // it is the request itself
    fn gather(self: &Arc<Self>, request: Request) -> Result<oneshot::Receiver<Answer>, Request> {
        let Some(links) = self.route.links_for(&request.id) else {
            return Err(request);
        };
        let (_, index) = request.id.place(links.len());
        let connection = &links[index];
        let is_under_pressure =
            connection.gathered.is_gathering() || connection.under_way() >= PRESSURE;
        if !is_under_pressure
            || !self.route.can_gather()
            || !self.scripts.can_gather(&request.action)
            || !connection.is_live()
        {
            return Err(request);
        }
        let (answer, answered) = oneshot::channel();
        if connection.gathered.push(Sent { request, answer }) {
            let (steps, links) = (self.clone(), links.clone());
            self.home.runtime.spawn(async move {
                while let Some(step) = links[index].gathered.next() {
                    steps.send_together(step).await;
                }
            });
        }
        Ok(answered)
    }

    /// Sends one step by the commands that are best for it alone. Mostly one
    /// attempt is all that it takes; what another one needs has its own box, so
    /// that this future is small.
    pub(super) async fn send_alone(self: &Arc<Self>, mut request: Request) -> Answer {
        let is_simple = self.scripts.are_lists();
        if is_simple
            && let Some(links) = self.route.links_for(&request.id)
            && let connection = link_for(&links, &request.id)
            && let Some(mut live) = connection.live()
        {
            let (command, ends, is_proof) =
                self.prepare(&mut request, connection, live.generation, false);
            let call = connection.call(&mut live, &command, false, ends, is_proof);
            let outcome = call.await;
            if let Ok(Ok(reply)) = outcome {
                if let Some(done) = done(&mut request, reply, connection, &live, false) {
                    return Ok(done);
                }
            } else {
                return Box::pin(self.send_again(request, Some((links, live, outcome)))).await;
            }
        }
        Box::pin(self.send_again(request, None)).await
    }

    /// The command for the next attempt, until when it may be answered, and
    /// whether a connection that does not do so is dead.
    fn prepare(
        &self,
        request: &mut Request,
        connection: &Connection,
        generation: u64,
        by_text: bool,
    ) -> (Cmd, Instant, bool) {
        let now = Instant::now();
        let ends = request.limit.min(now + self.attempt_limit(&request.action));
        // A caller that waits less long proves nothing.
        let is_proof = request.limit.saturating_duration_since(now) >= SHORTEST_ATTEMPT;
        request.watch.sent(generation, ends);
        let times = Times {
            until: connection.server_time() + ends.saturating_duration_since(now),
            repeated: request.repeated,
        };
        let command = self
            .scripts
            .command(&request.action, &request.id, by_text, &times);
        (command, ends, is_proof)
    }

    /// As [`send_alone`](Self::send_alone), until it is done; after an attempt
    /// that failed, if one was made.
    async fn send_again(
        self: &Arc<Self>,
        mut request: Request,
        failed: Option<(Links, Live, Result<RedisResult<Value>, Failure>)>,
    ) -> Answer {
        let mut attempt = Attempt::new(self, request.limit);
        if let Some((links, live, outcome)) = failed {
            let connection = link_for(&links, &request.id);
            let again = attempt
                .over(&request.id, connection, &live, outcome)
                .await?;
            request.repeated |= again.may_be_done;
        }
        loop {
            let (links, index, mut live) = attempt.connection(&request.id, request.limit).await?;
            let connection = &links[index];
            let turn = attempt.turn(&request).await?;
            let (command, ends, is_proof) =
                self.prepare(&mut request, connection, live.generation, attempt.by_text);
            let asking = attempt.elsewhere.take().is_some();
            let outcome = if self.scripts.are_lists() {
                let call = connection.call(&mut live, &command, asking, ends, is_proof);
                call.await
            } else {
                // What is not a list has to be known to the letter the next
                // time; so the answer counts even if its caller goes away.
                let (scripts, id, action) = (
                    self.scripts.clone(),
                    request.id.clone(),
                    request.action.clone(),
                );
                let (links, mut live) = (links.clone(), live.clone());
                let answered = see_through(&self.home.runtime, async move {
                    let call = links[index].call(&mut live, &command, asking, ends, is_proof);
                    let answer = call.await;
                    let answer =
                        answer.map(|it| it.map(|reply| scripts.answer(&action, &id, reply)));
                    drop(turn);
                    answer
                });
                answered.await.unwrap_or(Err(Failure::Broken))
            };
            match outcome {
                Ok(Ok(reply)) => {
                    if let Some(done) = done(&mut request, reply, connection, &live, asking) {
                        return Ok(done);
                    }
                    // By a clock that is not what we took it for.
                    attempt.reason = Some("the request reached Redis too late".into());
                    if Instant::now() >= request.limit {
                        return Err(attempt.out_of_time(&request.id));
                    }
                }
                outcome => {
                    let again = attempt
                        .over(&request.id, connection, &live, outcome)
                        .await?;
                    request.repeated |= again.may_be_done;
                }
            }
        }
    }

    /// Sends several steps in one call: at most [`STEPS`], in a cluster of one
    /// conversation. It belongs to no caller: dropping one takes out its step,
    /// and what was done for it is given back.
    pub(super) async fn send_together(self: &Arc<Self>, mut steps: Vec<Sent>) {
        let mut attempt = Attempt::new(self, Instant::now());
        loop {
            steps = Self::without_ended(steps, &attempt);
            let Some(first) = steps.first() else {
                return;
            };
            if steps.len() == 1 || !self.scripts.are_lists() {
                for Sent { request, answer } in steps {
                    let (id, undo) = (request.id.clone(), request.action.undo());
                    let done = self.send_alone(request).await;
                    self.deliver(&id, undo, answer, done);
                }
                return;
            }
            let id = first.request.id.clone();
            let limits = steps.iter().map(|step| step.request.limit);
            let (earliest, latest) = limits
                .fold((first.request.limit, first.request.limit), |a, l| {
                    (a.0.min(l), a.1.max(l))
                });
            attempt.limit = latest;
            let Ok((links, index, mut live)) = attempt.connection(&id, earliest).await else {
                continue;
            };
            let connection = &links[index];
            let now = Instant::now();
            let limit = |step: &Sent| self.attempt_limit(&step.request.action);
            let shortest = steps.iter().map(limit).min().unwrap_or(self.timeout());
            let ends = now + shortest;
            for step in &mut steps {
                step.request.watch.sent(live.generation, ends);
            }
            let until = connection.server_time() + shortest;
            debug_assert!(steps.len() <= STEPS);
            let listed = steps
                .iter()
                .map(|Sent { request: r, .. }| (&r.action, &r.id, r.repeated));
            let command = self.scripts.many(listed, attempt.by_text, until);
            let asking = attempt.elsewhere.take().is_some();
            match connection
                .call(&mut live, &command, asking, ends, true)
                .await
            {
                Ok(Ok(reply)) => {
                    if let Some(now) = replies::server_time(&reply) {
                        connection.set_server_time(now);
                    }
                    if replies::too_late(&reply).is_some() {
                        attempt.reason = Some("the request reached Redis too late".into());
                        continue;
                    }
                    steps = self.settle(steps, reply, &live, asking, &mut attempt);
                    if !steps.is_empty() {
                        // What failed may pass, or another server has it now.
                        connection.replace(live.generation);
                        let _ = attempt.pause(&id).await;
                    }
                }
                outcome => match attempt.over(&id, connection, &live, outcome).await {
                    Ok(again) => {
                        for step in &mut steps {
                            step.request.repeated |= again.may_be_done;
                        }
                    }
                    Err(error) => {
                        for Sent { request, answer } in steps {
                            let _ = answer.send(Err(error.clone().for_conversation(&request.id)));
                        }
                        return;
                    }
                },
            }
        }
    }

    /// Answers the steps of a call. Returns those that have to be sent again.
    fn settle(
        self: &Arc<Self>,
        steps: Vec<Sent>,
        reply: Value,
        live: &Live,
        elsewhere: bool,
        attempt: &mut Attempt<'_>,
    ) -> Vec<Sent> {
        let Some(answers) = replies::read_many(reply, steps.len()) else {
            for Sent { request, answer } in steps {
                let _ = answer.send(Err(strange_reply(&request.id)));
            }
            return Vec::new();
        };
        let mut again = Vec::new();
        for (mut step, answer) in steps.into_iter().zip(answers) {
            let done = match answer {
                OfMany::Reply(reply) => {
                    step.request.watch.answered(live.generation);
                    Ok(Done {
                        reply,
                        generation: live.generation,
                        repeated: step.request.repeated,
                        elsewhere,
                    })
                }
                OfMany::Failed(text) => match classify_text(&text) {
                    Decision::Damaged(found) => {
                        let key = self.keys.queue(&step.request.id);
                        Err(element::damaged(&step.request.id, &key, &found))
                    }
                    Decision::Refused => {
                        Err(LockError::unavailable(text).for_conversation(&step.request.id))
                    }
                    _ => {
                        attempt.reason = Some(text);
                        again.push(step);
                        continue;
                    }
                },
            };
            let Sent { request, answer } = step;
            self.deliver(&request.id, request.action.undo(), answer, done);
        }
        again
    }

    /// Drops the steps whose callers have gone, and answers those whose limit
    /// has come.
    fn without_ended(steps: Vec<Sent>, attempt: &Attempt<'_>) -> Vec<Sent> {
        let mut left = Vec::with_capacity(steps.len());
        for step in steps {
            if !step.is_over() {
                left.push(step);
            } else if !step.answer.is_closed() {
                let error = attempt.out_of_time(&step.request.id);
                let _ = step.answer.send(Err(error));
            }
        }
        left
    }

    /// Hands an answer to its caller. A ticket that was issued for a caller that
    /// has gone is given back: its finish may have come before the issue.
    fn deliver(
        self: &Arc<Self>,
        id: &ConversationId,
        undo: Option<Action>,
        answer: oneshot::Sender<Answer>,
        done: Answer,
    ) {
        let is_left = matches!(answer.send(done), Err(Ok(_)));
        if let Some(undo) = undo.filter(|_| is_left) {
            self.give_back(id, undo);
        }
    }

    /// Gives a ticket back that no caller waits for.
    pub(super) fn give_back(self: &Arc<Self>, id: &ConversationId, undo: Action) {
        let (steps, id) = (self.clone(), id.clone());
        self.home.runtime.spawn(async move {
            let limit = Instant::now() + steps.timeout();
            let undo = steps.request(&id, undo, limit);
            if let Err(error) = steps.send_alone(undo).await {
                telemetry::release_failed(&id, &error);
            }
        });
    }

    /// How long one attempt may take: a third of the claim window, so that a
    /// second and a third one are in time; a quarter of the lease that it is
    /// about; and no longer than any reply may take.
    fn attempt_limit(&self, action: &Action) -> Duration {
        let (window, lease) = match action {
            Action::Issue(issue) => (issue.claim_window, issue.lifetime),
            Action::Claim(claim) | Action::Advance(claim) => (claim.claim_window, claim.lifetime),
            Action::Finish(finish) => (finish.claim_window, Duration::MAX),
            Action::Leave(_) => (crate::config::DEFAULT_CLAIM_WINDOW, Duration::MAX),
            Action::Get | Action::Delete | Action::Put { .. } => return self.timeout(),
        };
        let urgent = (window / 3).min(lease / 4).max(SHORTEST_ATTEMPT);
        urgent.min(self.timeout())
    }
}

/// A conversation always uses the same connection of a server.
pub(super) fn link_for<'l>(links: &'l Links, id: &ConversationId) -> &'l Connection {
    let (_, index) = id.place(links.len());
    &links[index]
}

/// The connection of a conversation, if it is there; or another one, if that
/// one cannot be made.
fn live_for(links: &Links, id: &ConversationId) -> Option<(usize, Live)> {
    let (_, index) = id.place(links.len());
    if let Some(live) = links[index].live() {
        return Some((index, live));
    }
    links[index].connect_error()?;
    let mut others = links.iter().enumerate();
    others.find_map(|(index, link)| Some((index, link.live()?)))
}

pub(super) fn strange_reply(id: &ConversationId) -> LockError {
    LockError::unavailable("Redis answered a script of ours with something else")
        .for_conversation(id)
}

pub(super) fn ended(id: &ConversationId) -> LockError {
    LockError::runtime_ended().for_conversation(id)
}

/// The step was done, as the reply says; `None` if it reached the server too
/// late.
fn done(
    request: &mut Request,
    reply: Value,
    connection: &Connection,
    live: &Live,
    elsewhere: bool,
) -> Option<Done> {
    if let Some(now) = replies::server_time(&reply) {
        connection.set_server_time(now);
    }
    if replies::too_late(&reply).is_some() {
        return None;
    }
    request.watch.answered(live.generation);
    Some(Done {
        reply,
        generation: live.generation,
        repeated: request.repeated,
        elsewhere,
    })
}

/// What is known of a step, or of several in one call, that is being sent again
/// and again.
struct Attempt<'s> {
    steps: &'s Steps,
    /// When all of them give up.
    limit: Instant,
    by_text: bool,
    /// A node to ask instead, once.
    elsewhere: Option<Node>,
    backoff: Backoff,
    /// Why the last attempt failed.
    reason: Option<String>,
}

/// An attempt failed, and another one has to be made.
struct Again {
    may_be_done: bool,
}

impl<'s> Attempt<'s> {
    fn new(steps: &'s Steps, limit: Instant) -> Self {
        Self {
            steps,
            limit,
            by_text: false,
            elsewhere: None,
            backoff: SENDING,
            reason: None,
        }
    }

    /// Waits for a connection to the server that has the conversation, until
    /// `until`.
    async fn connection(
        &mut self,
        id: &ConversationId,
        until: Instant,
    ) -> Result<(Links, usize, Live), LockError> {
        loop {
            if self.steps.home.has_ended() {
                return Err(ended(id));
            }
            let route = &self.steps.route;
            let links = match &self.elsewhere {
                Some(node) => route.links_of(node),
                None => route.links_for(id),
            };
            if let Some(links) = links {
                if let Some((index, live)) = live_for(&links, id) {
                    if self.reason.is_some() && Instant::now() >= until {
                        return Err(self.out_of_time(id));
                    }
                    return Ok((links, index, live));
                }
                let link = link_for(&links, id);
                route.doubt();
                for Sent { request, answer } in link.gathered.expired() {
                    let error = self.out_of_time(&request.id);
                    let _ = answer.send(Err(error));
                }
                tokio::select! {
                    _ = link.connected() => {}
                    () = self.steps.home.ended() => return Err(ended(id)),
                    () = route.renewed() => {}
                    () = tokio::time::sleep(SENDING.longest()) => {}
                    () = tokio::time::sleep_until(until) => {
                        if let Some(connect_error) = link.connect_error() {
                            self.reason = Some(connect_error.text);
                        }
                        return Err(self.out_of_time(id));
                    }
                }
                self.elsewhere = None;
                continue;
            }
            self.elsewhere = None;
            route.doubt();
            tokio::select! {
                () = route.renewed() => {}
                () = self.steps.home.ended() => return Err(ended(id)),
                () = tokio::time::sleep(SENDING.longest()) => {}
                () = tokio::time::sleep_until(until) => return Err(self.out_of_time(id)),
            }
        }
    }

    /// Waits until no other step of the same owner is under way, in a layout
    /// that needs it.
    async fn turn(&mut self, request: &Request) -> Result<Option<Turn>, LockError> {
        if self.steps.scripts.are_lists() {
            return Ok(None);
        }
        let turn = tokio::task::unconstrained(self.steps.scripts.turn(&request.action));
        timeout_at(request.limit, turn).await.map_err(|_| {
            self.reason = Some("no answer to the step before".into());
            self.out_of_time(&request.id)
        })
    }

    fn out_of_time(&self, id: &ConversationId) -> LockError {
        let reason = self.reason.clone();
        let reason = reason.unwrap_or_else(|| "no server has the conversation".into());
        LockError::unavailable(reason).for_conversation(id)
    }

    /// An attempt did not do it. Says how to go on.
    async fn over(
        &mut self,
        id: &ConversationId,
        connection: &Connection,
        live: &Live,
        outcome: Result<RedisResult<Value>, Failure>,
    ) -> Result<Again, LockError> {
        match outcome {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return self.failed(id, connection, live, &error).await,
            Err(failure) => {
                // Its connection has been replaced, or broke.
                self.reason = Some(match failure {
                    Failure::Unanswered => "no answer in time".into(),
                    Failure::Broken => "the connection broke".into(),
                });
                self.steps.route.doubt();
            }
        }
        Ok(Again { may_be_done: true })
    }

    /// The reply is an error. Says whether another attempt has to be made.
    async fn failed(
        &mut self,
        id: &ConversationId,
        connection: &Connection,
        live: &Live,
        error: &RedisError,
    ) -> Result<Again, LockError> {
        self.reason = Some(plain(error));
        let route = &self.steps.route;
        let mut may_be_done = false;
        match classify(error) {
            Decision::NoScript => self.by_text = true,
            Decision::Moved(slot, node) => route.moved(slot, &node),
            Decision::Ask(node) => self.elsewhere = Some(node),
            Decision::Reconnect => {
                may_be_done = true;
                connection.replace(live.generation);
                route.doubt();
            }
            Decision::NewMaster => {
                connection.replace(live.generation);
                route.doubt();
                self.pause(id).await?;
            }
            Decision::Wait => {
                route.doubt();
                self.pause(id).await?;
            }
            Decision::Damaged(found) => {
                let key = self.steps.keys.queue(id);
                return Err(element::damaged(id, &key, &found));
            }
            Decision::Refused => {
                return Err(LockError::unavailable(plain(error)).for_conversation(id));
            }
        }
        Ok(Again { may_be_done })
    }

    async fn pause(&mut self, id: &ConversationId) -> Result<(), LockError> {
        let pause = self.backoff.next();
        if Instant::now() + pause >= self.limit {
            return Err(self.out_of_time(id));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Begins at once, and goes on to the end also if this is dropped. `None` if the
/// runtime ends before.
async fn see_through<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut work = Box::pin(work);
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(work.as_mut().poll(cx))).await;
    match polled {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => runtime.spawn(work).await.ok(),
    }
}
