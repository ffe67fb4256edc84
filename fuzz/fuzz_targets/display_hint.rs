//! Any DISPLAY-HINT on any octets: no panic, text that is bounded by the octets, and time with it.
//!
//! The first octet says how long the hint is; what follows it is the value.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nereus::mib::show_by_hint;
use rustix::time::{ClockId, clock_gettime};

/// The processor's time that this thread has used: a busy machine adds nothing to it.
fn used() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fuzz_target!(|data: &[u8]| {
    let Some((&len, rest)) = data.split_first() else {
        return;
    };
    let (hint, octets) = rest.split_at(usize::from(len).min(rest.len()));
    let Ok(hint) = std::str::from_utf8(hint) else {
        return;
    };
    let begun = used();
    let mut out = String::new();
    show_by_hint(hint, octets, &mut out);
    // A number of eight octets has 22 digits by `o`, and each octet of the value may bring its separator; and
    // each piece of the hint its own, once.
    let bound = 16 + octets.len() * 26 + hint.len() * 4;
    assert!(out.len() <= bound, "{} octets became {}: {hint:?}", octets.len(), out.len());
    assert!(!out.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r')));
    // Linear: a microsecond for each octet is far more than it takes.
    let bound = Duration::from_millis(200) + Duration::from_micros((octets.len() + hint.len()) as u64);
    let taken = used().saturating_sub(begun);
    assert!(taken < bound, "{taken:?} for {} octets by {hint:?}", octets.len());
    for number in [0, -7, i32::MIN, i32::MAX] {
        out.clear();
        nereus::mib::show_number_by_hint(hint, number, &mut out);
        assert!(out.len() <= 64, "{number} by {hint:?}: {out}");
    }
});
