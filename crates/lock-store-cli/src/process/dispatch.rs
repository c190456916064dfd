//! Dispatching: takes a ticket for each message in the order read, and hands
//! it to the worker of its conversation.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use lock_store::{ConversationId, LockStore};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::conversation::{Done, Report, Shared, Taken, Work, Worker};
use super::input::{Input, Line};
use super::message::Message;
use super::progress::Progress;
use super::spool::{Chain, Spool};
use super::stop::{NotBegun, Reason};
use super::summary::Tally;
use super::window::Window;

/// Owns the order of everything. One task, so nothing in here is locked.
pub(crate) struct Dispatcher {
    store: LockStore,
    shared: Arc<Shared>,
    reports: mpsc::UnboundedReceiver<Report>,
    conversations: HashMap<ConversationId, Conversation, ahash::RandomState>,
    workers: JoinSet<NotBegun>,
    window: Window,
    spool: Spool,
    /// Conversations that hold no ticket although they have messages in the
    /// spool, in the order in which they get one. Nothing is read meanwhile.
    hungry: VecDeque<ConversationId>,
    tally: Tally,
    not_begun: NotBegun,
}

/// A conversation with messages that are not done.
struct Conversation {
    work: mpsc::UnboundedSender<Work>,
    /// How many of its messages hold a ticket.
    ahead: usize,
    /// Its further messages. None of them may be overtaken by a new one.
    spooled: Chain,
}

impl Dispatcher {
    pub(crate) fn new(
        store: LockStore,
        read_ahead: usize,
        shared: Shared,
        reports: mpsc::UnboundedReceiver<Report>,
    ) -> Self {
        Self {
            store,
            shared: Arc::new(shared),
            reports,
            conversations: HashMap::default(),
            workers: JoinSet::new(),
            window: Window::new(read_ahead),
            spool: Spool::new(),
            hungry: VecDeque::new(),
            tally: Tally::new(),
            not_begun: NotBegun::default(),
        }
    }

    /// Dispatches until every message is done, or until what was begun is
    /// done after a stop.
    pub(crate) async fn run(
        mut self,
        input: Input,
        source: &str,
        mut progress: Progress,
    ) -> (Tally, NotBegun) {
        let mut input = Some(input);
        let mut stopped = self.shared.stop.listen();
        let mut stopping = false;
        while input.is_some() || !self.conversations.is_empty() || !self.workers.is_empty() {
            let hungry = !self.hungry.is_empty();
            let done = tokio::select! {
                biased;
                () = stopped.wait(), if !stopping => {
                    stopping = true;
                    input = None;
                    self.forget_what_was_not_begun();
                    Ok(())
                }
                () = progress.tick() => {
                    progress.show(&self.tally, &self.shared.in_progress);
                    Ok(())
                }
                Some(report) = self.reports.recv() => self.on_report(report).await,
                Some(ended) = self.workers.join_next() => {
                    self.on_worker_end(ended);
                    Ok(())
                }
                line = next_line(&mut input), if input.is_some() && !hungry => match line {
                    Some(Ok(line)) => self.on_line(line, source, &progress).await,
                    Some(Err(error)) => {
                        input = None;
                        let after = self.tally.lines_read();
                        progress.say(format_args!("{source}, after line {after}: {error}"));
                        self.tally.reading_failed();
                        Ok(())
                    }
                    None => {
                        input = None;
                        Ok(())
                    }
                },
            };
            if let Err(error) = done {
                let what = format!("the temporary file for long queues: {error}");
                progress.say(format_args!("stopping: {what}"));
                self.shared.stop.because(Reason::Failed(what.into()));
            }
        }
        // A worker reports before it ends.
        while let Ok(report) = self.reports.try_recv() {
            self.count(&report);
        }
        progress.end();
        self.tally.most_in_progress(self.shared.in_progress.most());
        (self.tally, self.not_begun)
    }

    async fn on_line(&mut self, line: Line, source: &str, progress: &Progress) -> io::Result<()> {
        self.tally.read(line.number, line.end);
        match line.content {
            Ok(message) => {
                self.tally.message(&message.id);
                self.accept(message).await
            }
            Err(what) => {
                self.tally.not_a_message();
                progress.say(format_args!("{source}, line {}: {what}", line.number));
                Ok(())
            }
        }
    }

