//! When something happened.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch, UTC. Prints as RFC 3339; so it stands in JSON too, and as the number in forms that no
/// human reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The system clock's time.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Later by `span`, or the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long `earlier` lies behind `self`; zero if it does not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with microseconds, `2024-08-01T00:00:00.000000Z`; `None` before the year 0 and after 9999. Each
    /// alert and event that is shown has several of them.
    pub(crate) fn rfc3339(self) -> Option<[u8; 27]> {
        fn digits(out: &mut [u8], mut number: u32) {
            for place in out.iter_mut().rev() {
                *place = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        let time = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_microsecond(self.0).ok()?);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[..4], u32::try_from(time.year()).ok()?);
        let parts = [time.month(), time.day(), time.hour(), time.minute(), time.second()];
        for (at, part) in parts.into_iter().enumerate() {
            digits(&mut text[5 + 3 * at..7 + 3 * at], u32::try_from(part).ok()?);
        }
        digits(&mut text[20..26], u32::try_from(time.subsec_nanosecond() / 1000).ok()?);
        Some(text)
    }

    /// What [`Self::rfc3339`] writes, read back; `None` for whatever is written in another way. A start reads some
    /// of them for each open alert.
    fn of_rfc3339(text: &[u8; 27]) -> Option<Self> {
        fn number(digits: &[u8]) -> Option<i32> {
            digits.iter().try_fold(0, |number, digit| {
                digit.is_ascii_digit().then(|| 10 * number + i32::from(digit - b'0'))
            })
        }
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
        marks.iter().all(|(at, mark)| text[*at] == *mark).then_some(())?;
        let part = |at: usize| i8::try_from(number(&text[at..at + 2])?).ok();
        let year = i16::try_from(number(&text[..4])?).ok()?;
        let nanoseconds = number(&text[20..26])? * 1000;
        let time = jiff::civil::DateTime::new(
            year,
            part(5)?,
            part(8)?,
            part(11)?,
            part(14)?,
            part(17)?,
            nanoseconds,
        );
        let time = jiff::tz::Offset::UTC.to_timestamp(time.ok()?).ok()?;
        Some(Self(time.as_microsecond()))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Self(-i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX)),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.rfc3339()
            && let Ok(text) = std::str::from_utf8(&text)
        {
            return f.write_str(text);
        }
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_i64(self.0);
        }
        match self.rfc3339().as_ref().map(|text| std::str::from_utf8(text)) {
            Some(Ok(text)) => serializer.serialize_str(text),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self);
        }
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time in RFC 3339")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                if let Some(time) = text.as_bytes().try_into().ok().and_then(Timestamp::of_rfc3339) {
                    return Ok(time);
                }
                // Past what RFC 3339 can say (an alert that never expires), as Display writes it.
                if let Some(micros) = text.strip_suffix("us").and_then(|digits| digits.parse().ok()) {
                    return Ok(Timestamp(micros));
                }
                text.parse().map(|time: jiff::Timestamp| Timestamp(time.as_microsecond())).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(time: Timestamp) -> String {
        let text = time.to_string();
        let short = text.as_bytes().try_into().ok().and_then(Timestamp::of_rfc3339);
        assert_eq!(short, time.rfc3339().map(|_| time), "what is written the short way is read so");
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, format!("\"{text}\""), "both ways to write it say the same");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        text
    }

    #[test]
    fn times_are_rfc_3339_with_microseconds() {
        assert_eq!(shown(Timestamp(0)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(shown(Timestamp(-1)), "1969-12-31T23:59:59.999999Z");
        assert_eq!(shown(Timestamp(951_782_400_000_007)), "2000-02-29T00:00:00.000007Z");
        assert_eq!(shown(Timestamp(i64::MAX)), format!("{}us", i64::MAX));
    }

    proptest! {
        /// Whatever is put in place of some octets: the short way reads it as the library does, or leaves it to it.
        #[test]
        fn what_is_nearly_a_time_is_read_as_the_library_reads_it(
            micros in prop_oneof![
                -377_705_023_200_000_000_i64..=253_402_207_200_999_999,
                1_700_000_000_000_000_i64..1_800_000_000_000_000,
            ],
            changes in prop::collection::vec((0_usize..27, "[0-9]|[-:.TZ +tz]"), 0..4),
        ) {
            let mut text = Timestamp(micros).to_string();
            for (at, octet) in changes {
                if at < text.len() {
                    text.replace_range(at..=at, &octet);
                }
            }
            let read = serde_json::from_str::<Timestamp>(&format!("\"{text}\""));
            match text.parse::<jiff::Timestamp>() {
                Ok(time) => prop_assert_eq!(read.unwrap(), Timestamp(time.as_microsecond()), "{}", text),
                Err(_) => prop_assert!(read.is_err(), "{}", text),
            }
            if let Some(short) = text.as_bytes().try_into().ok().and_then(Timestamp::of_rfc3339) {
                prop_assert_eq!(short.to_string(), text, "only what is written so");
            }
        }

        #[test]
        fn any_time_reads_as_the_calendar_has_it(micros in -377_705_023_200_000_000_i64..=253_402_207_200_999_999) {
            let expected = format!("{:.6}", jiff::Timestamp::from_microsecond(micros).unwrap());
            prop_assert_eq!(shown(Timestamp(micros)), expected);
        }
    }
}
