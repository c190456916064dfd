//! Nobody else is there: how long a lock and its release take, and how many of
//! them can be done at once.

use std::time::{Duration, Instant};

use lock_store::LockStore;
use tokio::task::JoinSet;

use crate::contender::{self, BarePair, Contender, Ping, Rslock};
use crate::server::{Watched, own_cpu};

/// So many in a row of one contender, before the next has its turn.
const SLICE: usize = 50;

/// All that are compared, connected.
#[derive(Clone)]
pub(crate) struct Contenders {
    pub(crate) ours: LockStore,
    pub(crate) bare: BarePair,
    pub(crate) rslock: Rslock,
    pub(crate) ping: Ping,
}

impl Contenders {
    pub(crate) async fn connect(url: &str) -> Self {
        Self {
            ours: contender::store(url).await,
            bare: BarePair::connect(url).await,
            rslock: Rslock::connect(url),
            ping: Ping(contender::connect(url).await),
        }
    }
}

/// What one task sees of each.
pub(crate) const NAMES: [&str; 4] = [LockStore::NAME, BarePair::NAME, Rslock::NAME, Ping::NAME];

/// A round of lock and release, from one task: the times of each.
pub(crate) async fn latency(contenders: Contenders, cycles: usize) -> [Vec<Duration>; 4] {
    let Contenders {
        mut ours,
        mut bare,
        mut rslock,
        mut ping,
    } = contenders;
    let mut times: [Vec<Duration>; 4] = Default::default();
    for slice in 0..cycles.div_ceil(SLICE) {
        for turn in 0..times.len() {
            // Nobody always comes after the same one.
            match (slice + turn) % times.len() {
                0 => one_slice(&mut ours, &mut times[0]).await,
                1 => one_slice(&mut bare, &mut times[1]).await,
                2 => one_slice(&mut rslock, &mut times[2]).await,
                _ => one_slice(&mut ping, &mut times[3]).await,
            }
        }
    }
    times
}

async fn one_slice<C: Contender>(contender: &mut C, times: &mut Vec<Duration>) {
    for _ in 0..SLICE {
        let begun = Instant::now();
        let held = contender.lock("conversation-0").await;
        contender.release(held).await;
        times.push(begun.elapsed());
    }
}

/// A round of so many tasks at once, each on a conversation of its own: locks
/// and releases per second, and the microseconds that client and server compute
/// for one, if that is known.
pub(crate) async fn rate<C: Contender>(
    contender: &C,
    server: &Watched,
    tasks: usize,
    time: Duration,
) -> [f64; 3] {
    let cpu = || [own_cpu(), server.cpu()].map(|micros| micros.unwrap_or(f64::NAN));
    let [own, servers] = cpu();
    let begun = Instant::now();
    let ends = begun + time;
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let mut contender = contender.clone();
        set.spawn(async move {
            let key = format!("conversation-{task}");
            let mut cycles = 0_u32;
            while Instant::now() < ends {
                let held = contender.lock(&key).await;
                contender.release(held).await;
                cycles += 1;
            }
            cycles
        });
    }
    let cycles: f64 = set.join_all().await.into_iter().map(f64::from).sum();
    let per_second = cycles / begun.elapsed().as_secs_f64();
    let [own_after, servers_after] = cpu();
    let each = [own_after - own, servers_after - servers].map(|micros| micros / cycles);
    [per_second, each[0], each[1]]
}
