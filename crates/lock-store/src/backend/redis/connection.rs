//! One connection that is always there, or always being made: opened again
//! after every loss, for as long as the store lives.
//!
//! It knows the calls that are under way over it. One that is not answered until
//! its limit shows that the connection is dead, although nothing else does (a
//! firewall forgot it, the server's host is gone): then the connection is
//! replaced, and all its calls are told. So no call needs a timer.
//!
//! Lock order: [`State`] is never held while a waker is woken or another lock
//! is taken.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, PushInfo, PushKind, RedisError, RedisResult, Value};
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::Instant;

use super::backoff::CONNECTING;
use super::connect::{Connector, Node, within};
use super::errors::ConnectError;
use super::gather::Gathered;
use super::scripts::Scripts;
use crate::sync::Mutex;
use crate::telemetry;
use crate::time::Timestamp;

/// Numbers the connections of this process. 0 is none.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// What a connection is told without asking.
type Pushes = mpsc::UnboundedReceiver<PushInfo>;

/// A supervised connection.
pub(super) struct Connection {
    core: Arc<Core>,
    supervisor: AbortHandle,
    /// The steps that wait to leave together.
    pub(super) gathered: Gathered,
}

struct Core {
    connector: Arc<Connector>,
    /// The node of a cluster; otherwise the master, whichever server that is.
    node: Option<Node>,
    scripts: Arc<Scripts>,
    state: Mutex<State>,
    /// How many calls are under way and not known to be unanswered.
    under_way: AtomicUsize,
    /// Told whenever there is a connection, or none, or a reason for that.
    changed: Notify,
    /// Tells the supervisor that the connection was dropped, or that a call
    /// ends earlier than what it sleeps for.
    supervise: Notify,
    started: Instant,
    /// The server's clock when this one stood at `started`, in µs.
    server_clock: AtomicU64,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Which connection it is, of all that there were in this process.
    generation: u64,
    connect_error: Option<ConnectError>,
    calls: Slab<Call>,
    /// When the supervisor looks at the calls next; not after the limit of any.
    check_at: Option<Instant>,
}

/// A call under way.
struct Call {
    generation: u64,
    /// Until when it may be answered.
    ends: Instant,
    /// Whether a connection that does not answer it until then is dead.
    is_proof: bool,
    fate: Option<Failure>,
    waker: Waker,
}

/// Why a call has no reply.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    /// None came until its limit.
    Unanswered,
    /// Its connection is gone.
    Broken,
}

/// A connection as it is now, and which one it is.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) generation: u64,
}

impl Connection {
    /// To the master, or to this node of a cluster, supervised on this runtime.
    pub(super) fn new(
        connector: Arc<Connector>,
        node: Option<Node>,
        scripts: Arc<Scripts>,
        runtime: &Handle,
    ) -> Self {
        let core = Arc::new(Core {
            connector,
            node,
            scripts,
            state: Mutex::default(),
            under_way: AtomicUsize::new(0),
            changed: Notify::new(),
            supervise: Notify::new(),
            started: Instant::now(),
            server_clock: AtomicU64::new(0),
        });
        let supervisor = runtime.spawn(supervise(core.clone())).abort_handle();
        Self {
            core,
            supervisor,
            gathered: Gathered::default(),
        }
    }

    /// The node of a cluster that it leads to.
    pub(super) fn node(&self) -> Option<&Node> {
        self.core.node.as_ref()
    }

    /// The connection, if there is one.
    #[inline]
    pub(super) fn live(&self) -> Option<Live> {
        let state = self.core.state.lock();
        state.connection.as_ref().map(|connection| Live {
            connection: connection.clone(),
            generation: state.generation,
        })
    }

    pub(super) fn is_live(&self) -> bool {
        self.core.state.lock().connection.is_some()
    }

    /// How many calls are under way.
    #[inline]
    pub(super) fn under_way(&self) -> usize {
        self.core.under_way.load(Ordering::Relaxed)
    }

