//! Times and durations on the command line.

use std::time::Duration;

/// `20s`, `5m`, `150ms`, `1h30m`, or seconds as a number. Longer than nothing.
///
/// # Errors
/// One sentence that says what a duration looks like.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = if text.bytes().all(|octet| octet.is_ascii_digit()) {
        text.parse().ok().map(Duration::from_secs)
    } else {
        text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok())
    };
    // A year and more is a slip of the hand, and this keeps all arithmetic far from its ends.
    let sensible = Duration::from_millis(1)..Duration::from_secs(366 * 86_400);
    parsed
        .filter(|duration| sensible.contains(duration))
        .ok_or_else(|| "write a duration as 20s, 5m or 1h30m, of at most a year".to_owned())
}

/// A point in time: RFC 3339, or how long ago (`1h`). As RFC 3339 in UTC, which the admin API takes.
///
/// # Errors
/// One sentence that says what a time looks like.
pub(super) fn point(text: &str) -> Result<String, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.to_string());
    }
    let ago = duration(text)
        .map_err(|_| "write a time as 2026-01-31T12:00:00Z, or as 1h for an hour ago".to_owned())?;
    let ago = jiff::SignedDuration::try_from(ago).map_err(|error| error.to_string())?;
    let time = jiff::Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())?;
    Ok(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("20"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("150ms"), Ok(Duration::from_millis(150)));
        for text in ["", "0", "-5s", "soon", "99999999999999999999", "400d", "9999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn points_in_time() {
        assert_eq!(point("2026-01-31T13:00:00+01:00"), Ok("2026-01-31T12:00:00Z".to_owned()));
        let hour_ago: jiff::Timestamp = point("1h").unwrap().parse().unwrap();
        let passed = jiff::Timestamp::now().duration_since(hour_ago).as_secs();
        assert!((3_600..3_700).contains(&passed), "{passed}");
        assert!(point("yesterday").is_err());
    }
}
