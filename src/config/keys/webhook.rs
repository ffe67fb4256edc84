//! The keys of what delivers alerts.

use super::{DAY, HOUR, Key, Kind, MINUTE, Section, key};

pub(super) static WEBHOOK: Section = Section {
    path: "webhooks[]",
    keys: &[
        key("name", Kind::Text, "Its name; what is queued belongs to it, so that a new name is a new queue.")
            .required()
            .example("\"alertmanager\""),
        key("url", Kind::Url, "Where to post.").example("\"https://noc.example.com/hook\""),
        key("urls", Kind::List(&Kind::Url), "In place of `url`: every member of a cluster gets each post.")
            .example(r#"["http://127.0.0.1:9093/api/v2/alerts"]"#),
        key(
            "format",
            Kind::Choice(&["alertmanager", "json", "prometheus", "cloudevents", "template"]),
            "What is posted: Alertmanager's API v2, Nereus' own JSON, what Alertmanager posts itself, CloudEvents 1.0, or `template`.",
        )
        .required()
        .example("\"alertmanager\""),
        key(
            "template",
            Kind::Either(&[Kind::Template, Kind::Section(&TEMPLATE)]),
            "The body of each post, for the format `template`: a text, or a file.",
        )
        .example(r#"{"file": "/etc/nereus/slack.json.j2"}"#),
        key("content_type", Kind::Text, "What a body of `template` is.")
            .example("\"application/json\""),
        key("timeout", Kind::Duration { min: 100, max: 10 * MINUTE }, "For one whole request.")
            .default("\"10s\""),
        key(
            "connect_timeout",
            Kind::Duration { min: 10, max: 10 * MINUTE },
            "For connecting, TLS included; never longer than `timeout`.",
        )
        .default("\"5s\""),
        key(
            "headers_timeout",
            Kind::Duration { min: 10, max: 10 * MINUTE },
            "For the answer's beginning, from the request's end on; never longer than `timeout`.",
        )
        .default("\"10s\""),
        key("retry", Kind::Section(&RETRY), "What follows a failure."),
        key("breaker", Kind::Section(&BREAKER), "When an endpoint that fails is left alone."),
        key("rate_limit", Kind::Section(&RATE_LIMIT), "The most posts to a URL in a time; without it as many as there are."),
        key("batch", Kind::Section(&BATCH), "How alerts are put together."),
        key(
            "concurrency",
            Kind::Integer { min: 1, max: 64 },
            "Posts in flight to a URL at once; changes of one alert keep their order.",
        )
        .default("1"),
        key("headers", Kind::Map(&Kind::Secret), "Headers of every post.")
            .example(r#"{"Authorization": {"file": "/run/secrets/token"}}"#),
        key("auth", Kind::Section(&AUTH), "The Authorization header: user and password (Basic), or a bearer token.")
            .example(r#"{"user": "nereus", "password": {"file": "/run/secrets/password"}}"#)
            .also(r#"{"bearer": {"file": "/run/secrets/token"}}"#),
        key(
            "signing",
            Kind::Section(&SIGNING),
            "Signs each post (Standard Webhooks): webhook-signature over webhook-id, webhook-timestamp and the body.",
        )
        .example(r#"{"secret": {"file": "/run/secrets/signing"}}"#),
        key("tls", Kind::Section(&TLS), "What `https` trusts and shows.")
            .example(r#"{"ca": "/etc/nereus/ca.pem", "certificate": "/etc/nereus/client.pem", "key": {"file": "/etc/nereus/client.key"}, "minimum_version": "tls1.3"}"#),
        key(
            "addresses",
            Kind::Many(&Kind::Network),
            "The only networks that the host may resolve to; link-local and metadata addresses are never among them.",
        )
        .example(r#"["127.0.0.0/8", "10.0.0.0/8"]"#),
        key(
            "when_removed",
            Kind::Choice(&["park", "drain"]),
            "What becomes of the queue once a reload removes the webhook: it waits for a webhook of that name, or is delivered.",
        )
        .default("\"park\""),
    ],
};

static TEMPLATE: Section = Section {
    path: "webhooks[].template",
    keys: &[key("file", Kind::Path, "A file with the text, relative to this one.")
        .required()
        .example("\"/etc/nereus/slack.json.j2\"")],
};

static AUTH: Section = Section {
    path: "webhooks[].auth",
    keys: &[
        key("user", Kind::Text, "The user of Basic authentication (RFC 7617).").example("\"nereus\""),
        key("password", Kind::Secret, "Its password.").example(r#"{"file": "/run/secrets/password"}"#),
        key("bearer", Kind::Secret, "A bearer token (RFC 6750), in place of user and password.")
            .example(r#"{"file": "/run/secrets/token"}"#),
    ],
};

static SIGNING: Section = Section {
    path: "webhooks[].signing",
    keys: &[key("secret", Kind::Secret, "The shared key: `whsec_` and base64, or the octets themselves.")
        .required()
        .example(r#"{"file": "/run/secrets/signing"}"#)],
};

static TLS: Section = Section { path: "webhooks[].tls", keys: TLS_KEYS };

pub(super) const TLS_KEYS: &[Key] = &[
    key(
        "ca",
        Kind::Path,
        "PEM certificates that are trusted in place of the system's, relative to this file.",
    )
    .example("\"/etc/nereus/ca.pem\""),
    key("certificate", Kind::Path, "Our certificate chain, PEM, relative to this file.")
        .example("\"/etc/nereus/client.pem\""),
    key("key", Kind::Secret, "Its private key, PEM.").example(r#"{"file": "/etc/nereus/client.key"}"#),
    key("minimum_version", Kind::Choice(&["tls1.2", "tls1.3"]), "The least version of TLS.")
        .default("\"tls1.2\""),
];

static RETRY: Section = Section { path: "webhooks[].retry", keys: RETRY_KEYS };

pub(super) const RETRY_KEYS: &[Key] = &[
    key("attempts", Kind::Integer { min: 1, max: 1_000 }, "How often a post is tried in all.").default("10"),
    key("initial", Kind::Duration { min: 10, max: HOUR }, "The first pause; it doubles.")
        .default("\"500ms\""),
    key("max", Kind::Duration { min: 10, max: DAY }, "The longest pause.").default("\"1m\""),
];

static BREAKER: Section = Section { path: "webhooks[].breaker", keys: BREAKER_KEYS };

pub(super) const BREAKER_KEYS: &[Key] = &[
    key("failures", Kind::Integer { min: 1, max: 1_000 }, "So many failures in a row open it.").default("5"),
    key("pause", Kind::Duration { min: 10, max: DAY }, "How long it stays open; then one post tries.")
        .default("\"30s\""),
];

static RATE_LIMIT: Section = Section { path: "webhooks[].rate_limit", keys: RATE_LIMIT_KEYS };

pub(super) const RATE_LIMIT_KEYS: &[Key] = &[
    key("requests", Kind::Integer { min: 1, max: 1_000_000 }, "So many posts in `per`, evenly spread.")
        .required()
        .example("100"),
    key("per", Kind::Duration { min: 10, max: DAY }, "The time.").default("\"1s\""),
    key("burst", Kind::Integer { min: 1, max: 1_000_000 }, "How many may come at once after a rest.")
        .default("1"),
];

static BATCH: Section = Section {
    path: "webhooks[].batch",
    keys: &[
        key("max", Kind::Integer { min: 1, max: 10_000 }, "The most alerts of a post.").default("100"),
        key("wait", Kind::Duration { min: 0, max: MINUTE }, "How long it waits for more.")
            .default("\"200ms\""),
    ],
};
