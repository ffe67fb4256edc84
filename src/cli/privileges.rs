//! What the program may do is given up once its addresses are bound.

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

/// Gives up every capability of this thread, and of those that it starts; and for good, that a program which it starts
/// gets any. Root keeps the right to its files, which may be another user's: who wants less runs as another user.
pub(super) fn give_up() {
    let kept = if rustix::process::geteuid().is_root() {
        CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH
    } else {
        CapabilitySet::empty()
    };
    let done = rustix::thread::capabilities(None).and_then(|now| {
        let kept = kept & now.permitted;
        let sets = CapabilitySets {
            effective: kept & now.effective,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets)
    });
    for result in [done, set_no_new_privs(true)] {
        if let Err(error) = result {
            tracing::warn!(component = "listener", %error, "Privileges cannot be given up");
        }
    }
}
