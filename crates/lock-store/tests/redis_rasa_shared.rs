//! Instances of Rasa and ours on the same conversations, at random: nobody
//! overlaps, nobody is lost, tokens rise, and nothing is left.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::thread;
use std::time::Duration;

use lock_store::{DeploymentMode, Layout, LockStore, RedisConfig, Timing};
use redis_fixture::{Sentinels, Server};
use tokio::task::JoinSet;

use support::load::Guests;
use support::load::{Load, Rules};
use support::rasa::{Instance, Standing};
use support::redis::{PATIENCE, aside, at, nothing_left_at, replicated_at, store};
use support::walk::step::Dice;

const CONVERSATIONS: [&str; 3] = ["a", "b", "c"];

/// Nobody calls the owner of a ticket that Rasa has written: it looks.
fn timing() -> Timing {
    Timing {
        wait_time: Duration::from_millis(20),
        ..Timing::default()
    }
}

fn at_server(server: &Server) -> RedisConfig {
    RedisConfig {
        layout: Layout::Rasa,
        ..at(&server.url())
    }
}

async fn two_clients(redis: &RedisConfig) -> (LockStore, LockStore) {
    (store(redis, timing()).await, store(redis, timing()).await)
}

/// A waiting instance, as far as the others notice it: it writes all locks
/// again, each whenever it likes, until the load ends.
fn writes_at_random(mut rasa: Instance, guests: Guests, seed: u64) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let (mut dice, mut written) = (Dice::new(seed), 0);
        while !guests.are_last() {
            let id = dice.choose(&CONVERSATIONS).unwrap();
            written += usize::from(rasa.update_lock(id));
            thread::sleep(Duration::from_micros(dice.below(1500)));
        }
        written
    })
}

/// An instance that handles messages: each takes its ticket, waits its turn by
/// looking, and writes the lock again each time.
fn takes_turns(mut rasa: Instance, guests: Guests, seed: u64) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let (mut dice, mut served) = (Dice::new(seed), 0);
        while !guests.are_last() {
            let id = dice.choose(&CONVERSATIONS).unwrap();
            let number = rasa.issue_ticket(id, 60);
            loop {
                match rasa.look(id, number) {
                    Standing::Served => break,
                    Standing::Waiting => {}
                    Standing::Gone => {
                        guests.complain(format!("{id}: ticket {number} of Rasa's is gone"));
                        return served;
                    }
                }
                thread::sleep(Duration::from_micros(1000 + dice.below(4000)));
                rasa.update_lock(id);
            }
            guests.enter(id);
            thread::sleep(Duration::from_micros(dice.below(2000)));
            guests.leave(id);
            if !rasa.finish_serving(id, number) {
                guests.complain(format!("{id}: ticket {number} of Rasa's was lost"));
            }
            served += 1;
        }
        served
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_rasa_writes_between_our_steps() {
    let server = aside(Server::start);
    let (one, other) = two_clients(&at_server(&server)).await;
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 2, Rules::strict());
    let writers = [1, 2].map(|seed| writes_at_random(Instance::at(&server), load.guests(), seed));
    load.goes_on(200).await;
    load.end().await;
    for writer in writers {
        assert!(writer.join().unwrap() > 100);
    }
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_of_rasas_and_ours_take_turns() {
    let server = aside(Server::start);
    let (one, other) = two_clients(&at_server(&server)).await;
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 1, Rules::strict());
    let rasas = [1, 2, 3].map(|seed| takes_turns(Instance::at(&server), load.guests(), seed));
    load.goes_on(100).await;
    load.end().await;
    for rasa in rasas {
        assert!(rasa.join().unwrap() > 20);
    }
    nothing_left_at(&server).await;
}