    /// A new message takes its ticket now, or goes to the spool.
    async fn accept(&mut self, message: Message) -> io::Result<()> {
        let conversation = match self.conversations.get_mut(&message.id) {
            Some(conversation) => conversation,
            None => {
                let conversation =
                    Conversation::start(&message.id, &self.shared, &mut self.workers);
                self.conversations
                    .entry(message.id.clone())
                    .or_insert(conversation)
            }
        };
        if conversation.spooled.is_empty() && self.window.has_room(conversation.ahead) {
            self.take_ticket_for(message).await;
            return Ok(());
        }
        let spooled = &mut conversation.spooled;
        if let Err(error) = self.spool.push(spooled, message.seq, &message.line) {
            self.not_begun.add(message.seq);
            return Err(error);
        }
        if conversation.ahead == 0 && conversation.spooled.len() == 1 {
            self.hungry.push_back(message.id);
        }
        Ok(())
    }

    async fn take_ticket_for(&mut self, message: Message) {
        let taken = Instant::now();
        let ticket = self.take_ticket(&message.id).await;
        let id = message.id.clone();
        self.window.enter(message.line.len());
        self.hand_over(&id, Work::Message(Box::new(message), taken, ticket));
    }

    fn hand_over(&mut self, id: &ConversationId, work: Work) {
        let Some(conversation) = self.conversations.get_mut(id) else {
            return;
        };
        conversation.ahead += usize::from(matches!(work, Work::Message(..)));
        if let Err(mpsc::error::SendError(Work::Message(message, ..))) =
            conversation.work.send(work)
        {
            // Its worker has seen the stop before this task has.
            self.not_begun.add(message.seq);
        }
    }

    async fn take_ticket(&self, id: &ConversationId) -> Taken {
        let options = self.shared.tickets;
        self.store
            .take_ticket(id)
            .lifetime(options.lifetime)
            .wait_timeout(options.wait_timeout)
            .keep_alive(options.keep_alive)
            .await
    }

    async fn on_report(&mut self, report: Report) -> io::Result<()> {
        self.count(&report);
        match report {
            Report::Done(done) => self.on_done(&done).await,
            Report::TicketLost(id) => {
                // After the stop nobody needs another one.
                if self.conversations.contains_key(&id) {
                    let ticket = self.take_ticket(&id).await;
                    self.hand_over(&id, Work::Ticket(ticket));
                }
                Ok(())
            }
        }
    }

    fn count(&mut self, report: &Report) {
        if let Report::Done(done) = report {
            self.tally.done(done.waited, done.ok);
        }
    }

    /// The room that a message leaves goes to who has waited longest without
    /// any, then to its own conversation.
    async fn on_done(&mut self, done: &Done) -> io::Result<()> {
        let Some(conversation) = self.conversations.get_mut(&done.id) else {
            return Ok(());
        };
        conversation.ahead -= 1;
        self.window.leave(done.bytes);
        while self.window.has_room(0)
            && let Some(id) = self.hungry.pop_front()
        {
            self.take_tickets_for_spooled(&id).await?;
        }
        self.take_tickets_for_spooled(&done.id).await
    }

    /// Takes as many messages of a conversation out of the spool as there is
    /// room for. Forgets the conversation if it is done.
    async fn take_tickets_for_spooled(&mut self, id: &ConversationId) -> io::Result<()> {
        while let Some(conversation) = self.conversations.get_mut(id) {
            if conversation.spooled.is_empty() {
                if conversation.ahead == 0 {
                    self.conversations.remove(id);
                }
                break;
            }
            if !self.window.has_room(conversation.ahead) {
                if conversation.ahead == 0 {
                    self.hungry.push_back(id.clone());
                }
                break;
            }
            if let Some((seq, line)) = self.spool.pop(&mut conversation.spooled)? {
                let id = id.clone();
                self.take_ticket_for(Message { id, seq, line }).await;
            }
        }
        Ok(())
    }

    /// After a stop only what was begun counts. Workers say what they did not
    /// begin; the rest is in the spool.
    fn forget_what_was_not_begun(&mut self) {
        for (_, conversation) in self.conversations.drain() {
            let spooled = conversation.spooled;
            self.not_begun.add_all(spooled.len(), spooled.seqs());
        }
        self.hungry.clear();
    }

    fn on_worker_end(&mut self, ended: Result<NotBegun, JoinError>) {
        match ended {
            Ok(left) => self.not_begun.merge(left),
            Err(error) => {
                let what = format!("a conversation's worker: {error}");
                self.shared.stop.because(Reason::Failed(what.into()));
            }
        }
    }
}

impl Conversation {
    fn start(id: &ConversationId, shared: &Arc<Shared>, workers: &mut JoinSet<NotBegun>) -> Self {
        let (work, receiver) = mpsc::unbounded_channel();
        workers.spawn(Worker::new(id.clone(), shared.clone(), receiver).run());
        Self {
            work,
            ahead: 0,
            spooled: Chain::default(),
        }
    }
}

async fn next_line(input: &mut Option<Input>) -> Option<io::Result<Line>> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}
