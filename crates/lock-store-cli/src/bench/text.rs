//! Figures and texts for people.

use super::clock::Nanos;

/// A time with three digits that say something.
#[allow(clippy::cast_precision_loss)] // for people
pub(super) fn time(nanos: Nanos) -> String {
    let nanos = nanos as f64;
    let units = [(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")];
    let (size, unit) = units
        .into_iter()
        .find(|(size, unit)| nanos / size < 999.5 || *unit == "s")
        .unwrap_or(units[0]);
    let value = nanos / size;
    match value {
        _ if size < 10.0 || value >= 99.95 => format!("{value:.0} {unit}"),
        10.0.. => format!("{value:.1} {unit}"),
        _ => format!("{value:.2} {unit}"),
    }
}

/// A time as it was asked for.
pub(super) fn seconds(nanos: Nanos) -> String {
    let text = format!("{:.3}", super::clock::seconds(nanos));
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} s")
}

/// A whole number, its digits in threes.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that is not negative, without what is behind the point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn rounded(number: f64) -> String {
    whole(number.round() as u64)
}

/// `1 task`, `2 tasks`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    let text = whole(number as u64);
    format!("{text} {}", if number == 1 { one } else { many })
}

/// A text from elsewhere, in one line and without control characters.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (nanos, text) in [
            (0, "0 ns"),
            (153, "153 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (151_000, "151 µs"),
            (999_600, "1.00 ms"),
            (9_994_000, "9.99 ms"),
            (1_500_000_000, "1.50 s"),
            (4_000_000_000_000, "4000 s"),
        ] {
            assert_eq!(time(nanos), text);
        }
        assert_eq!(seconds(5_000_000_000), "5 s");
        assert_eq!(seconds(250_000_000), "0.25 s");
    }

    #[test]
    fn numbers_and_texts_can_be_read() {
        assert_eq!(whole(1_234_567), "1,234,567");
        assert_eq!(rounded(999.6), "1,000");
        assert_eq!(count(1, "task", "tasks"), "1 task");
        assert_eq!(count(64, "task", "tasks"), "64 tasks");
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }
}
