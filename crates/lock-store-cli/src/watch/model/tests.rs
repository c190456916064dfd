use lock_store::TicketState;

use super::*;
use crate::watch::samples::{lock, look, seconds};

/// The rates at the last of some looks, which are a second apart.
fn rates(looks: Vec<Vec<Seen>>) -> Option<(f64, f64)> {
    let model = seen(looks);
    let rates = model.figures().rates?;
    Some((rates.acquired, rates.handed_off))
}

fn seen(looks: Vec<Vec<Seen>>) -> Model {
    let mut model = Model::default();
    for (at, locks) in (0_u32..).zip(looks) {
        model.see(look(f64::from(at), locks));
    }
    model
}

fn called(lock: Seen) -> Seen {
    let mut lock = lock;
    lock.serving.state = TicketState::Promoted;
    lock
}

#[test]
fn the_first_look_says_how_it_stands_but_not_what_happened() {
    let model = seen(vec![vec![lock("a", 7, 70, 3), lock("b", 0, 80, 0)]]);
    let figures = model.figures();
    assert_eq!((figures.conversations, figures.waiting), (2, 3));
    assert_eq!(figures.longest_queue, 3);
    assert_eq!(figures.oldest_wait, seconds(0.5));
    assert_eq!(figures.rates, None);
    assert_eq!((figures.interval, figures.wait_median), (None, None));
}

#[test]
fn a_head_that_stays_is_no_acquisition() {
    let same = || vec![lock("a", 7, 70, 3)];
    assert_eq!(rates(vec![same(), same()]), Some((0.0, 0.0)));
}

#[test]
fn numbers_tell_how_many_were_served_in_between() {
    let looks = vec![vec![lock("a", 7, 70, 9)], vec![lock("a", 12, 120, 9)]];
    assert_eq!(rates(looks), Some((5.0, 5.0)));
}

#[test]
fn the_first_ticket_of_a_new_queue_did_not_wait_for_another() {
    let fresh = vec![vec![], vec![lock("a", 0, 70, 0)]];
    assert_eq!(rates(fresh), Some((1.0, 0.0)));
    let grown = vec![vec![], vec![lock("a", 3, 70, 0)]];
    assert_eq!(rates(grown), Some((4.0, 3.0)));
    let again = vec![vec![lock("a", 5, 50, 0)], vec![lock("a", 2, 70, 0)]];
    assert_eq!(rates(again), Some((3.0, 2.0)));
    let again = vec![vec![lock("a", 0, 50, 0)], vec![lock("a", 0, 70, 0)]];
    assert_eq!(rates(again), Some((1.0, 0.0)));
}

#[test]
fn a_head_that_was_called_counts_when_it_has_answered() {
    let looks = vec![vec![lock("a", 0, 70, 1)], vec![called(lock("a", 1, 71, 0))]];
    assert_eq!(rates(looks.clone()), Some((0.0, 0.0)));
    let answered = [looks, vec![vec![lock("a", 1, 71, 0)]]].concat();
    assert_eq!(rates(answered), Some((1.0, 1.0)));
}

#[test]
fn a_clock_that_was_set_back_or_lost_data_is_a_new_queue() {
    let looks = vec![vec![lock("a", 9, 900, 0)], vec![lock("a", 1, 100, 0)]];
    assert_eq!(rates(looks), Some((2.0, 1.0)));
}

#[test]
fn rates_are_per_second_of_the_real_interval() {
    let mut model = Model::default();
    model.see(look(10.0, vec![lock("a", 0, 1, 9)]));
    model.see(look(14.0, vec![lock("a", 8, 9, 1)]));
    let rates = model.figures().rates.unwrap();
    assert_eq!(
        (rates.acquired, rates.handed_off),
        (2.0, 2.0),
        "8 in 4 seconds"
    );
    assert_eq!(model.figures().interval, Some(seconds(4.0)));
}

fn millis(duration: Option<Duration>) -> u128 {
    duration.unwrap().as_millis()
}

#[test]
fn waiting_times_are_those_of_new_heads() {
    let waited = |number, ms: u64| {
        let mut lock = lock("a", number, 100 + number, 5);
        lock.waited = Some(Duration::from_millis(ms));
        vec![lock]
    };
    // The first was there before anybody looked, the second is seen twice.
    let looks = vec![
        waited(1, 9000),
        waited(2, 100),
        waited(2, 5000),
        waited(3, 300),
    ];
    let figures = seen(looks).figures().clone();
    assert!((99..=101).contains(&millis(figures.wait_median)));
    assert!((297..=303).contains(&millis(figures.wait_p99)));
}

#[test]
fn the_first_in_a_queue_did_not_wait_whatever_its_lease_looks_like() {
    let figures = seen(vec![vec![], vec![lock("a", 0, 1, 0)]])
        .figures()
        .clone();
    assert_eq!(figures.wait_p99, Some(Duration::ZERO));
}

#[test]
fn waiting_times_of_more_than_a_minute_ago_are_forgotten() {
    let mut model = Model::default();
    model.see(look(0.0, vec![]));
    model.see(look(1.0, vec![lock("a", 1, 1, 0)]));
    model.see(look(60.5, vec![]));
    assert!(model.figures().wait_median.is_some());
    model.see(look(61.5, vec![]));
    assert_eq!(model.figures().wait_median, None);
}

#[test]
fn with_long_intervals_the_last_look_counts() {
    let mut model = Model::default();
    model.see(look(0.0, vec![]));
    model.see(look(300.0, vec![lock("a", 1, 1, 0)]));
    assert!(model.figures().wait_median.is_some());
}

#[test]
fn an_outage_leaves_the_last_picture_and_is_not_counted() {
    let mut model = Model::default();
    model.see(look(0.0, vec![lock("a", 0, 1, 4)]));
    model.away("it is gone".to_owned());
    assert_eq!(model.trouble(), Some("it is gone"));
    assert_eq!((model.locks().len(), model.figures().waiting), (1, 4));
    model.see(look(100.0, vec![lock("a", 50, 60, 4)]));
    assert_eq!((model.trouble(), model.figures().rates), (None, None));
    model.see(look(101.0, vec![lock("a", 52, 62, 4)]));
    assert_eq!(model.figures().rates.map(|rates| rates.acquired), Some(2.0));
}

#[test]
fn the_history_has_a_bound() {
    let model = seen((0..REMEMBERED + 10).map(|_| vec![]).collect());
    assert_eq!(model.history().waiting.len(), REMEMBERED);
    assert_eq!(model.history().acquired.len(), REMEMBERED);
}
