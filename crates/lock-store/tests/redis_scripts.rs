//! The scripts in Redis against `TicketLock`: the same random transitions on
//! both, compared step by step.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::VecDeque;
use std::time::Instant;

use lock_store::{Backend, Issued, Layout, Ticket, TicketLock};
use redis_fixture::{FOR_EVER, Server};

use support::bench::Bench;
use support::walk::Walk;

#[test]
fn scripts_do_what_the_reference_does() {
    side_by_side(Layout::Native);
}

#[test]
fn they_do_it_in_rasas_layout_too() {
    side_by_side(Layout::Rasa);
}

/// Many walks side by side, as most of their time is spent waiting for deaths.
fn side_by_side(layout: Layout) {
    const WALKS: u64 = 12;
    const STEPS: usize = 250;
    let server = Server::start();
    let deaths: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let walks: Vec<_> = (0..WALKS)
            .map(|seed| {
                let server = &server;
                scope.spawn(move || {
                    on_a_runtime(async {
                        let mut walk = Walk::new(server, layout, seed).await;
                        let begun = Instant::now();
                        let mut steps = 0;
                        while steps < STEPS {
                            steps += usize::from(walk.step().await);
                            assert!(begun.elapsed() < 2 * FOR_EVER, "only {steps} are clear");
                        }
                        (walk.deaths, walk.abandoned)
                    })
                })
            })
            .collect();
        walks.into_iter().map(|walk| walk.join().unwrap()).collect()
    });
    // That the walks lead anywhere.
    let (expired, abandoned) = deaths
        .iter()
        .fold((0, 0), |sum, d| (sum.0 + d.0, sum.1 + d.1));
    assert!(
        expired > 100 && abandoned > 20,
        "{expired} expired, {abandoned} abandoned"
    );
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Also when the clock of the server is behind the one that gave the last.
#[tokio::test]
async fn tokens_rise_past_a_clock_that_is_behind() {
    let server = Server::start();
    let bench = Bench::new(&server, "a").await;
    bench.fill(1).await;
    let stored = bench
        .backend
        .get(&bench.id)
        .resolve()
        .await
        .unwrap()
        .unwrap();
    let mut tickets: VecDeque<Ticket> = stored.tickets().cloned().collect();
    let ahead = tickets[1].fencing_token.get() + 3_600_000_000;
    tickets[1].fencing_token = lock_store::FencingToken::new(ahead);
    let lock = TicketLock::resumed(bench.id.clone(), tickets, stored.last_token());
    bench.backend.put(lock).resolve().await.unwrap();
    for sequence in 2..5 {
        let Issued::Waiting {
            number,
            fencing_token,
            ..
        } = bench.issue(Bench::ask(sequence)).await
        else {
            panic!("two are there");
        };
        assert_eq!(
            (number, fencing_token.get()),
            (sequence, ahead + sequence - 1)
        );
    }
}
