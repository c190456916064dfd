//! The values of options.

use std::time::Duration;

use lock_store::ConversationId;

/// The longest time that an option takes, as in the library.
const LONGEST: f64 = 30.0 * 24.0 * 3600.0;

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    seconds_from(text, 0.0)
}

pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    seconds_from(text, 0.001)
}

/// Checked here, so that a wrong one is wrong use.
pub(crate) fn conversation_id(text: &str) -> Result<ConversationId, String> {
    ConversationId::new(text).map_err(|error| error.to_string())
}

fn seconds_from(text: &str, least: f64) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (least..=LONGEST).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("it must be a number of seconds from {least} to {LONGEST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_be_fractional_and_have_a_range() {
        assert_eq!(positive_seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "soon", ""] {
            let error = positive_seconds(wrong).unwrap_err();
            assert!(error.contains("from 0.001 to 2592000"), "{wrong}: {error}");
        }
    }
}
