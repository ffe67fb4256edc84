//! State delivery.

use super::*;

fn short() -> Timing {
    Timing {
        resend: Duration::from_millis(40),
        resolved_for: Duration::from_secs(2),
        gauges: Duration::from_millis(20),
        ..Timing::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_posted_at_once_and_progress_is_told() {
    let (bench, sink) = (Bench::new(), Sink::new().await);
    bench.apply(&[state_hook(&[&sink])]);
    bench.commit((1..=250).map(|n| record(n, n)));
    until("progress is told", || bench.progress() == 250).await;
    let first = record(1, 251);
    bench.commit([resolved(first.clone(), 251)]);
    until("the end is told", || bench.progress() == 251).await;
    let posts = sink.posts();
    let last = posts.last().unwrap();
    assert_eq!(last.numbers(), [1]);
    let alert = &last.body[0];
    let ended: Timestamp = serde_json::from_value(alert["endsAt"].clone()).unwrap();
    assert!(ended <= Timestamp::now(), "it has ended");
    let open: Timestamp = serde_json::from_value(posts[0].body[0]["endsAt"].clone()).unwrap();
    let hold = open.since(Timestamp::now()).as_secs();
    assert!((1700..=1800).contains(&hold), "an open alert ends in 30 minutes unless sent again: {hold}");
    assert!(posts.iter().all(|post| post.numbers().len() <= 100 && post.path == "/hook"));
    assert_eq!(sink.numbers().len(), 251);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_alerts_are_sent_again_and_resolved_ones_for_a_while() {
    let (bench, sink) = (Bench::with_timing(short()), Sink::new().await);
    bench.apply(&[state_hook(&[&sink])]);
    bench.commit([record(1, 1), resolved(record(2, 2), 2)]);
    let times = |number| sink.numbers().iter().filter(|known| **known == number).count();
    until("both come again", || times(1) >= 4 && times(2) >= 3).await;
    // Each resend is a post of its own, not a retry.
    let posts = sink.posts();
    let ids: std::collections::HashSet<_> = posts.iter().map(Post::id).collect();
    assert_eq!(ids.len(), posts.len());
    let ends = |post: &Post, number: &str| {
        let list = post.body.as_array().unwrap();
        list.iter().find(|alert| alert["labels"]["number"] == number).map(|alert| alert["endsAt"].clone())
    };
    let ended: Vec<_> = posts.iter().filter_map(|post| ends(post, "2")).collect();
    assert!(ended.iter().all(|end| *end == ended[0]), "the end stays");
    let held: Vec<_> = posts.iter().filter_map(|post| ends(post, "1")).collect();
    assert!(held.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()), "the hold moves on");
    let mut quiet = (times(2), times(1));
    until("the resolved one is no longer sent, the open one still is", || {
        if times(2) != quiet.0 {
            quiet = (times(2), times(1));
        }
        times(1) >= quiet.1 + 10
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_end_is_not_sent_again_over_a_new_alert_of_the_same_labels() {
    let (bench, sink) = (Bench::with_timing(short()), Sink::new().await);
    bench.apply(&[state_hook(&[&sink])]);
    let mut again = record(2, 2);
    again.labels = record(1, 1).labels;
    bench.commit([resolved(record(1, 1), 1), again]);
    until("the open one comes again and again", || sink.posts().len() >= 8).await;
    let posts = sink.posts();
    assert_eq!(posts[0].body.as_array().unwrap().len(), 2, "the end first, then the beginning");
    for post in &posts[1..] {
        let list = post.body.as_array().unwrap();
        assert_eq!(list.len(), 1);
        let end: Timestamp = serde_json::from_value(list[0]["endsAt"].clone()).unwrap();
        assert!(end > Timestamp::now());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_alert_is_set_aside_until_it_changes() {
    let bench = Bench::with_timing(short());
    let sink =
        Sink::answering(|post, _| if post.numbers().contains(&37) { status(400) } else { status(200) }).await;
    bench.apply(&[state_hook(&[&sink])]);
    bench.commit((1..=100).map(|n| record(n, n)));
    until("progress passes the bad one", || bench.progress() == 100).await;
    let bad = || sink.numbers().iter().filter(|number| **number == 37).count();
    let tried = bad();
    until("several rounds pass", || sink.numbers().iter().filter(|number| **number == 38).count() >= 6).await;
    assert_eq!(bad(), tried, "it is not sent again as it is");
    let dead = bench.dead();
    assert_eq!(
        dead.iter().map(|(row, record, _)| (*row, record.id)).collect::<Vec<_>>(),
        [(None, AlertId(37))]
    );
    assert_eq!(dead[0].2, "400 Bad Request");
    bench.commit([record(37, 101)]);
    until("it is tried when it changes", || bad() > tried && bench.progress() == 101).await;
    assert_eq!(bench.dead().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_down_holds_progress_but_not_the_others() {
    let bench = Bench::new();
    let address = nobody();
    let healthy = Sink::new().await;
    let urls = [format!("http://{address}/"), healthy.url()];
    bench.apply(&[webhook("hook", WebhookFormat::Alertmanager, &urls)]);
    bench.commit([record(1, 1)]);
    until("the healthy one has it", || healthy.numbers() == [1]).await;
    bench.commit([record(2, 2)]);
    until("and the next", || healthy.numbers() == [1, 2]).await;
    assert_eq!(bench.progress(), 0, "the slowest counts");
    until("two changes wait", || bench.counted("nereus_webhook_queue_length{webhook=\"hook\"}") == 2.0).await;
    let sink = Sink::bound(address, Box::new(|_, _| status(200)), false).await;
    until("progress is told", || bench.progress() == 2).await;
    assert_eq!(sink.numbers(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_goes_frees_progress_and_a_new_one_gets_everything_open() {
    let bench = Bench::new();
    let (healthy, new) = (Sink::new().await, Sink::new().await);
    let urls = [format!("http://{}/", nobody()), healthy.url()];
    bench.apply(&[webhook("hook", WebhookFormat::Alertmanager, &urls)]);
    bench.commit([record(1, 1)]);
    until("the healthy one has it", || healthy.numbers() == [1]).await;
    bench.apply(&[state_hook(&[&healthy])]);
    until("progress is told", || bench.progress() == 1).await;
    bench.apply(&[state_hook(&[&healthy, &new])]);
    until("the new one hears of the open alert", || new.numbers() == [1]).await;
    assert_eq!(healthy.numbers(), [1], "and the old one nothing twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_never_given_up() {
    let bench = Bench::new();
    let sink = Sink::answering(|_, number| status([401, 404, 302, 500, 503][number % 5])).await;
    let mut hook = state_hook(&[&sink]);
    hook.retry.attempts = 1;
    bench.apply(&[hook]);
    bench.commit([record(1, 1)]);
    until("it is tried and tried", || sink.posts().len() >= 15).await;
    assert!(bench.dead().is_empty());
    assert_eq!(bench.progress(), 0);
    // What it becomes meanwhile is what is told in the end.
    bench.commit([resolved(record(1, 1), 2)]);
    let good = Sink::new().await;
    bench.apply(&[state_hook(&[&good])]);
    until("progress is told", || bench.progress() == 2).await;
    assert_eq!(good.posts()[0].body.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_concerns_the_webhook_is_sent() {
    let (bench, sink) = (Bench::with_timing(short()), Sink::new().await);
    let mut other = record(2, 2);
    other.notify = Some(Arc::from([Arc::from("other")]));
    let mut own = record(3, 3);
    own.notify = Some(Arc::from([Arc::from("other"), Arc::from("hook")]));
    let mut silent = record(4, 4);
    silent.notify = Some(Arc::from([]));
    let mut long_over = resolved(record(5, 5), 5);
    long_over.first_seen = Timestamp(0);
    long_over.resolved_at = Some(Timestamp(1));
    bench.commit([record(1, 1), other, own, silent, long_over]);
    bench.apply(&[state_hook(&[&sink])]);
    until("some rounds pass", || sink.posts().len() >= 4).await;
    assert_eq!(bench.progress(), 5);
    assert!(sink.posts().iter().all(|post| post.numbers() == [1, 3]));
}
