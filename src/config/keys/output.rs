//! The keys of outputs that are no webhooks.

use super::webhook::{BREAKER_KEYS, RATE_LIMIT_KEYS, RETRY_KEYS, TLS_KEYS};
use super::{DAY, Kind, MINUTE, Section, YEAR, key};

pub(super) static OUTPUT: Section = Section {
    path: "outputs[]",
    keys: &[
        key("name", Kind::Text, "Its name, for `notify`; webhooks and outputs have names of their own.")
            .required()
            .example("\"archive\""),
        key("file", Kind::Section(&FILE), "A file that gets a JSON line for each change of an alert."),
        key("syslog", Kind::Section(&SYSLOG), "In place of `file`: a syslog receiver (RFC 5424).")
            .example(r#"{"address": "tcp://10.0.0.9:601", "facility": "local0", "app_name": "nereus"}"#),
        key(
            "forward",
            Kind::Section(&FORWARD),
            "In place of `file`: an SNMP receiver that every stored notification is sent on to.",
        )
        .example(r#"{"address": "udp://10.0.0.9:162", "as": "v2c", "community": {"env": "NOC"}}"#),
        key("retry", Kind::Section(&RETRY), "As for webhooks."),
        key("breaker", Kind::Section(&BREAKER), "As for webhooks."),
        key(
            "rate_limit",
            Kind::Section(&RATE_LIMIT),
            "As for webhooks; of writes, which hold up to 100 changes.",
        ),
        key(
            "when_removed",
            Kind::Choice(&["park", "drain"]),
            "As for webhooks: what becomes of the queue once a reload removes the output.",
        )
        .default("\"park\""),
    ],
};

static RETRY: Section = Section { path: "outputs[].retry", keys: RETRY_KEYS };
static BREAKER: Section = Section { path: "outputs[].breaker", keys: BREAKER_KEYS };
static RATE_LIMIT: Section = Section { path: "outputs[].rate_limit", keys: RATE_LIMIT_KEYS };
static TLS: Section = Section { path: "outputs[].syslog.tls", keys: TLS_KEYS };

static FILE: Section = Section {
    path: "outputs[].file",
    keys: &[
        key("path", Kind::Path, "Where it is. One that was renamed or removed is made anew.")
            .required()
            .example("\"/var/log/nereus/alerts.jsonl\""),
        key(
            "rotate_size",
            Kind::Size { min: 1 << 16, max: 1 << 40 },
            "It is renamed and begun anew at this size.",
        )
        .default("\"100MiB\""),
        key(
            "rotate_age",
            Kind::Duration { min: MINUTE, max: YEAR },
            "It is renamed and begun anew so long after its beginning; without it never by age.",
        )
        .example("\"1d\""),
        key("keep", Kind::Integer { min: 0, max: 10_000 }, "So many renamed files are kept.").default("10"),
    ],
};

static SYSLOG: Section = Section {
    path: "outputs[].syslog",
    keys: &[
        key(
            "address",
            Kind::Text,
            "`udp://host:514`, `tcp://host:601` or `tls://host:6514`; TCP and TLS count octets (RFC 6587, RFC 5425).",
        )
        .required()
        .example("\"tcp://10.0.0.9:601\""),
        key("facility", Kind::Choice(FACILITIES), "The facility.").default("\"local0\""),
        key("app_name", Kind::Text, "What it calls itself.").default("\"nereus\""),
        key("timeout", Kind::Duration { min: 100, max: DAY }, "For connecting and for one write.").default("\"10s\""),
        key("tls", Kind::Section(&TLS), "What `tls://` trusts and shows, as for webhooks.")
            .example(r#"{"ca": "/etc/nereus/ca.pem"}"#),
        key("addresses", Kind::Many(&Kind::Network), "The only networks that the host may resolve to.")
            .example(r#"["10.0.0.0/8"]"#),
    ],
};

static FORWARD: Section = Section {
    path: "outputs[].forward",
    keys: &[
        key("address", Kind::Text, "`udp://host:162`.").required().example("\"udp://10.0.0.9:162\""),
        key(
            "as",
            Kind::Choice(&["v2c", "received"]),
            "v2c: an SNMPv2c trap that names the device (RFC 3584); received: the PDU as it came, which SNMPv3 does not allow.",
        )
        .default("\"v2c\""),
        key("community", Kind::Secret, "Its community.").default("\"public\""),
        key("timeout", Kind::Duration { min: 100, max: DAY }, "For finding the address and for one write.")
            .default("\"10s\""),
        key("addresses", Kind::Many(&Kind::Network), "The only networks that the host may resolve to.")
            .example(r#"["10.0.0.0/8"]"#),
    ],
};

/// RFC 5424 section 6.2.1, in the order of their numbers.
pub(in crate::config) const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
