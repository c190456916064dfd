//! One connection that is always there, or always being made: opened again
//! after every loss, for as long as the store lives.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connect::{Connector, Node, within};
use super::pauses::CONNECTING;
use super::scripts::Scripts;
use super::trouble::Trouble;
use crate::sync::Mutex;
use crate::telemetry;
use crate::time::Timestamp;

/// What a connection hears without asking.
type Pushes = mpsc::UnboundedReceiver<PushInfo>;

/// A supervised connection.
pub(super) struct Link {
    core: Arc<Core>,
    supervisor: AbortHandle,
}

struct Core {
    connector: Arc<Connector>,
    /// The node of a cluster; otherwise whoever is the master.
    node: Option<Node>,
    scripts: Arc<Scripts>,
    state: Mutex<State>,
    /// Told whenever the state changes.
    changed: Notify,
    /// Told when somebody found the connection broken.
    broken: Notify,
    started: Instant,
    /// The server's clock when this one stood at `started`, in µs.
    server_clock: AtomicU64,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections that there were.
    generation: u64,
    trouble: Option<Trouble>,
}

/// A connection as it is now, and which one it is.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) generation: u64,
}

impl Link {
    /// A link to the master, or to this node of a cluster. Needs a runtime.
    pub(super) fn new(
        connector: Arc<Connector>,
        node: Option<Node>,
        scripts: Arc<Scripts>,
    ) -> Self {
        let core = Arc::new(Core {
            connector,
            node,
            scripts,
            state: Mutex::default(),
            changed: Notify::new(),
            broken: Notify::new(),
            started: Instant::now(),
            server_clock: AtomicU64::new(0),
        });
        let supervisor = tokio::spawn(supervise(core.clone())).abort_handle();
        Self { core, supervisor }
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
    pub(super) async fn first_outcome(&self) -> Result<(), Trouble> {
        loop {
            let changed = self.core.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.core.state.lock();
                if state.connection.is_some() {
                    return Ok(());
                }
                if let Some(trouble) = &state.trouble {
                    return Err(trouble.clone());
                }
            }
            changed.await;
        }
    }

    /// Why there is no connection.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.core.state.lock().trouble.clone()
    }

    /// Waits until that connection is no longer the one in use.
    pub(super) async fn gone(&self, generation: u64) {
        loop {
            let changed = self.core.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.core.state.lock();
                if state.connection.is_none() || state.generation != generation {
                    return;
                }
            }
            changed.await;
        }
    }

    /// That connection is of no use: another one is opened.
    pub(super) fn give_up(&self, generation: u64) {
        self.core.drop_connection(generation);
    }

    /// The server's time, as far as is known.
    pub(super) fn server_time(&self) -> Timestamp {
        let base = self.core.server_clock.load(Ordering::Relaxed);
        if base == 0 {
            // Not heard of yet: nothing is too late.
            return Timestamp::from_micros(u64::MAX / 2);
        }
        Timestamp::from_micros(base) + self.core.started.elapsed()
    }

    /// What the server's clock says just now.
    pub(super) fn set_server_time(&self, now: Timestamp) {
        self.core.set_server_time(now);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
        if self.live().is_some() {
            telemetry::closed();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("node", &self.core.node)
            .field("connected", &self.live().is_some())
            .finish_non_exhaustive()
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
        drop(state);
        self.changed.notify_waiters();
        self.broken.notify_one();
    }

    fn put_connection(&self, connection: MultiplexedConnection) -> u64 {
        let mut state = self.state.lock();
        state.generation += 1;
        state.connection = Some(connection);
        state.trouble = None;
        let generation = state.generation;
        drop(state);
        self.changed.notify_waiters();
        generation
    }

    /// Waits until that connection is dropped, or ends by itself, also while
    /// nobody uses it.
    async fn watch(&self, generation: u64, mut pushes: Pushes) {
        loop {
            tokio::select! {
                // What it was told may concern an earlier connection.
                () = self.broken.notified() => {
                    if self.state.lock().connection.is_none() {
                        return;
                    }
                }
                push = pushes.recv() => {
                    if push.is_none_or(|push| push.kind == PushKind::Disconnection) {
                        self.drop_connection(generation);
                        return;
                    }
                }
            }
        }
    }

    fn put_trouble(&self, trouble: Trouble) {
        self.state.lock().trouble = Some(trouble);
        self.changed.notify_waiters();
    }

    async fn open(&self) -> Result<(MultiplexedConnection, Pushes), Trouble> {
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
                Err(Trouble::connecting(&node, false, &error))
            }
        }
    }
}

/// Loads the scripts, so that no step has to be sent twice, and asks for the
/// time.
async fn prepare(
    connection: &mut MultiplexedConnection,
    scripts: &Scripts,
) -> RedisResult<Timestamp> {
    let mut pipeline = redis::pipe();
    for text in scripts.texts() {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(text).ignore();
    }
    pipeline.cmd("TIME");
    let ((seconds, micros),): ((u64, u64),) = pipeline.query_async(connection).await?;
    Ok(Timestamp::from_micros(seconds * 1_000_000 + micros))
}

/// Opens the connection again and again, without end: each attempt asks anew
/// where the master is.
async fn supervise(core: Arc<Core>) {
    let mut pauses = CONNECTING;
    let mut was_connected = false;
    let mut said = String::new();
    loop {
        match core.open().await {
            Ok((connection, pushes)) => {
                let generation = core.put_connection(connection);
                telemetry::connected(was_connected);
                said.clear();
                was_connected = true;
                pauses.begin_again();
                core.watch(generation, pushes).await;
                telemetry::disconnected();
            }
            Err(trouble) => {
                // Each reason once, not once a second.
                if trouble.text != said {
                    telemetry::connecting_failed(&trouble.text);
                    said.clone_from(&trouble.text);
                }
                core.put_trouble(trouble);
                tokio::time::sleep(pauses.next()).await;
            }
        }
    }
}
