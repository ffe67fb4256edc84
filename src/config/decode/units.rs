//! Durations and sizes: numbers with units, and how messages write them.

/// Milliseconds of `500ms`, `2s`, `1h30m`; the error is a help text.
pub(super) fn parse_duration(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a number and a unit: `500ms`, `2s`, `5m`, `24h`, `30d`";
    let mut total: u64 = 0;
    let mut rest = text;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse::<u64>().map_err(|_| HELP.to_owned())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if rest.starts_with(' ') => {
                let unit = rest.trim_start().split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
                return Err(meant(number, unit).unwrap_or_else(|| HELP.to_owned()));
            }
            other => return Err(meant(number, other).unwrap_or_else(|| HELP.to_owned())),
        };
        rest = &rest[letters..];
        if unit >= last {
            return Err("write each unit once, the largest first: `1h30m`".into());
        }
        last = unit;
        total = number
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or("this duration is too long")?;
    }
    if text.is_empty() { Err(HELP.into()) } else { Ok(total) }
}

/// The help for a unit that is written out.
fn meant(number: u64, unit: &str) -> Option<String> {
    let unit = match &*unit.to_lowercase() {
        "ms" | "millis" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        "w" | "week" | "weeks" => return Some(format!("write days: `{}d`", number.saturating_mul(7))),
        "y" | "year" | "years" => return Some(format!("write days: `{}d`", number.saturating_mul(365))),
        _ => return None,
    };
    Some(format!("write `{number}{unit}`"))
}

pub(super) fn show_duration(milliseconds: u64) -> String {
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if milliseconds >= unit && milliseconds.is_multiple_of(unit) {
            return format!("{}{name}", milliseconds / unit);
        }
    }
    if milliseconds == 0 { "0s".into() } else { format!("{milliseconds}ms") }
}

const SIZES: [(&str, u64); 6] = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50)];

/// Octets of `32MiB`; the error is a help text.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a whole number and a unit: `32MiB`, `10GiB`";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse::<u64>().map_err(|_| HELP.to_owned())?;
    let unit = text[digits..].trim_start();
    match SIZES.iter().find(|(name, _)| *name == unit) {
        Some((_, shift)) => number.checked_mul(1 << shift).ok_or_else(|| "this size is too large".to_owned()),
        None => {
            let first = unit.chars().next().map(|c| c.to_ascii_uppercase());
            match SIZES[1..].iter().find(|(name, _)| name.chars().next() == first) {
                Some((name, _)) => Err(format!("sizes are in powers of two: `{number}{name}`")),
                None => Err(HELP.into()),
            }
        }
    }
}

pub(super) fn show_size(octets: u64) -> String {
    let (name, shift) = SIZES
        .iter()
        .rev()
        .find(|(_, shift)| octets >> shift > 0 && octets.is_multiple_of(1 << shift))
        .unwrap_or(&SIZES[0]);
    format!("{}{name}", octets >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(milliseconds), "{text}");
        }
        for text in
            ["", "5", "s", "-2s", "1.5h", "2s2s", "2s1h", "5 m", "99999999999999999999s", "9999999999999999d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("10sec"), Err("write `10s`".into()));
        assert_eq!(parse_duration("1 hour"), Err("write `1h`".into()));
        assert_eq!(parse_duration("2w"), Err("write days: `14d`".into()));
        assert_eq!(show_duration(5_400_000), "90m");
    }

    #[test]
    fn sizes() {
        for (text, octets) in [("32MiB", 32 << 20), ("10GiB", 10 << 30), ("7B", 7), ("1 KiB", 1024)] {
            assert_eq!(parse_size(text), Ok(octets), "{text}");
        }
        assert_eq!(parse_size("32MB"), Err("sizes are in powers of two: `32MiB`".into()));
        assert!(parse_size("99999999PiB").is_err() && parse_size("MiB").is_err() && parse_size("").is_err());
        assert_eq!(
            (show_size(1 << 16), show_size(0), show_size(1 << 50)),
            ("64KiB".into(), "0B".into(), "1PiB".into())
        );
    }
}
