//! What is told of webhooks and outputs.

use super::{codes, told};

#[test]
fn each_mistake_of_webhooks_and_outputs_has_its_code() {
    for (text, expected) in [
        ("webhooks: [{name: a, format: json, url: 'http://a', concurrency: 65}]", "config-range"),
        ("webhooks: [{name: a, format: alertmanager, url: 'http://a/b', concurrency: 2}]", "config-conflict"),
        (
            "webhooks: [{name: a, format: json, url: 'http://a', timeout: 1s, connect_timeout: 2s}]",
            "config-conflict",
        ),
        ("webhooks: [{name: a, format: json, url: 'http://a', template: x}]", "config-conflict"),
        ("webhooks: [{name: a, format: template, url: 'http://a'}]", "config-missing-key"),
        ("webhooks: [{name: a, format: template, url: 'http://a', template: '{{ x'}]", "config-template"),
        (
            "webhooks: [{name: a, format: template, url: 'http://a', template: '{% set x = 1 %}'}]",
            "config-template",
        ),
        (
            "webhooks: [{name: a, format: template, url: 'http://a', template: x, content_type: 5}]",
            "config-type",
        ),
        (
            "webhooks: [{name: a, format: template, url: 'http://a', template: x, content_type: text}]",
            "config-value",
        ),
        ("webhooks: [{name: a, format: json, url: 'http://a', addresses: []}]", "config-value"),
        ("webhooks: [{name: a, format: json, url: 'http://a', addresses: [here]}]", "config-network"),
        ("webhooks: [{name: a, format: json, url: 'http://a', auth: {user: b}}]", "config-conflict"),
        (
            "webhooks: [{name: a, format: json, url: 'http://a', auth: {user: 'b:c', password: d}}]",
            "config-value",
        ),
        (
            "webhooks: [{name: a, format: json, url: 'http://a', auth: {bearer: b}, headers: {authorization: c}}]",
            "config-conflict",
        ),
        (
            "webhooks: [{name: a, format: json, url: 'http://a', signing: {secret: 'whsec_?'}}]",
            "config-secret",
        ),
        (
            "webhooks: [{name: a, format: json, url: 'http://a', tls: {minimum_version: tls1.2}}]",
            "config-conflict",
        ),
        ("webhooks: [{name: a, format: json, url: 'https://a', tls: {ca: a.pem}}]", "config-tls"),
        ("webhooks: [{name: a, format: json, url: 'https://a', tls: {key: a}}]", "config-missing-key"),
        ("outputs: [{name: a}]", "config-conflict"),
        ("outputs: [{name: a, forward: {}}]", "config-missing-key"),
        ("outputs: [{name: a, forward: {address: 'tcp://h:162'}}]", "config-address"),
        ("outputs: [{name: a, forward: {address: 'udp://h'}}]", "config-address"),
        ("outputs: [{name: a, forward: {address: 'udp://h:162', as: v3}}]", "config-value"),
        ("outputs: [{name: a, forward: {address: 'udp://h:162', community: ''}}]", "config-secret"),
        ("outputs: [{name: a, file: {path: b}, forward: {address: 'udp://h:162'}}]", "config-conflict"),
        (
            "{listener: {address: '0.0.0.0:1162'}, outputs: [{name: a, forward: {address: 'udp://127.0.0.1:1162'}}]}",
            "config-forward-loop",
        ),
        (
            "{listener: {address: '[::]:1162'}, outputs: [{name: a, forward: {address: 'udp://localhost:1162'}}]}",
            "config-forward-loop",
        ),
        (
            "{access: {users: [{name: u}]}, outputs: [{name: a, forward: {address: 'udp://h:162', as: received}}]}",
            "config-forward-v3",
        ),
        ("outputs: [{name: a, file: {}}]", "config-missing-key"),
        ("outputs: [{name: a, file: {path: b, rotate_size: 1B}}]", "config-range"),
        ("outputs: [{name: a, syslog: {address: '10.0.0.9:514'}}]", "config-address"),
        ("outputs: [{name: a, syslog: {address: 'udp://h:0'}}]", "config-address"),
        ("outputs: [{name: a, syslog: {address: 'udp://h:514', app_name: 'a b'}}]", "config-value"),
        (
            "outputs: [{name: a, syslog: {address: 'udp://h:514', tls: {minimum_version: tls1.2}}}]",
            "config-conflict",
        ),
        ("outputs: [{name: a, syslog: {address: 'udp://h:514', facility: local9}}]", "config-value"),
        (
            "{webhooks: [{name: a, format: json, url: 'http://a'}], outputs: [{name: a, file: {path: b}}]}",
            "config-duplicate-name",
        ),
    ] {
        assert_eq!(codes(text), [expected], "{text}\n{}", told(text));
    }
}

/// Alertmanager answers 405 there, and whoever forgot the path hears of it only once an alert is lost for good.
#[test]
fn an_alertmanager_without_a_path_is_a_warning() {
    for (url, format, warned) in [
        ("http://am:9093", "alertmanager", true),
        ("http://am:9093/", "alertmanager", true),
        ("http://am:9093/api/v2/alerts", "alertmanager", false),
        ("https://am/prefix/api/v2/alerts", "alertmanager", false),
        ("http://hook:80", "json", false),
    ] {
        let text = format!("webhooks: [{{name: a, url: '{url}', format: {format}}}]");
        let expected = if warned { &["config-value"][..] } else { &[] };
        assert_eq!(codes(&text), expected, "{text}\n{}", told(&text));
        assert!(!warned || told(&text).contains("/api/v2/alerts"));
    }
}
