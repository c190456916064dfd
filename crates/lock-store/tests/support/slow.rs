//! The storage in memory as it looks from behind a network: every answer is
//! pending. What is on its way the test holds back, lets go one by one, or
//! loses: requests, replies and wake-ups.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use lock_store::{
    Backend, Claim, Claimed, ClientId, ConversationId, Conversations, Finish, Finished,
    InMemoryLockStore, Issue, Issued, Listener, LockError, Owner, Step, TicketLock, WakeUp,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

#[derive(Debug, Clone, Default)]
pub struct Slow(Arc<Inner>);

#[derive(Default)]
struct Inner {
    memory: Arc<InMemoryLockStore>,
    issues: Gate,
    claims: Gate,
    advances: Gate,
    finishes: Gate,
    hands_over: AtomicBool,
    pushes: Arc<Pushes>,
    ears: Mutex<Vec<Arc<Ear>>>,
    last_owner: Mutex<Option<Owner>>,
    in_doubt: Mutex<bool>,
    at_next_finish: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inner")
    }
}

impl Slow {
    pub fn issues(&self) -> &Gate {
        &self.0.issues
    }

    pub fn claims(&self) -> &Gate {
        &self.0.claims
    }

    pub fn advances(&self) -> &Gate {
        &self.0.advances
    }

    /// From now on a store may hand a lock on before the storage knows.
    pub fn hand_over(&self) {
        self.0.hands_over.store(true, Ordering::SeqCst);
    }

    pub fn finishes(&self) -> &Gate {
        &self.0.finishes
    }

    pub fn pushes(&self) -> &Pushes {
        &self.0.pushes
    }

    /// The storage itself, which answers at once.
    pub fn memory(&self) -> &InMemoryLockStore {
        &self.0.memory
    }

    /// Who asked for a ticket last.
    pub fn last_owner(&self) -> Owner {
        self.0.last_owner.lock().unwrap().unwrap()
    }

    /// From now on a finish cannot know whether the ticket was there.
    pub fn be_in_doubt(&self) {
        *self.0.in_doubt.lock().unwrap() = true;
    }

    /// Does this in the middle of the call of the next finish, whoever calls.
    pub fn at_next_finish(&self, what: impl FnOnce() + Send + 'static) {
        *self.0.at_next_finish.lock().unwrap() = Some(Box::new(what));
    }

    /// Says something to every store.
    pub fn announce(&self, event: &WakeUp) {
        let ears = self.0.ears.lock().unwrap().clone();
        for ear in ears {
            ear.hear(event.clone());
        }
    }
}

/// What the steps of one kind pass. A step is under way from its first poll
/// on, and then it is held or not.
#[derive(Debug, Default)]
pub struct Gate(Mutex<Traffic>);

#[derive(Debug, Default)]
struct Traffic {
    way: Way,
    held: VecDeque<oneshot::Sender<()>>,
    begun: usize,
}

#[derive(Debug, Clone, Copy, Default)]
enum Way {
    #[default]
    Free,
    HoldRequests,
    HoldReplies,
}

impl Gate {
    /// From now on steps are held before they are carried out.
    pub fn hold_requests(&self) {
        self.0.lock().unwrap().way = Way::HoldRequests;
    }

    /// From now on steps are carried out, and their replies held.
    pub fn hold_replies(&self) {
        self.0.lock().unwrap().way = Way::HoldReplies;
    }

    /// From now on nothing is held. What is held already stays.
    pub fn free(&self) {
        self.0.lock().unwrap().way = Way::Free;
    }

    /// How many steps were begun so far.
    pub fn begun(&self) -> usize {
        self.0.lock().unwrap().begun
    }

    /// How many are held and wanted.
    pub fn held(&self) -> usize {
        let traffic = self.0.lock().unwrap();
        traffic.held.iter().filter(|held| !held.is_closed()).count()
    }

    /// Lets the one go that is held longest.
    #[track_caller]
    pub fn let_go(&self) {
        let _ = self.longest_held().send(());
    }

    /// Loses the one that is held longest: the storage does not answer.
    #[track_caller]
    pub fn lose(&self) {
        drop(self.longest_held());
    }

    #[track_caller]
    fn longest_held(&self) -> oneshot::Sender<()> {
        let mut traffic = self.0.lock().unwrap();
        traffic.held.retain(|held| !held.is_closed());
        match traffic.held.pop_front() {
            Some(longest) => longest,
            None => panic!("nothing is held"),
        }
    }

    async fn pass<T>(&self, step: impl FnOnce() -> Step<T>) -> Result<T, LockError> {
        let (way, go) = self.enter();
        let go = async { go.await.map_err(|_| LockError::unavailable("no answer")) };
        match way {
            Way::Free => step().resolve().await,
            Way::HoldRequests => {
                go.await?;
                step().resolve().await
            }
            Way::HoldReplies => {
                let answer = step().resolve().await;
                go.await?;
                answer
            }
        }
    }

