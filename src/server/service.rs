//! What the service manager hears (sd_notify(3)); nothing is said where `NOTIFY_SOCKET` is not set.

use std::thread;

use sd_notify::NotifyState;

use crate::reload::{ReloadManager, ReloadType};

pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Reloads everything. The service manager, if there is one, hears when it begins and how it ended; else nobody waits.
pub(super) fn reload(reloads: &ReloadManager) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        reloads.request_reload(ReloadType::All, "SIGHUP");
        return;
    }
    let reloads_of_thread = reloads.clone();
    let wait = move || {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell(&[NotifyState::Reloading, now]);
        }
        // A rejected one leaves everything as it was: the service is ready either way.
        match reloads_of_thread.trigger_reload(ReloadType::All, "SIGHUP") {
            Ok(event) => ready(&format!("generation {}", event.generation)),
            Err(error) => ready(&format!("reload failed: {error}")),
        }
    };
    if thread::Builder::new().name("service".into()).spawn(wait).is_err() {
        reloads.request_reload(ReloadType::All, "SIGHUP");
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(component = "listener", %error, "The service manager cannot be told");
    }
}
