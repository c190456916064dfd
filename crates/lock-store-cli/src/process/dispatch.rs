//! Dispatching: hands each message, in the order read, to the worker of its
//! conversation, which takes its ticket. Never waits for a ticket itself.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use lock_store::{ConversationId, LockStore};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::conversation::{Done, Shared, work};
use super::input::{Input, Line};
use super::message::Message;
use super::progress::Progress;
use super::spool::{Chain, Spool};
use super::stop::{NotBegun, Reason};
use super::summary::Tally;
use super::waiting::{Waiter, Waiting};
use super::window::Window;

/// Owns the order of everything. One task, so nothing in here is locked.
pub(crate) struct Dispatcher {
    store: LockStore,
    shared: Arc<Shared>,
    done: mpsc::UnboundedReceiver<Done>,
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
    work: mpsc::UnboundedSender<Waiter>,
    /// How many of its messages hold a ticket, or ask for one.
    ahead: usize,
    /// Its further messages. None of them may be overtaken by a new one.
    spooled: Chain,
}

impl Dispatcher {
    pub(crate) fn new(
        store: LockStore,
        read_ahead: usize,
        shared: Shared,
        done: mpsc::UnboundedReceiver<Done>,
    ) -> Self {
        Self {
            store,
            shared: Arc::new(shared),
            done,
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
                Some(done) = self.done.recv() => self.on_done(&done),
                Some(ended) = self.workers.join_next() => {
                    self.on_worker_end(ended);
                    Ok(())
                }
                line = next_line(&mut input), if input.is_some() && !hungry => match line {
                    Some(Ok(line)) => self.on_line(line, source, &progress),
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
        while let Ok(done) = self.done.try_recv() {
            self.tally.done(done.waited, done.ok);
        }
        progress.end();
        self.tally.most_in_progress(self.shared.in_progress.most());
        (self.tally, self.not_begun)
    }

    fn on_line(&mut self, line: Line, source: &str, progress: &Progress) -> io::Result<()> {
        self.tally.read(line.number, line.end);
        match line.content {
            Ok(message) => {
                self.tally.message(&message.id);
                self.accept(message)
            }
            Err(what) => {
                self.tally.not_a_message();
                progress.say(format_args!("{source}, line {}: {what}", line.number));
                Ok(())
            }
        }
    }

    /// A new message takes its ticket now, or goes to the spool.
    fn accept(&mut self, message: Message) -> io::Result<()> {
        let conversation = match self.conversations.get_mut(&message.id) {
            Some(conversation) => conversation,
            None => {
                let conversation =
                    Conversation::start(&message.id, &self.store, &self.shared, &mut self.workers);
                self.conversations
                    .entry(message.id.clone())
                    .or_insert(conversation)
            }
        };
        if conversation.spooled.is_empty() && self.window.has_room(conversation.ahead) {
            self.hand_over(message);
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

    fn hand_over(&mut self, message: Message) {
        self.window.enter(message.line.len());
        let Some(conversation) = self.conversations.get_mut(&message.id) else {
            return;
        };
        conversation.ahead += 1;
        let waiter = (Box::new(message), Instant::now());
        if let Err(mpsc::error::SendError((message, _))) = conversation.work.send(waiter) {
            // Its worker has seen the stop before this task has.
            self.not_begun.add(message.seq);
        }
    }

    /// The room that a message leaves goes to who has waited longest without
    /// any, then to its own conversation.
    fn on_done(&mut self, done: &Done) -> io::Result<()> {
        self.tally.done(done.waited, done.ok);
        let Some(conversation) = self.conversations.get_mut(&done.id) else {
            return Ok(());
        };
        conversation.ahead -= 1;
        self.window.leave(done.bytes);
        while self.window.has_room(0)
            && let Some(id) = self.hungry.pop_front()
        {
            self.hand_over_spooled(&id)?;
        }
        self.hand_over_spooled(&done.id)
    }

    /// Takes as many messages of a conversation out of the spool as there is
    /// room for. Forgets the conversation if it is done.
    fn hand_over_spooled(&mut self, id: &ConversationId) -> io::Result<()> {
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
                self.hand_over(Message { id, seq, line });
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
    fn start(
        id: &ConversationId,
        store: &LockStore,
        shared: &Arc<Shared>,
        workers: &mut JoinSet<NotBegun>,
    ) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Waiting::new(id.clone(), store.clone(), shared.tickets, receiver);
        workers.spawn(work(waiting, shared.clone()));
        Self {
            work: sender,
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
