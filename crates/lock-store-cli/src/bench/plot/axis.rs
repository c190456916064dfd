//! From values to places in the picture, and the ticks beside them.

use crate::bench::clock::Nanos;

/// Times, by their logarithm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Logarithmic {
    /// Of the limits.
    low: f64,
    high: f64,
    /// Where the limits are.
    from: f64,
    to: f64,
}

impl Logarithmic {
    #[allow(clippy::cast_precision_loss)] // for a picture
    pub(super) fn new((least, most): (Nanos, Nanos), (from, to): (f64, f64)) -> Self {
        let low = (least.max(1) as f64).log10();
        let high = (most.max(1) as f64).log10().max(low + 0.3);
        Self {
            low,
            high,
            from,
            to,
        }
    }

    #[allow(clippy::cast_precision_loss)] // for a picture
    pub(super) fn place(self, time: Nanos) -> f64 {
        let share = ((time.max(1) as f64).log10() - self.low) / (self.high - self.low);
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }

    /// So many powers of ten there are between the limits.
    pub(super) fn decades(self) -> f64 {
        self.high - self.low
    }

    /// Ticks with a text, and those without: 1, 2, 5 of each power of ten where
    /// there is room for their texts, else the powers.
    pub(super) fn ticks(self) -> Vec<(Nanos, bool)> {
        let named: &[u64] = match self.decades() {
            ..1.2 => &[1, 2, 3, 4, 5, 6, 7, 8, 9],
            1.2..4.0 => &[1, 2, 5],
            _ => &[1],
        };
        let mut ticks = Vec::new();
        for power in 0..=14 {
            for digit in 1..=9 {
                let time = digit * 10_u64.pow(power);
                #[allow(clippy::cast_precision_loss)]
                let logarithm = (time as f64).log10();
                if (self.low - 1e-9..=self.high + 1e-9).contains(&logarithm) {
                    ticks.push((time, named.contains(&digit)));
                }
            }
        }
        ticks
    }
}

/// Distances between ticks from 0 to a little above the most: 1, 2 or 5 times a
/// power of ten, and how many.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn steps(most: f64) -> (f64, usize) {
    if most <= 0.0 || !most.is_finite() {
        return (1.0, 1);
    }
    let power = 10_f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| most / step <= 5.0)
        .unwrap_or(10.0 * power);
    (step, (most / step).ceil().max(1.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_reach_the_most() {
        for (most, step, count) in [
            (0.0, 1.0, 1),
            (101_234.0, 50_000.0, 3),
            (97.0, 20.0, 5),
            (5.0, 1.0, 5),
            (0.3, 0.1, 3),
        ] {
            let (found, steps) = steps(most);
            assert!((found - step).abs() < step / 1e6, "{most}: {found}");
            assert_eq!(steps, count, "{most}");
        }
    }

    #[test]
    fn times_are_between_their_limits() {
        let axis = Logarithmic::new((1_000, 1_000_000), (100.0, 400.0));
        assert!((axis.place(1_000) - 100.0).abs() < 1e-6);
        assert!((axis.place(10_000) - 200.0).abs() < 1e-6);
        assert!((axis.place(5_000_000) - 400.0).abs() < 1e-6);
        let named: Vec<_> = axis
            .ticks()
            .into_iter()
            .filter(|(_, named)| *named)
            .collect();
        assert_eq!(named.len(), 10);
    }
}
