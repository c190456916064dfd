//! `exec`: many at once.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
mod fleet;

use common::Place;
use fleet::Fleet;

/// Enters and leaves a place in which nobody else may be, several steps apart,
/// and writes that down for whoever looks from outside.
const CRITICAL: &str = r#"
    set -C
    : > "$ALL/inside" || { echo overlap >> "$ALL/overlaps"; exit 9; }
    n=$(cat "$ALL/counter" 2>/dev/null || echo 0)
    echo "$LOCK_STORE_FENCING_TOKEN" >> "$ALL/tokens"
    sleep 0.02
    echo $((n + 1)) >| "$ALL/counter"
    rm "$ALL/inside"
"#;

#[test]
fn eight_at_once_take_turns() {
    const EACH: usize = 5;
    let fleet = Fleet::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let place = Place::new();
                for _ in 0..EACH {
                    fleet
                        .exec_in(&place, "a", &[], CRITICAL)
                        .ended()
                        .says(0, &[]);
                }
            });
        }
    });
    assert_eq!(fleet.place.read("overlaps"), "");
    assert_eq!(fleet.place.read("counter").trim(), (8 * EACH).to_string());
    let tokens: Vec<u64> = fleet
        .place
        .read("tokens")
        .lines()
        .map(|token| token.parse().unwrap())
        .collect();
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    assert_eq!(fleet.server.command(&["DBSIZE"]).integer(), 0);
}