/// Not all do only what is usual: they extend, try, give up waiting, and go away
/// at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_ours_do_nothing_is_lost_when_rasa_writes() {
    let server = aside(Server::start);
    let (one, other) = two_clients(&at_server(&server)).await;
    // Two who only lock, and see to it that nobody overlaps.
    let load = Load::begin(&[&one], &CONVERSATIONS, 1, Rules::strict());
    let writer = writes_at_random(Instance::at(&server), load.guests(), 1);
    let mut tasks = JoinSet::new();
    for seed in 0..4 {
        let (store, guests) = ([&one, &other][seed % 2].clone(), load.guests());
        tasks.spawn(async move { comes_and_goes(&store, &guests, seed as u64).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    load.end().await;
    assert!(writer.join().unwrap() > 100);
    one.close().await.unwrap();
    other.close().await.unwrap();
    nothing_left_at(&server).await;
}

async fn comes_and_goes(store: &LockStore, guests: &Guests, seed: u64) {
    let mut dice = Dice::new(seed);
    for _ in 0..100 {
        let id = dice.choose(&CONVERSATIONS).unwrap();
        let guard = match dice.below(5) {
            0 => match store.try_lock(id).await.unwrap() {
                Some(guard) => guard,
                None => continue,
            },
            1 => {
                let place = store.take_ticket(id).await.unwrap();
                if dice.one_in(2) {
                    // Wherever it stands by then.
                    tokio::time::sleep(Duration::from_millis(dice.below(10))).await;
                    continue;
                }
                place.wait().await.unwrap()
            }
            2 => {
                // Another one than usual, which it does not wait for.
                let wait = Duration::from_millis(20_000 + dice.below(20));
                let place = store.take_ticket(id).wait_timeout(wait).await.unwrap();
                let patience = Duration::from_millis(dice.below(15));
                match tokio::time::timeout(patience, place.wait()).await {
                    Ok(guard) => guard.unwrap(),
                    Err(_) => continue,
                }
            }
            3 => {
                // Also before there is an answer.
                let patience = Duration::from_micros(dice.below(3000));
                match tokio::time::timeout(patience, store.lock(id)).await {
                    Ok(guard) => guard.unwrap(),
                    Err(_) => continue,
                }
            }
            _ => store.lock(id).keep_alive(true).await.unwrap(),
        };
        guests.enter(id);
        for _ in 0..dice.below(3) {
            let extending = guard.extend(Duration::from_secs(30));
            let patience = Duration::from_micros(100 + dice.below(10_000));
            if let Ok(extended) = tokio::time::timeout(patience, extending).await {
                extended.unwrap();
            }
        }
        assert!(!guard.is_lost());
        guests.leave(id);
        if dice.one_in(2) {
            guard.release().await.unwrap();
        }
    }
}

/// What Rasa's tickets have in place of a token must not reach into the future:
/// when the queue is empty, tokens begin at the clock again.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_rise_over_tickets_of_rasas_that_live_long() {
    let server = aside(Server::start);
    let (store, _other) = two_clients(&at_server(&server)).await;
    let mut rasa = Instance::at(&server);
    // TICKET_LOCK_LIFETIME of that instance.
    let number = rasa.issue_ticket("a", 3600);
    let place = store.take_ticket("a").await.unwrap();
    assert!(rasa.finish_serving("a", number));
    let guard = tokio::time::timeout(PATIENCE, place.wait()).await.unwrap();
    let mut last = guard.unwrap();
    for _ in 0..3 {
        // The same for one of ours that Rasa has written again.
        last.extend(Duration::from_secs(3600)).await.unwrap();
        assert!(rasa.update_lock("a"));
        let behind = store.take_ticket("a").await.unwrap();
        assert!(behind.fencing_token() > last.fencing_token());
        last.release().await.unwrap();
        let behind = behind.wait().await.unwrap();
        let token = behind.fencing_token();
        behind.release().await.unwrap();
        let next = store.lock("a").await.unwrap();
        let now = next.fencing_token();
        assert!(now > token, "{now} after {token}");
        last = next;
    }
    last.release().await.unwrap();
    nothing_left_at(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_waited_for() {
    let master = aside(Server::start);
    let replica = aside(|| Server::builder().replica_of(&master).start());
    let redis = RedisConfig {
        layout: Layout::Rasa,
        ..replicated_at(&master.url())
    };
    let (one, other) = two_clients(&redis).await;
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 1, Rules::strict());
    let writer = writes_at_random(Instance::at(&master), load.guests(), 1);
    load.goes_on(50).await;
    load.end().await;
    assert!(writer.join().unwrap() > 20);
    // What does not count is given back, also if Rasa has written it again.
    let redis = RedisConfig {
        replicas: 1,
        ..at_server(&master)
    };
    let one = store(&redis, timing()).await;
    replica.freeze();
    let mut rasa = Instance::at(&master);
    let asking = tokio::spawn(async move { one.lock("a").await });
    support::redis::holds_soon("its ticket", || rasa.update_lock("a")).await;
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), lock_store::LockErrorKind::NotReplicated);
    nothing_left_at(&master).await;
    replica.thaw();
}

/// The link over which they are waited for has scripts of its own to load.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_waited_for_when_the_scripts_are_gone() {
    let master = aside(Server::start);
    let _replica = aside(|| Server::builder().replica_of(&master).start());
    for layout in [Layout::Native, Layout::Rasa] {
        let redis = RedisConfig {
            layout,
            ..replicated_at(&master.url())
        };
        let store = store(&redis, timing()).await;
        store.lock("a").await.unwrap().release().await.unwrap();
        aside(|| master.command(&["SCRIPT", "FLUSH"])).ok();
        store.lock("a").await.unwrap().release().await.unwrap();
        nothing_left_at(&master).await;
    }
}

/// As in `redis_failover.rs`, what was done last may be lost.
#[tokio::test(flavor = "multi_thread")]
async fn another_master_takes_over_under_load() {
    let sentinels = aside(Sentinels::start);
    let redis = RedisConfig {
        layout: Layout::Rasa,
        deployment_mode: DeploymentMode::Sentinel,
        endpoints: sentinels.sentinel_addresses(),
        ..at("localhost")
    };
    let (one, other) = two_clients(&redis).await;
    let rules = Rules {
        lifetime: Duration::from_secs(3),
        may_forget: true,
        ..Rules::outage(Duration::from_secs(8))
    };
    let load = Load::begin(&[&one, &other], &CONVERSATIONS, 2, rules);
    load.goes_on(20).await;
    let old = aside(|| sentinels.kill_master().port());
    aside(|| sentinels.wait_for_new_master(old));
    load.goes_on(20).await;
    // By plan, too.
    aside(|| sentinels.failover());
    load.goes_on(20).await;
    load.end().await;
    nothing_left_at(sentinels.master()).await;
}
