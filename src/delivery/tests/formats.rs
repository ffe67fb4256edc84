//! What the formats post.

use super::*;
use crate::delivery::format::rehearse;
use crate::template::BodyTemplate;

async fn posted(format: WebhookFormat, most: usize, records: Vec<AlertRecord>) -> Vec<Post> {
    let (bench, sink) = (Bench::new(), Sink::new().await);
    let mut hook = webhook("hook one", format, &[sink.url()]);
    hook.batch.max = most;
    bench.enqueue(records);
    bench.apply(&[hook]);
    until("all are done", || bench.queued() == 0).await;
    assert!(bench.dead().is_empty(), "{:?}", bench.dead());
    sink.posts()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_is_what_alertmanager_posts() {
    let post =
        posted(WebhookFormat::Prometheus, 10, vec![record(1, 1), resolved(record(2, 2), 3)]).await.remove(0);
    assert_eq!(post.headers["content-type"], "application/json");
    let body = &post.body;
    assert_eq!(
        (&body["version"], &body["status"], &body["receiver"]),
        (&json!("4"), &json!("firing"), &json!("hook one"))
    );
    assert_eq!(body["commonLabels"], json!({"alertname": "Test"}));
    let alerts = body["alerts"].as_array().unwrap();
    assert_eq!(alerts[0]["labels"], json!({"alertname": "Test", "number": "1"}));
    assert_eq!(
        (&alerts[0]["status"], &alerts[0]["endsAt"]),
        (&json!("firing"), &json!("0001-01-01T00:00:00Z"))
    );
    assert_eq!(alerts[1]["status"], "resolved");
    assert!(alerts[1]["endsAt"].as_str().unwrap() >= alerts[1]["startsAt"].as_str().unwrap());
    assert_eq!(alerts[0]["fingerprint"].as_str().unwrap().len(), 16);
    assert_ne!(alerts[0]["fingerprint"], alerts[1]["fingerprint"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloudevents_are_structured_alone_and_batched_together() {
    let alone = posted(WebhookFormat::CloudEvents, 1, vec![record(7, 9)]).await.remove(0);
    assert_eq!(alone.headers["content-type"], "application/cloudevents+json; charset=utf-8");
    let event = &alone.body;
    assert_eq!(
        (&event["specversion"], &event["id"], &event["source"], &event["type"]),
        (&json!("1.0"), &json!("7-9"), &json!("/nereus/hook%20one"), &json!("nereus.alert.firing"))
    );
    assert_eq!((&event["data"]["id"], &event["data"]["event"]), (&json!(7), &json!({"id": 7})));
    assert_eq!(event["subject"], "Test 7");
    let together =
        posted(WebhookFormat::CloudEvents, 10, vec![record(1, 1), resolved(record(1, 1), 2)]).await.remove(0);
    assert_eq!(together.headers["content-type"], "application/cloudevents-batch+json; charset=utf-8");
    let types: Vec<_> = together.body.as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(types, ["nereus.alert.firing", "nereus.alert.resolved"]);
}

fn template(text: &str, content_type: &str) -> WebhookFormat {
    WebhookFormat::Template { body: BodyTemplate::compile(text).unwrap(), content_type: content_type.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_is_posted_and_one_that_fails_becomes_a_dead_letter() {
    let text = r#"{"t": {{ (webhook ~ ":" ~ status) | tojson }}, "n": [{% for a in alerts %}{{ a.labels.number }}{% if not loop.last %},{% endif %}{% endfor %}]}"#;
    let post =
        posted(template(text, "application/json"), 10, vec![record(1, 1), record(2, 2)]).await.remove(0);
    assert_eq!(post.body, json!({"t": "hook one:firing", "n": [1, 2]}));

    let (bench, sink) = (Bench::new(), Sink::new().await);
    let mut hook = json_hook(&sink);
    hook.format = template(
        "{{ alerts[0].labels.number }}{% if alerts | length > 1 or alert.labels.number == '2' %}{{ nothing }}{% endif %}",
        "text/plain",
    );
    bench.enqueue((1..=3).map(|n| record(n, n)));
    bench.apply(&[hook]);
    until("all are done", || bench.queued() == 0).await;
    let dead = bench.dead();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].2.starts_with("the template fails: "), "{}", dead[0].2);
    let posts = sink.posts();
    assert_eq!(posts.iter().map(|post| post.body.clone()).collect::<Vec<_>>(), [json!(1), json!(3)]);
    assert_eq!(posts[0].headers["content-type"], "text/plain");
}

fn settings(template: &str, rules: &str) -> crate::config::Settings {
    let text = format!(
        "unmatched: store\nwebhooks:\n  - {{name: chat, format: template, url: 'http://h/', template: {template}}}\nrules:\n{rules}"
    );
    let parsed = crate::config::parse("a.yaml", text.as_bytes(), &crate::config::System);
    parsed.unwrap_or_else(|problems| panic!("{problems}")).settings
}

#[test]
fn a_template_is_tried_out_with_every_rule_that_notifies_it() {
    let rules = "  - {name: a, alert: A, labels: {site: x}}\n  - {name: b, alert: B, notify: []}\n";
    let good = settings(r#"'{"s": {{ alert.labels.site | tojson }}}'"#, rules);
    assert_eq!(rehearse(&good), []);
    let rules = format!("{rules}  - {{name: c, alert: C}}\n");
    let wrong = rehearse(&settings(r#"'{"s": {{ alert.labels.site | tojson }}}'"#, &rules));
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].message.contains("`chat`") && wrong[0].message.contains("rule `c`"),
        "{}",
        wrong[0].message
    );
    let open = rehearse(&settings(
        r#"'{"s": "{{ alert.annotations.summary }}"}'"#,
        "  - {name: a, alert: A, annotations: {summary: x}}\n",
    ));
    assert!(open[0].message.contains("no JSON"), "a text that is not escaped: {}", open[0].message);
    let mut all = settings(
        r#"'{"s": {{ alert.labels.site | tojson }}}'"#,
        "  - {name: a, drop: true, match: {trap: linkDown}}\n",
    );
    assert_eq!(rehearse(&all), [], "nobody notifies it");
    all.unmatched = crate::config::settings::Unmatched::Builtin;
    assert!(rehearse(&all)[0].message.contains("built-in"));
}
