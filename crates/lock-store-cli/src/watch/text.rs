//! Texts as they fit into a terminal.

use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

/// A text of unknown origin, without anything that a terminal would obey or
/// that would be invisible.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' || c.is_control() {
            shown.extend(c.escape_default());
        } else if is_invisible(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Marks that join, separate, turn or hide what is beside them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// As much of a text as fits into so many columns; `…` says that there is more.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        shown.push(c);
        if shown.width() >= columns {
            shown.pop();
            break;
        }
    }
    if columns > 0 {
        shown.push('…');
    }
    shown
}

/// A text in so many columns, at the left.
pub(crate) fn left(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    let missing = columns.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

/// A text in so many columns, at the right.
pub(crate) fn right(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    let missing = columns.saturating_sub(text.width());
    format!("{}{text}", " ".repeat(missing))
}

/// A time in few columns: at most 7 up to some years.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0 => "0 s".to_owned(),
        ..0.01 => format!("{:.1} ms", seconds * 1e3),
        ..0.9995 => format!("{:.0} ms", seconds * 1e3),
        ..99.95 => format!("{seconds:.1} s"),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        ..360_000.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} d", seconds / 86400.0),
    }
}

/// A number in groups of three digits.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_invisible_reaches_the_terminal() {
        assert_eq!(visible("anna"), "anna");
        assert_eq!(visible("a\u{1b}[2J\n\0"), "a\\u{1b}[2J\\n\\u{0}");
        assert_eq!(visible("a\\n"), "a\\\\n");
        assert_eq!(visible("\u{9b}2J\u{202e}x"), "\\u{9b}2J\\u{202e}x");
        assert_eq!(
            visible("é e\u{301} 会話 \u{1f600}"),
            "é e\u{301} 会話 \u{1f600}"
        );
    }

    #[test]
    fn what_does_not_fit_ends_with_dots() {
        assert_eq!(fit("conversation", 12), "conversation");
        assert_eq!(fit("conversation", 6), "conve…");
        assert_eq!(fit("conversation", 1), "…");
        assert_eq!(fit("conversation", 0), "");
        // Two columns each.
        assert_eq!(fit("会話会話", 8), "会話会話");
        assert_eq!(fit("会話会話", 7), "会話会…");
        assert_eq!(fit("会話会話", 6), "会話…");
    }

    #[test]
    fn columns_are_filled() {
        for text in ["", "abc", "会話会話", "e\u{301}", "\u{1f468}\u{1f3fd}"] {
            for columns in 0..10 {
                assert_eq!(left(text, columns).width(), columns, "{text}");
                assert_eq!(right(text, columns).width(), columns, "{text}");
            }
        }
        assert_eq!(right("7", 3), "  7");
    }

    #[test]
    fn times_are_short() {
        let shown = |seconds| time(Duration::from_secs_f64(seconds));
        assert_eq!(shown(0.0), "0 s");
        assert_eq!(shown(0.0004), "0.4 ms");
        assert_eq!(shown(0.0123), "12 ms");
        assert_eq!(shown(12.34), "12.3 s");
        assert_eq!(shown(240.0), "4 min");
        assert_eq!(shown(7200.0), "2 h");
        assert_eq!(shown(864_000.0), "10 d");
        for seconds in [0.00999, 0.9994, 0.9999, 99.94, 99.96, 5999.0, 359_999.0] {
            assert!(shown(seconds).len() <= 7, "{}", shown(seconds));
        }
    }

    #[test]
    fn numbers_have_groups() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1000), "1,000");
        assert_eq!(number(12_345_678), "12,345,678");
    }
}
