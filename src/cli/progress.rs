//! A bar for what takes longer than a second, on a terminal.

use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::mib::Progress;

/// What is done sooner shows no bar.
const SOON: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_millis(100);

/// Does `work` and shows on standard error how far it is, if that is a terminal.
pub(super) fn shown<T>(what: &'static str, work: impl FnOnce(&Progress) -> T) -> T {
    let progress = Progress::default();
    if !std::io::stderr().is_terminal() {
        return work(&progress);
    }
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let progress = &progress;
        // The sender goes with the work, whichever way that ends.
        scope.spawn(move || {
            draw(what, progress, |wait| ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout))
        });
        let _done = done;
        work(progress)
    })
}

fn draw(what: &'static str, progress: &Progress, goes_on: impl Fn(Duration) -> bool) {
    if !goes_on(SOON) {
        return;
    }
    let bar = ProgressBar::new(0).with_message(what);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        let (at, total) = progress.get();
        bar.set_length(total as u64);
        bar.set_position(at as u64);
        if !goes_on(REDRAW) {
            bar.finish_and_clear();
            return;
        }
    }
}