    /// Sends a command and waits for its reply, until `ends` at the latest. If
    /// `is_proof`, a connection that is silent for so long is replaced.
    ///
    /// The command has left when this was polled once.
    pub(super) async fn call(
        &self,
        live: &mut Live,
        command: &Cmd,
        asking: bool,
        ends: Instant,
        is_proof: bool,
    ) -> Result<RedisResult<Value>, Failure> {
        let generation = live.generation;
        let mut watched = Watched {
            core: &self.core,
            key: None,
        };
        // Not to be put off by the runtime: the order in which steps leave is
        // that of first polls.
        let mut reply = pin!(unconstrained(send(&mut live.connection, command, asking)));
        poll_fn(|cx| {
            if let Poll::Ready(reply) = reply.as_mut().poll(cx) {
                return Poll::Ready(Ok(reply));
            }
            // The library may wait for ever for what it sent over a connection
            // that broke just then.
            watched
                .poll_failure(cx, generation, ends, is_proof)
                .map(Err)
        })
        .await
    }

    /// Waits for a connection.
    pub(super) async fn connected(&self) -> Live {
        loop {
            let changed = self.core.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(live) = self.live() {
                return live;
            }
            changed.await;
        }
    }

    /// Waits for a connection, or for the first reason why there is none.
    pub(super) async fn first_outcome(&self) -> Result<(), ConnectError> {
        loop {
            let changed = self.core.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.core.state.lock();
                if state.connection.is_some() {
                    return Ok(());
                }
                if let Some(connect_error) = &state.connect_error {
                    return Err(connect_error.clone());
                }
            }
            changed.await;
        }
    }

    /// Why there is no connection.
    pub(super) fn connect_error(&self) -> Option<ConnectError> {
        self.core.state.lock().connect_error.clone()
    }

    /// That connection is of no use: another one is opened.
    pub(super) fn replace(&self, generation: u64) {
        self.core.drop_connection(generation);
    }

    /// The server's time, as far as is known.
    pub(super) fn server_time(&self) -> Timestamp {
        let base = self.core.server_clock.load(Ordering::Relaxed);
        if base == 0 {
            // Not known yet: nothing is too late.
            return Timestamp::from_micros(u64::MAX / 2);
        }
        Timestamp::from_micros(base) + self.core.started.elapsed()
    }

    /// What the server's clock says just now.
    pub(super) fn set_server_time(&self, now: Timestamp) {
        self.core.set_server_time(now);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.supervisor.abort();
        if self.is_live() {
            telemetry::closed();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("node", &self.core.node)
            .field("connected", &self.is_live())
            .finish_non_exhaustive()
    }
}

async fn send(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    asking: bool,
) -> RedisResult<Value> {
    if asking {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING").ignore().add_command(command.clone());
        let (reply,): (Value,) = pipeline.query_async(connection).await?;
        return Ok(reply);
    }
    connection
        .send_packed_command(command)
        .await?
        .extract_error()
}

/// A call among those that its connection knows, from its first wait on.
struct Watched<'c> {
    core: &'c Core,
    key: Option<usize>,
}

