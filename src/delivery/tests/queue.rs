//! Queued events.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_in_order_and_in_batches() {
    let (bench, sink) = (Bench::new(), Sink::new().await);
    bench.enqueue((1..=250).map(|n| record(n, n)));
    bench.apply(&[json_hook(&sink)]);
    until("all are done", || bench.queued() == 0).await;
    let posts = sink.posts();
    assert_eq!(posts.iter().map(|post| post.numbers().len()).collect::<Vec<_>>(), [100, 100, 50]);
    assert_eq!(sink.numbers(), (1..=250).collect::<Vec<_>>());
    let post = &posts[0];
    assert_eq!((&post.body["version"], &post.body["webhook"]), (&json!(1), &json!("hook")));
    assert_eq!(post.body["alerts"][2]["event"], json!({"id": 3}));
    assert_eq!(post.headers["content-type"], "application/json");
    assert_eq!(post.headers["x-token"], "planted-secret");
    assert!(post.headers["webhook-timestamp"].to_str().unwrap().parse::<u64>().unwrap() > 1_600_000_000);
    // Later rows follow the commit's signal, without a poll.
    bench.enqueue([record(251, 251)]);
    until("the next is done", || bench.queued() == 0 && sink.numbers().len() == 251).await;
    assert_eq!(bench.counted("nereus_webhooks_delivered_total{webhook=\"hook\"}"), 251.0);
    until("the gauge follows", || bench.counted("nereus_webhook_queue_length{webhook=\"hook\"}") == 0.0)
        .await;
    assert!(bench.dead().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_row_among_many_is_found_by_halves() {
    let bench = Bench::new();
    let sink = Sink::answering(|post, _| match post.numbers().contains(&67) {
        true => (StatusCode::BAD_REQUEST, "no\r\nsixty-seven").into_response(),
        false => status(204),
    })
    .await;
    bench.enqueue((1..=100).map(|n| record(n, n)));
    bench.apply(&[json_hook(&sink)]);
    until("all are done", || bench.queued() == 0).await;
    let dead = bench.dead();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].0, dead[0].1.id), (Some(67), AlertId(67)));
    assert_eq!(dead[0].2, "400 Bad Request: no  sixty-seven");
    let posts = sink.posts();
    let taken: Vec<_> =
        posts.iter().filter(|post| !post.numbers().contains(&67)).flat_map(Post::numbers).collect();
    assert_eq!(taken, (1..=100).filter(|n| *n != 67).collect::<Vec<_>>(), "each once, in order");
    assert!(posts.len() <= 15, "{} posts for one bad row", posts.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_retried_after_500_under_the_same_id() {
    let bench = Bench::new();
    let sink = Sink::answering(|_, number| if number < 3 { status(500) } else { status(200) }).await;
    bench.enqueue([record(1, 1)]);
    bench.apply(&[json_hook(&sink)]);
    until("it is done", || bench.queued() == 0).await;
    let posts = sink.posts();
    assert_eq!(posts.len(), 4);
    assert!(posts.iter().all(|post| post.id() == posts[0].id()));
    assert_eq!(bench.counted("nereus_webhook_retries_total{webhook=\"hook\"}"), 3.0);
    assert_eq!(bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}"), 3.0);
    assert_eq!(bench.counted("nereus_webhook_delivery_duration_seconds_count{webhook=\"hook\"}"), 4.0);
    let retries = bench.store.0.lock().retries.clone();
    assert_eq!(
        retries.iter().map(|(row, attempts, _)| (*row, *attempts)).collect::<Vec<_>>(),
        [(1, 1), (1, 2), (1, 3)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_retried_until_somebody_listens() {
    let bench = Bench::new();
    let address = nobody();
    let mut hook = webhook("hook", WebhookFormat::Json, &[format!("http://{address}/")]);
    hook.retry.attempts = u32::MAX;
    bench.enqueue((1..=5).map(|n| record(n, n)));
    bench.apply(&[hook]);
    until("it fails twice", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 2.0).await;
    until("the gauges say so", || {
        bench.counted("nereus_webhook_queue_length{webhook=\"hook\"}") == 5.0
            && bench.counted("nereus_webhook_oldest_seconds{webhook=\"hook\"}") > 0.0
    })
    .await;
    let sink = Sink::bound(address, Box::new(|_, _| status(200)), false).await;
    until("all are done", || bench.queued() == 0).await;
    assert_eq!(sink.numbers(), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_waited_for() {
    let bench = Bench::new();
    let sink = Sink::answering(|_, number| match number {
        0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        _ => status(200),
    })
    .await;
    bench.enqueue([record(1, 1)]);
    bench.apply(&[json_hook(&sink)]);
    until("it is done", || bench.queued() == 0).await;
    let posts = sink.posts();
    assert_eq!(posts.len(), 2);
    assert!(posts[1].at - posts[0].at >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_4xx_and_redirects_go_to_the_dead_letters() {
    let bench = Bench::new();
    let elsewhere = Sink::new().await;
    let target = elsewhere.url();
    let sink = Sink::answering(move |_, number| match number {
        0 => status(404),
        1 => (StatusCode::TEMPORARY_REDIRECT, [("location", target.clone())]).into_response(),
        _ => status(200),
    })
    .await;
    let mut hook = json_hook(&sink);
    hook.batch.max = 1;
    bench.enqueue((1..=3).map(|n| record(n, n)));
    bench.apply(&[hook]);
    until("all are done", || bench.queued() == 0).await;
    let reasons: Vec<_> = bench.dead().into_iter().map(|(row, _, reason)| (row, reason)).collect();
    assert_eq!(
        reasons,
        [(Some(1), "404 Not Found".to_owned()), (Some(2), "307 Temporary Redirect".to_owned())]
    );
    assert_eq!(sink.numbers(), [1, 2, 3]);
    assert!(elsewhere.posts().is_empty(), "redirects are not followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_breaks_its_endpoint_uses_up_its_attempts_alone() {
    let bench = Bench::new();
    let sink =
        Sink::answering(|post, _| if post.numbers().contains(&20) { status(500) } else { status(200) }).await;
    bench.enqueue((1..=50).map(|n| record(n, n)));
    bench.apply(&[json_hook(&sink)]);
    until("all are done", || bench.queued() == 0).await;
    let dead = bench.dead();
    assert_eq!(dead.iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [Some(20)]);
    assert_eq!(dead[0].2, "500 Internal Server Error (after 10 attempts)");
    let posts = sink.posts();
    let taken: Vec<_> =
        posts.iter().filter(|post| !post.numbers().contains(&20)).flat_map(Post::numbers).collect();
    assert_eq!(taken, (1..=50).filter(|n| *n != 20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_url_takes_what_was_queued_behind_a_dead_one() {
    let bench = Bench::new();
    let sink = Sink::new().await;
    let mut dead = webhook("hook", WebhookFormat::Json, &[format!("http://{}/", nobody())]);
    dead.retry =
        RetrySettings { attempts: 3, initial: Duration::from_secs(600), max: Duration::from_secs(600) };
    bench.enqueue((0..3000).map(|n| record(n % 7 + 1, n + 1)));
    bench.apply(&[dead]);
    until("it fails", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 1.0).await;
    bench.apply(&[json_hook(&sink)]);
    until("all are done", || bench.queued() == 0).await;
    assert!(bench.dead().is_empty());
    let changes: Vec<_> = sink
        .posts()
        .iter()
        .flat_map(|post| post.body["alerts"].as_array().unwrap().clone())
        .map(|alert| alert["change"].as_u64().unwrap())
        .collect();
    assert_eq!(changes, (1..=3000).collect::<Vec<_>>(), "in order, each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_done_once_every_url_has_it() {
    let bench = Bench::new();
    let open = Arc::new(AtomicUsize::new(0));
    let gate = Arc::clone(&open);
    let slow = Sink::answering(move |_, _| match gate.load(Ordering::SeqCst) {
        0 => status(503),
        _ => status(200),
    })
    .await;
    let quick = Sink::new().await;
    let mut hook = webhook("hook", WebhookFormat::Json, &[slow.url(), quick.url()]);
    hook.retry.attempts = u32::MAX;
    bench.enqueue((1..=300).map(|n| record(n, n)));
    bench.apply(&[hook]);
    until("the healthy member has all", || quick.numbers().len() == 300).await;
    assert_eq!(bench.queued(), 300, "none is done before the other has it");
    open.store(1, Ordering::SeqCst);
    until("all are done", || bench.queued() == 0).await;
    assert_eq!(quick.numbers(), (1..=300).collect::<Vec<_>>(), "the healthy member got each once");
    let taken = slow.numbers();
    assert_eq!(taken[taken.len() - 300..], (1..=300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_and_pauses_of_the_store_survive_a_restart() {
    let bench = Bench::new();
    let sink = Sink::answering(|_, _| status(503)).await;
    bench.enqueue((1..=2).map(|n| record(n, n)));
    let soon = Timestamp::now().after(Duration::from_millis(300));
    for row in &mut bench.store.0.lock().outbox {
        (row.attempts, row.not_before) = (9, soon);
    }
    bench.apply(&[json_hook(&sink)]);
    until("both are given up", || bench.queued() == 0).await;
    assert!(Timestamp::now() >= soon);
    assert_eq!(sink.posts().len(), 1, "the tenth attempt is the last");
    assert_eq!(bench.dead().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_webhook_parks_its_rows_and_takes_its_metrics_along() {
    let bench = Bench::new();
    let sink = Sink::new().await;
    let mut dead = webhook("hook", WebhookFormat::Json, &[format!("http://{}/", nobody())]);
    dead.retry.attempts = u32::MAX;
    bench.enqueue((1..=5).map(|n| record(n, n)));
    bench.apply(&[dead]);
    until("it fails", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 1.0).await;
    bench.apply(&[]);
    assert!(!bench.metrics.render().unwrap().contains("webhook=\"hook\""));
    bench.apply(&[json_hook(&sink)]);
    until("the parked rows are delivered", || bench.queued() == 0).await;
    assert_eq!(sink.numbers(), [1, 2, 3, 4, 5]);
    assert_eq!(bench.counted("nereus_webhooks_delivered_total{webhook=\"hook\"}"), 5.0);
}

#[tokio::test]
async fn what_is_to_drain_before_it_began_drains_and_ends() {
    let (bench, sink) = (Bench::new(), Sink::new().await);
    bench.enqueue([record(1, 1)]);
    let hook =
        WebhookSettings { when_removed: crate::config::settings::WhenRemoved::Drain, ..json_hook(&sink) };
    bench.apply(&[hook]);
    // One thread runs all of this: the worker has not been asked yet.
    bench.apply(&[]);
    until("it has delivered", || bench.queued() == 0).await;
    let ended = || bench.deliveries.workers.lock().draining.values().all(|worker| worker.task.is_finished());
    until("it has ended", ended).await;
    assert_eq!(sink.numbers(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn what_fails_in_flight_over_a_reload_is_overtaken_by_nothing_of_its_alert() {
    let bench = Bench::new();
    let gate = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let shut = Arc::clone(&gate);
    let sink = Sink::answering(move |post, _| {
        if post.headers["x-token"] == "new" {
            return status(200);
        }
        // Nothing that this worker has at hand waits with it.
        tokio::task::block_in_place(|| {
            let longest = Duration::from_secs(30);
            drop(shut.1.wait_timeout_while(shut.0.lock().unwrap(), longest, |open| !*open).unwrap());
        });
        status(503)
    })
    .await;
    let hook = |token: &str| {
        let mut hook = json_hook(&sink);
        hook.headers = vec![("x-token".into(), Secret::new(token.as_bytes().to_vec()))];
        (hook.batch.max, hook.concurrency, hook.retry.attempts) = (4, 3, 2);
        hook
    };
    bench.enqueue((1..=140).map(|n| record(n % 14 + 1, n)));
    bench.apply(&[hook("old")]);
    until("posts are in flight", || sink.endpoint.number.load(Ordering::SeqCst) == 3).await;
    bench.apply(&[hook("new")]);
    // Under the new settings attempts count anew, and what is in flight under the old ones is posted once more.
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    until("all are done", || bench.queued() == 0).await;
    assert!(bench.dead().is_empty(), "{:?}", bench.dead());
    let mut changes: HashMap<u64, Vec<u64>> = HashMap::new();
    for post in sink.posts().iter().filter(|post| post.headers["x-token"] == "new") {
        for alert in post.body["alerts"].as_array().unwrap() {
            let number = |name: &str| alert[name].as_u64().unwrap();
            changes.entry(number("id")).or_default().push(number("change"));
        }
    }
    for alert in 1..=14 {
        let expected: Vec<_> = (1..=140).filter(|n| n % 14 + 1 == alert).collect();
        assert_eq!(changes[&alert], expected, "alert {alert}");
    }
}

/// A disk that refuses for a while is no endpoint that fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_in_time_counts_while_the_writer_takes_nothing() {
    const TIMEOUT: Duration = Duration::from_millis(500);
    let bench = Bench::new();
    let sink = Sink::answering(|post, _| {
        if post.numbers() == [2] {
            std::thread::sleep(TIMEOUT / 5);
        }
        status(200)
    })
    .await;
    let closed = bench.gate.lock().await;
    let mut other =
        (1..).map(|change| Command::Delivered(Delivered::UpTo { webhook: "other".into(), change }));
    let mut left = Vec::new();
    while left.is_empty() {
        left.extend(other.next());
        bench.queue.offer(&mut left);
    }
    bench.enqueue([record(1, 1), record(2, 2)]);
    let one = BatchSettings { max: 1, wait: Duration::ZERO };
    bench.apply(&[WebhookSettings { batch: one, concurrency: 2, timeout: TIMEOUT, ..json_hook(&sink) }]);
    until("both are posted", || sink.posts().len() == 2).await;
    tokio::time::sleep(2 * TIMEOUT).await;
    assert_eq!(bench.queued(), 2, "the writer was told of none");
    drop(closed);
    until("both are done", || bench.queued() == 0).await;
    assert_eq!(
        (sink.posts().len(), bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}")),
        (2, 0.0)
    );
}
