//! A distribution in bins whose widths grow with what is in them.

use super::clock::Nanos;
use super::times::Times;

/// How often something took `from` to before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bin {
    pub(super) from: Nanos,
    pub(super) to: Nanos,
    pub(super) count: u64,
}

/// All bins from the shortest to the longest time, so many for each factor of
/// ten. Those of different distributions have the same limits.
pub(super) fn bins(times: &Times, per_decade: i32) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    let mut index = index_of(times.min(), per_decade);
    let mut bin = Bin {
        from: edge(index, per_decade),
        to: edge(index + 1, per_decade),
        count: 0,
    };
    for (time, count) in times.counts() {
        while time >= bin.to {
            bins.push(bin);
            index += 1;
            bin = Bin {
                from: bin.to,
                to: edge(index + 1, per_decade),
                count: 0,
            };
        }
        bin.count += count;
    }
    if bin.count > 0 {
        bins.push(bin);
    }
    // Below some nanoseconds limits fall together.
    bins.retain(|bin| bin.to > bin.from);
    bins
}

/// Bins for about as many lines as this: as fine as the bulk needs, and what is
/// beyond it, on either side, in one each.
pub(super) fn lines(times: &Times, most: usize) -> Vec<Bin> {
    let (low, high) = (times.quantile(0.002), times.quantile(0.998));
    let inside = |bin: &Bin| bin.to > low && bin.from <= high;
    let fitting = [80, 40, 20, 10, 5, 3, 2, 1]
        .into_iter()
        .find_map(|per_decade| {
            let all = bins(times, per_decade);
            let fits = all.iter().filter(|bin| inside(bin)).count() <= most;
            (fits || per_decade == 1).then_some(all)
        });
    let mut lines: Vec<Bin> = Vec::new();
    for bin in fitting.unwrap_or_default() {
        match lines.last_mut() {
            Some(last) if last.to <= low || bin.from > high && last.from > high => {
                last.to = bin.to;
                last.count += bin.count;
            }
            _ => lines.push(bin),
        }
    }
    lines
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn edge(index: i32, per_decade: i32) -> Nanos {
    if index < 0 {
        return 0;
    }
    let exact = 10_f64.powf(f64::from(index) / f64::from(per_decade));
    // Three digits, as those of what is measured.
    let digit = 10_f64.powf((exact.log10().floor() - 2.0).max(0.0));
    ((exact / digit).round() * digit) as Nanos
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn index_of(time: Nanos, per_decade: i32) -> i32 {
    let mut index = ((time.max(1) as f64).log10() * f64::from(per_decade)).floor() as i32;
    while edge(index, per_decade) > time {
        index -= 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(of: impl IntoIterator<Item = Nanos>) -> Times {
        let mut times = Times::new();
        for time in of {
            times.record(time);
        }
        times
    }

    #[test]
    fn every_time_is_in_one_bin() {
        for of in [
            vec![0],
            vec![1, 2, 3],
            vec![150_000, 151_000, 90_000_000_000],
        ] {
            let times = times(of);
            for per_decade in [1, 3, 10, 20, 80] {
                let bins = bins(&times, per_decade);
                assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), times.count());
                assert!(bins.windows(2).all(|pair| pair[0].to == pair[1].from));
                assert!(bins[0].from <= times.min());
                assert!(bins[bins.len() - 1].to > times.max());
            }
        }
        assert!(bins(&Times::new(), 10).is_empty());
    }

    #[test]
    fn lines_show_the_bulk_and_sum_up_the_rest() {
        let narrow = times((0..10_000).map(|i| 150_000 + i * 2).chain([40, 7_000_000]));
        let lines = lines(&narrow, 18);
        assert!((4..=20).contains(&lines.len()), "{lines:?}");
        assert_eq!(lines.iter().map(|bin| bin.count).sum::<u64>(), 10_002);
        assert_eq!(lines[lines.len() - 1].count, 1);
        let wide = times((0..64).map(|power| 1_u64 << (power % 40)));
        assert!(super::lines(&wide, 18).len() <= 20);
    }
}
