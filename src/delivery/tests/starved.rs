//! What always changes, and what does not: each has its turn.

use std::sync::atomic::AtomicBool;

use super::*;

/// Alertmanager ends what it is not told of again, however busy the others are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_changes_do_not_hold_up_what_is_sent_again() {
    let timing = Timing { resend: Duration::from_millis(40), ..Timing::default() };
    let (bench, sink) = (Arc::new(Bench::with_timing(timing)), Sink::new().await);
    let hook =
        WebhookSettings { batch: BatchSettings { max: 10, wait: Duration::ZERO }, ..state_hook(&[&sink]) };
    bench.apply(&[hook]);
    bench.commit([record(1, 1)]);
    until("the first is told", || sink.numbers() == [1]).await;
    // Many more changes than can be posted until the next ones come.
    let over = Arc::new(AtomicBool::new(false));
    let busy = std::thread::spawn({
        let (bench, over) = (Arc::clone(&bench), Arc::clone(&over));
        move || {
            let mut change = 1;
            while !over.load(Ordering::Relaxed) {
                bench.commit((2..=501).map(|number| record(number, change + number - 1)));
                change += 500;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let told_again = || sink.numbers().iter().filter(|number| **number == 1).count();
    let changes = bench.progress();
    until("it is told again", || told_again() >= 4).await;
    assert!(bench.progress() > changes + 100, "while changes come");
    over.store(true, Ordering::Relaxed);
    busy.join().unwrap();
}
