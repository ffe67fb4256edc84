//! How posts flow: abreast, limited, held back by the breaker, drained.

use super::*;

const BREAKER: &str = "nereus_webhook_breaker_state{webhook=\"hook\"}";

/// The changes that `posts` told, by alert, in the order in which the endpoint had them.
fn changes_by_alert(posts: &[Post]) -> HashMap<u64, Vec<u64>> {
    let mut told: HashMap<u64, Vec<u64>> = HashMap::new();
    for alert in posts.iter().flat_map(|post| post.body["alerts"].as_array().unwrap()) {
        let of = |name: &str| alert[name].as_u64().unwrap();
        told.entry(of("id")).or_default().push(of("change"));
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_go_abreast_and_no_change_overtakes_another_of_its_alert() {
    let bench = Bench::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, peak) = (Arc::clone(&now), Arc::clone(&most));
    let sink = Sink::answering(move |post, number| {
        peak.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Later posts are answered sooner.
        std::thread::sleep(Duration::from_millis(20 - (number % 8) as u64 * 2));
        count.fetch_sub(1, Ordering::SeqCst);
        if post.numbers().contains(&3) && number.is_multiple_of(3) { status(503) } else { status(200) }
    })
    .await;
    let mut hook = json_hook(&sink);
    hook.concurrency = 8;
    hook.batch = BatchSettings { max: 3, wait: Duration::ZERO };
    hook.retry.attempts = u32::MAX;
    bench.enqueue((0..400).map(|n| record(n % 37 + 1, n + 1)));
    bench.apply(&[hook]);
    until("all are done", || bench.queued() == 0).await;
    assert!((2..=8).contains(&most.load(Ordering::SeqCst)), "{most:?} posts abreast");
    let mut told = 0;
    for (alert, mut changes) in changes_by_alert(&sink.posts()) {
        // A post that was refused comes again; what comes first counts.
        let mut seen = std::collections::HashSet::new();
        changes.retain(|change| seen.insert(*change));
        assert!(changes.is_sorted(), "alert {alert}: {changes:?}");
        told += changes.len();
    }
    assert_eq!(told, 400);
    assert!(bench.dead().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_limit_spreads_posts_and_says_so() {
    let (bench, sink) = (Bench::new(), Sink::new().await);
    let mut hook = json_hook(&sink);
    hook.batch = BatchSettings { max: 1, wait: Duration::ZERO };
    hook.concurrency = 4;
    hook.rate_limit = Some(RateLimit { requests: 20, per: Duration::from_secs(1), burst: 2 });
    bench.enqueue((1..=12).map(|n| record(n, n)));
    bench.apply(&[hook]);
    let mut limited = false;
    let patience = Instant::now() + Duration::from_secs(30);
    while bench.queued() > 0 {
        assert!(Instant::now() < patience);
        let status = bench.deliveries.status().await;
        limited |= status[0].endpoints[0].rate_limited && status[0].endpoints[0].next_attempt.is_some();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(limited, "the status says that it waits");
    let posts = sink.posts();
    // Two at once, then one each 50 ms.
    let span = posts[posts.len() - 1].at - posts[0].at;
    assert!(span >= Duration::from_millis(480), "{span:?}");
    assert!(bench.counted("nereus_webhook_rate_limited_total{webhook=\"hook\"}") >= 9.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_opens_tries_and_closes() {
    let bench = Bench::new();
    let well = Arc::new(AtomicUsize::new(0));
    let gate = Arc::clone(&well);
    let sink =
        Sink::answering(move |_, _| status(if gate.load(Ordering::SeqCst) == 1 { 200 } else { 503 })).await;
    let mut hook = json_hook(&sink);
    hook.retry.attempts = u32::MAX;
    hook.breaker = BreakerSettings { failures: 3, pause: Duration::from_millis(300) };
    bench.enqueue((1..=5).map(|n| record(n, n)));
    bench.apply(&[hook]);
    until("it opens", || bench.counted(BREAKER) == 2.0).await;
    let posts = sink.posts().len();
    assert_eq!(posts, 3, "no more until the pause is over");
    let status = bench.deliveries.status().await.remove(0);
    assert_eq!((status.queued, status.format, &*status.name), (Some(5), "json", "hook"));
    let endpoint = &status.endpoints[0];
    assert_eq!((endpoint.breaker, endpoint.failures), ("open", 3));
    assert!(endpoint.next_attempt.unwrap() > Timestamp::now());
    assert_eq!(endpoint.last_error.as_deref(), Some("503 Service Unavailable"));
    assert_eq!(endpoint.url, format!("http://{}", sink.address), "without the path");
    assert_eq!(bench.deliveries.failing(), [Arc::from("hook")]);
    until("one post tries", || sink.posts().len() > posts).await;
    assert_eq!(sink.posts()[posts].numbers().len(), 1, "with one alert");
    well.store(1, Ordering::SeqCst);
    until("all are done", || bench.queued() == 0).await;
    until("it closes", || bench.counted(BREAKER) == 0.0).await;
    assert!(bench.deliveries.failing().is_empty());
    let posts = sink.posts();
    assert!(posts[3].at - posts[2].at >= Duration::from_millis(290));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_no_attempt() {
    let bench = Bench::new();
    let address = nobody();
    let mut hook = webhook("hook", WebhookFormat::Json, &[format!("http://{address}/")]);
    hook.retry.attempts = 1;
    bench.enqueue((1..=3).map(|n| record(n, n)));
    bench.apply(&[hook]);
    until("it fails often", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 8.0).await;
    assert!(bench.dead().is_empty() && bench.queued() == 3);
    let _sink = Sink::bound(address, Box::new(|_, _| status(500)), false).await;
    until("an answer is one", || bench.dead().len() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_webhook_drains_if_it_is_to() {
    let bench = Bench::new();
    let open = Arc::new(AtomicUsize::new(0));
    let gate = Arc::clone(&open);
    let sink =
        Sink::answering(move |_, _| status(if gate.load(Ordering::SeqCst) == 1 { 200 } else { 503 })).await;
    let mut hook = json_hook(&sink);
    hook.retry.attempts = u32::MAX;
    hook.when_removed = crate::config::settings::WhenRemoved::Drain;
    bench.enqueue((1..=150).map(|n| record(n, n)));
    bench.apply(&[hook]);
    until("it fails", || !sink.posts().is_empty()).await;
    bench.apply(&[]);
    assert_eq!(bench.deliveries.status().await[0].duty, "drain");
    open.store(1, Ordering::SeqCst);
    until("all are done", || bench.queued() == 0).await;
    until("its metrics go with it", || !bench.metrics.render().unwrap().contains("webhook=\"hook\"")).await;
    assert!(bench.deliveries.status().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_comes_back_while_it_drains_goes_on() {
    let (bench, sink) = (Bench::new(), Sink::new().await);
    let mut dead = webhook("hook", WebhookFormat::Json, &[format!("http://{}/", nobody())]);
    dead.when_removed = crate::config::settings::WhenRemoved::Drain;
    bench.enqueue((1..=9).map(|n| record(n, n)));
    bench.apply(&[dead]);
    bench.apply(&[]);
    bench.apply(&[json_hook(&sink)]);
    until("all are done", || bench.queued() == 0).await;
    assert_eq!(sink.numbers(), (1..=9).collect::<Vec<_>>());
    assert_eq!(bench.counted("nereus_webhooks_delivered_total{webhook=\"hook\"}"), 9.0);
}

/// "Webhook reload preserves queued notifications."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_queued_behind_a_dead_endpoint_reach_the_new_url_in_order() {
    let (bench, sink) = (Bench::new(), Sink::new().await);
    let mut dead = webhook("hook", WebhookFormat::Json, &[format!("http://{}/", nobody())]);
    dead.retry.attempts = 1;
    bench.enqueue((0..10_000).map(|n| record(n % 100 + 1, n + 1)));
    bench.apply(&[dead]);
    until("it fails", || bench.counted("nereus_webhooks_failed_total{webhook=\"hook\"}") >= 3.0).await;
    let mut new = json_hook(&sink);
    new.concurrency = 4;
    bench.apply(&[new]);
    until("all are done", || bench.queued() == 0).await;
    assert!(bench.dead().is_empty());
    let told = changes_by_alert(&sink.posts());
    assert_eq!(told.len(), 100);
    for (alert, changes) in told {
        let expected: Vec<_> = (0..100).map(|n| n * 100 + alert).collect();
        assert_eq!(changes, expected, "alert {alert}: each once, in order");
    }
}