    fn enter(&self) -> (Way, oneshot::Receiver<()>) {
        let (held, go) = oneshot::channel();
        let mut traffic = self.0.lock().unwrap();
        traffic.begun += 1;
        if !matches!(traffic.way, Way::Free) {
            traffic.held.push_back(held);
        }
        (traffic.way, go)
    }
}

/// The wake-ups, on a way of their own.
#[derive(Debug, Default)]
pub struct Pushes(Mutex<Post>);

#[derive(Default)]
struct Post {
    mode: Mode,
    withheld: Vec<(Weak<dyn Listener>, WakeUp)>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, Default)]
enum Mode {
    #[default]
    Deliver,
    Withhold,
    Lose,
}

impl Pushes {
    /// From now on wake-ups stay on their way.
    pub fn withhold(&self) {
        self.0.lock().unwrap().mode = Mode::Withhold;
    }

    /// From now on wake-ups are lost.
    pub fn lose(&self) {
        self.0.lock().unwrap().mode = Mode::Lose;
    }

    /// Delivers what was withheld, and from now on everything. Says how much
    /// it was.
    pub fn deliver(&self) -> usize {
        let mut post = self.0.lock().unwrap();
        post.mode = Mode::Deliver;
        let withheld = std::mem::take(&mut post.withheld);
        drop(post);
        let count = withheld.len();
        for (listener, event) in withheld {
            if let Some(listener) = listener.upgrade() {
                listener.wake_up(event);
            }
        }
        count
    }
}

/// Hears what the memory says to one store.
struct Ear {
    listener: Weak<dyn Listener>,
    pushes: Arc<Pushes>,
}

impl Ear {
    fn hear(&self, event: WakeUp) -> bool {
        self.listener
            .upgrade()
            .is_some_and(|listener| listener.wake_up(event))
    }
}

impl Listener for Ear {
    fn wake_up(&self, event: WakeUp) -> bool {
        let mut post = self.pushes.0.lock().unwrap();
        match post.mode {
            Mode::Deliver => {
                drop(post);
                self.hear(event)
            }
            Mode::Withhold => {
                post.withheld.push((self.listener.clone(), event));
                true
            }
            Mode::Lose => true,
        }
    }
}

impl Backend for Slow {
    fn issue(&self, id: &ConversationId, issue: &Issue) -> Step<Issued> {
        let (slow, id, mut issue) = (self.clone(), id.clone(), issue.clone());
        *self.0.last_owner.lock().unwrap() = issue.owner;
        Step::pending(async move {
            let step = || {
                issue.asked = Instant::now().into_std();
                slow.memory().issue(&id, &issue)
            };
            slow.issues().pass(step).await
        })
    }

    fn claim(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let (slow, id, mut claim) = (self.clone(), id.clone(), claim.clone());
        Step::pending(async move {
            let step = || {
                claim.asked = Instant::now().into_std();
                slow.memory().claim(&id, &claim)
            };
            slow.claims().pass(step).await
        })
    }

    fn advance(&self, id: &ConversationId, claim: &Claim) -> Step<Claimed> {
        let (slow, id, mut claim) = (self.clone(), id.clone(), claim.clone());
        Step::pending(async move {
            let step = || {
                claim.asked = Instant::now().into_std();
                slow.memory().advance(&id, &claim)
            };
            slow.advances().pass(step).await
        })
    }

    fn hands_over(&self) -> bool {
        self.0.hands_over.load(Ordering::SeqCst)
    }

    fn finish(&self, id: &ConversationId, finish: &Finish) -> Step<Finished> {
        let at_this_finish = self.0.at_next_finish.lock().unwrap().take();
        if let Some(what) = at_this_finish {
            what();
        }
        let (slow, id, finish) = (self.clone(), id.clone(), finish.clone());
        Step::pending(async move {
            let step = || slow.memory().finish(&id, &finish);
            let finished = slow.finishes().pass(step).await?;
            let in_doubt = *slow.0.in_doubt.lock().unwrap();
            Ok(Finished {
                found: finished.found || in_doubt,
                in_doubt,
                ..finished
            })
        })
    }

    fn get(&self, id: &ConversationId) -> Step<Option<TicketLock>> {
        let (slow, id) = (self.clone(), id.clone());
        Step::pending(async move { slow.memory().get(&id).resolve().await })
    }

    fn put(&self, lock: TicketLock) -> Step<()> {
        let slow = self.clone();
        Step::pending(async move { slow.memory().put(lock).resolve().await })
    }

    fn delete(&self, id: &ConversationId) -> Step<bool> {
        let (slow, id) = (self.clone(), id.clone());
        Step::pending(async move { slow.memory().delete(&id).resolve().await })
    }

    fn list(&self) -> Conversations {
        self.memory().list()
    }

    fn wake_ups(&self, client: ClientId, listener: Weak<dyn Listener>) {
        let ear = Arc::new(Ear {
            listener,
            pushes: self.0.pushes.clone(),
        });
        let heard: Arc<dyn Listener> = ear.clone();
        self.0.memory.wake_ups(client, Arc::downgrade(&heard));
        self.0.ears.lock().unwrap().push(ear);
    }
}