impl Watched<'_> {
    fn poll_failure(
        &mut self,
        cx: &mut Context<'_>,
        generation: u64,
        ends: Instant,
        is_proof: bool,
    ) -> Poll<Failure> {
        let mut state = self.core.state.lock();
        let Some(key) = self.key else {
            if state.connection.is_none() || state.generation != generation {
                return Poll::Ready(Failure::Broken);
            }
            self.key = Some(state.calls.insert(Call {
                generation,
                ends,
                is_proof,
                fate: None,
                waker: cx.waker().clone(),
            }));
            self.core.under_way.fetch_add(1, Ordering::Relaxed);
            if state.check_at.is_none_or(|at| ends < at) {
                state.check_at = Some(ends);
                drop(state);
                self.core.supervise.notify_one();
            }
            return Poll::Pending;
        };
        let call = &mut state.calls[key];
        match call.fate {
            Some(fate) => Poll::Ready(fate),
            None => {
                if !call.waker.will_wake(cx.waker()) {
                    call.waker.clone_from(cx.waker());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let call = self.core.state.lock().calls.remove(key);
            if call.fate.is_none() {
                self.core.under_way.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Core {
    fn set_server_time(&self, now: Timestamp) {
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let base = now.as_micros().saturating_sub(elapsed).max(1);
        self.server_clock.store(base, Ordering::Relaxed);
    }

    fn drop_connection(&self, generation: u64) {
        let mut state = self.state.lock();
        if state.generation != generation || state.connection.is_none() {
            return;
        }
        state.connection = None;
        let wakers = self.end_calls(&mut state, |call| {
            (call.generation == generation).then_some(Failure::Broken)
        });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.changed.notify_waiters();
        self.supervise.notify_one();
    }

    /// Decides the fate of calls that had none. The wakers are for when the lock
    /// is free.
    fn end_calls(
        &self,
        state: &mut State,
        fate_of: impl Fn(&Call) -> Option<Failure>,
    ) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for (_, call) in &mut state.calls {
            if call.fate.is_none()
                && let Some(fate) = fate_of(call)
            {
                call.fate = Some(fate);
                wakers.push(call.waker.clone());
                self.under_way.fetch_sub(1, Ordering::Relaxed);
            }
        }
        wakers
    }

    fn put_connection(&self, connection: MultiplexedConnection) -> u64 {
        let mut state = self.state.lock();
        state.generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        state.connection = Some(connection);
        state.connect_error = None;
        let generation = state.generation;
        drop(state);
        self.changed.notify_waiters();
        generation
    }

    /// Ends the calls whose limit has come, and the connection if that shows
    /// that it is dead. Says when to look again.
    fn check_calls(&self, generation: u64) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let is_over = |call: &Call| call.ends <= now;
        let is_dead = state.calls.iter().any(|(_, call)| {
            call.generation == generation && call.fate.is_none() && call.is_proof && is_over(call)
        });
        let wakers = self.end_calls(&mut state, |call| {
            is_over(call).then_some(Failure::Unanswered)
        });
        let waiting = state.calls.iter().filter(|(_, call)| call.fate.is_none());
        state.check_at = waiting.map(|(_, call)| call.ends).min();
        let check_at = state.check_at;
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if is_dead {
            self.drop_connection(generation);
        }
        check_at
    }

    /// Waits until that connection is dropped, or ends by itself, also while no
    /// step uses it.
    async fn watch(&self, generation: u64, mut pushes: Pushes) {
        loop {
            let check_at = self.check_calls(generation);
            if self.state.lock().connection.is_none() {
                return;
            }
            let check = async {
                match check_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.supervise.notified() => {}
                () = check => {}
                push = pushes.recv() => {
                    if push.is_none_or(|push| push.kind == PushKind::Disconnection) {
                        self.drop_connection(generation);
                        return;
                    }
                }
            }
        }
    }

    fn put_connect_error(&self, connect_error: ConnectError) {
        self.state.lock().connect_error = Some(connect_error);
        self.changed.notify_waiters();
    }

    async fn open(&self) -> Result<(MultiplexedConnection, Pushes), ConnectError> {
        let (sender, pushes) = mpsc::unbounded_channel();
        let mut connection = match &self.node {
            Some(node) => self.connector.open_to(node, sender).await?,
            None => self.connector.open(sender).await?,
        };
        let prepared = within(
            self.connector.timeout,
            prepare(&mut connection, &self.scripts),
        )
        .await;
        match prepared {
            Ok(now) => {
                self.set_server_time(now);
                Ok((connection, pushes))
            }
            Err(error) => {
                let node = self
                    .node
                    .clone()
                    .unwrap_or_else(|| self.connector.any_node());
                Err(ConnectError::connecting(&node, false, &error))
            }
        }
    }
}

/// Loads the scripts, so that no step has to be sent twice, and asks for the
/// time.
async fn prepare(
    connection: &mut MultiplexedConnection,
    scripts: &Scripts,
) -> Result<Timestamp, RedisError> {
    let mut pipeline = redis::pipe();
    for text in scripts.texts() {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(text).ignore();
    }
    pipeline.cmd("TIME");
    let ((seconds, micros),): ((u64, u64),) = pipeline.query_async(connection).await?;
    Ok(Timestamp::from_micros(seconds * 1_000_000 + micros))
}

/// Opens the connection again and again, without end: each attempt asks anew
/// which server is the master.
async fn supervise(core: Arc<Core>) {
    let mut backoff = CONNECTING;
    let mut was_connected = false;
    let mut said = String::new();
    loop {
        match core.open().await {
            Ok((connection, pushes)) => {
                let generation = core.put_connection(connection);
                telemetry::connected(was_connected);
                said.clear();
                was_connected = true;
                backoff.reset();
                core.watch(generation, pushes).await;
                telemetry::disconnected();
            }
            Err(connect_error) => {
                // Each reason once, not once a second.
                if connect_error.text != said {
                    telemetry::connecting_failed(&connect_error.text);
                    said.clone_from(&connect_error.text);
                }
                core.put_connect_error(connect_error);
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}
