//! The one table of what a configuration may say: every key with its type, range, default and meaning.
//!
//! The decoder looks up each key here (so that an unknown one can be told with a suggestion), and the JSON
//! Schema and the sample are made from it. Tests prove that none of them knows a key that the others do not.

mod access;
mod output;
mod webhook;

use access::ACCESS;
pub(super) use output::FACILITIES;
use output::OUTPUT;
use webhook::WEBHOOK;

/// Changed only by a restart, by path. The one list: `config::diff` finds what differs in them.
pub(super) const RESTART_ONLY: &[&str] = &[
    "access.engine_id",
    "storage.path",
    "mib.cache",
    "listener[].receivers",
    "listener[].cores",
    "admin.address",
];

/// What a value may be.
#[derive(Debug)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number of this range.
    Integer { min: i64, max: i64 },
    /// `500ms`, `2s`, `1h30m`, between these milliseconds.
    Duration { min: u64, max: u64 },
    /// `32MiB`, between these octets.
    Size { min: u64, max: u64 },
    /// `5%`.
    Percent,
    /// A text of one line.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path of the file system.
    Path,
    /// A path whose names may have `*`, `?` and `[…]`, relative to the file that it stands in.
    Pattern,
    /// `0.0.0.0:1162`.
    Address,
    /// The same, or `tcp://0.0.0.0:1162`.
    Endpoint,
    /// `10.0.0.0/8`, or an address alone.
    Network,
    /// `http://…` or `https://…`; what follows the host is never shown.
    Url,
    /// A text, `{env: NAME}` or `{file: PATH}`; never shown.
    Secret,
    /// An SNMPv3 engine ID in hexadecimal digits.
    EngineId,
    /// A notification: `IF-MIB::linkDown`, an OID, or a subtree.
    Trap,
    /// A varbind's name or OID.
    Varbind,
    /// A text with `{{ … }}`.
    Template,
    /// The name of a community; never shown, since it is easily mistaken for the community itself.
    Alias,
    /// The name of a webhook.
    Webhook,
    /// A condition over varbinds.
    Condition,
    /// A list.
    List(&'static Self),
    /// One, or a list of them.
    Many(&'static Self),
    /// Names chosen by the user, all with values of one kind.
    Map(&'static Self),
    /// The first that fits.
    Either(&'static [Self]),
    /// Keys of this table.
    Section(&'static Section),
    /// Anything at all; never shown, since nobody knows what is secret in it.
    Any,
}

/// A section of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// Where it stands, as `webhooks[].retry`; empty at the top.
    pub(super) path: &'static str,
    /// Its keys, in the order of the sample.
    pub(super) keys: &'static [Key],
}

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What it means, for sample, schema and guide.
    pub(super) doc: &'static str,
    pub(super) required: bool,
    /// The default, as JSON.
    pub(super) default: Option<&'static str>,
    /// An example, as JSON; without one the default stands in the sample.
    pub(super) example: Option<&'static str>,
    /// Another way to write it, as JSON.
    pub(super) also: Option<&'static str>,
}

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, doc, required: false, default: None, example: None, also: None }
}

impl Key {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn default(mut self, json: &'static str) -> Self {
        self.default = Some(json);
        self
    }

    const fn example(mut self, json: &'static str) -> Self {
        self.example = Some(json);
        self
    }

    const fn also(mut self, json: &'static str) -> Self {
        self.also = Some(json);
        self
    }
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// `webhooks[].retry.attempts`.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Whether any section has a key of this name.
pub(super) fn is_key(name: &str) -> bool {
    fn within(kind: &Kind, name: &str) -> bool {
        match kind {
            Kind::List(kind) | Kind::Many(kind) | Kind::Map(kind) => within(kind, name),
            Kind::Either(kinds) => kinds.iter().any(|kind| within(kind, name)),
            Kind::Section(section) => {
                section.keys.iter().any(|key| key.name == name || within(&key.kind, name))
            }
            _ => false,
        }
    }
    within(&Kind::Section(&ROOT), name)
}

impl Kind {
    /// Whether a secret may stand in it.
    pub(super) fn holds_secrets(&self) -> bool {
        match self {
            Self::Secret | Self::Url | Self::Any => true,
            Self::List(kind) | Self::Many(kind) | Self::Map(kind) => kind.holds_secrets(),
            Self::Either(kinds) => kinds.iter().any(Self::holds_secrets),
            Self::Section(section) => section.keys.iter().any(|key| key.kind.holds_secrets()),
            _ => false,
        }
    }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 366 * DAY;
const MIB: u64 = 1 << 20;

pub(super) const SEVERITIES: &[&str] = &["critical", "major", "minor", "warning", "info"];
const MAPPED: Kind = Kind::Choice(&["critical", "major", "minor", "warning", "info", "clear"]);

/// The whole file.
pub(super) static ROOT: Section = Section {
    path: "",
    keys: &[
        key(
            "include",
            Kind::Many(&Kind::Pattern),
            "More files, relative to this one, by name: lists are appended, sections merged; what has one value has it once.",
        )
        .example(r#"["conf.d/*.yaml"]"#),
        key(
            "listener",
            Kind::Many(&Kind::Section(&LISTENER)),
            "Where traps are received: UDP and TCP addresses, IPv4 and IPv6.",
        ),
        key("source", Kind::Section(&SOURCE), "Which address stands for the device that a trap is about."),
        key("access", Kind::Section(&ACCESS), "Who may send."),
        key("mib", Kind::Section(&MIB_SECTION), "Where MIB files are. The usual notifications have names without any."),
        key(
            "components",
            Kind::Map(&Kind::Any),
            "Settings of components that a program has registered, by their names; each checks its own.",
        )
        .default("{}"),
        key(
            "lookups",
            Kind::List(&Kind::Section(&LOOKUP)),
            "Tables that add what is known about a device: `device.site` in rules is the column `site` of the table `device`.",
        ),
        key(
            "unmatched",
            Kind::Choice(&["builtin", "store", "drop"]),
            "What becomes of a notification that no rule matches: built-in rules make an alert of it, it is stored, or it is dropped and counted.",
        )
        .default("\"builtin\""),
        key("rules", Kind::List(&Kind::Section(&RULE)), "What becomes of which notification. The first match wins."),
        key(
            "storm",
            Kind::Section(&STORM),
            "Holds back what a source raises too fast: one alert says so, events are stored all the same. Off without this section.",
        ),
        key(
            "heartbeats",
            Kind::List(&Kind::Section(&HEARTBEAT)),
            "Devices that must send something within a time; an alert for one that does not, until it is heard again.",
        ),
        key("webhooks", Kind::List(&Kind::Section(&WEBHOOK)), "Where alerts are posted."),
        key("outputs", Kind::List(&Kind::Section(&OUTPUT)), "Where alerts go besides webhooks: files, syslog; and where notifications are sent on to."),
        key("storage", Kind::Section(&STORAGE), "Where events and alerts are kept."),
        key("admin", Kind::Section(&ADMIN), "The HTTP address: metrics, health, status, reload."),
        key("logging", Kind::Section(&LOGGING), "The log."),
        key("reload", Kind::Section(&RELOAD), "How changes come in."),
    ],
};

static LISTENER: Section = Section {
    path: "listener[]",
    keys: &[
        key(
            "address",
            Kind::Endpoint,
            "Address and port; `[::]:1162` takes IPv6, `tcp://0.0.0.0:1162` connections (RFC 3430).",
        )
        .default("\"0.0.0.0:1162\""),
        key(
            "receivers",
            Kind::Either(&[Kind::Choice(&["auto"]), Kind::Integer { min: 1, max: 256 }]),
            "Sockets and threads that share the address; auto is one a core. Changed only by a restart.",
        )
        .default("\"auto\""),
        key("receive_buffer", Kind::Size { min: 1 << 16, max: 1 << 30 }, "The kernel's buffer for a burst.")
            .default("\"32MiB\""),
        key(
            "cores",
            Kind::Many(&Kind::Integer { min: 0, max: 1_023 }),
            "Processors that the receivers run on, one each in turn; without it the system chooses. Changed only by a restart.",
        )
        .example("[0, 1]"),
        key("allow", Kind::Many(&Kind::Network), "Networks that may send; without it everyone may.")
            .example(r#"["10.0.0.0/8", "192.168.0.0/16"]"#),
        key(
            "max_connections",
            Kind::Integer { min: 1, max: 4_096 },
            "Of a tcp:// listener: how many connections there may be at a time. Default 256.",
        )
        .example("256"),
        key(
            "max_connections_per_peer",
            Kind::Integer { min: 1, max: 4_096 },
            "Of a tcp:// listener: how many of them one peer may have. Default a quarter of max_connections.",
        )
        .example("64"),
        key(
            "idle_timeout",
            Kind::Duration { min: 1_000, max: 86_400_000 },
            "Of a tcp:// listener: a connection without a whole message for so long is closed. Default 10m.",
        )
        .example("\"10m\""),
        key("realm", Kind::Text, "Separates networks with overlapping addresses: the devices behind this listener are `REALM/ADDRESS`.")
            .default("\"default\""),
    ],
};

static SOURCE: Section = Section {
    path: "source",
    keys: &[
        key(
            "order",
            Kind::List(&Kind::Choice(&["trap_address", "agent_address", "packet"])),
            "Where the device's address is looked for, first to last: the varbind snmpTrapAddress.0, the v1 agent-addr field, the datagram.",
        )
        .default(r#"["trap_address", "agent_address", "packet"]"#),
        key(
            "trusted_relays",
            Kind::Many(&Kind::Network),
            "Relays whose snmpTrapAddress.0 and agent-addr are believed.",
        )
        .default("[]"),
        key(
            "direct_agent_address",
            Kind::Many(&Kind::Network),
            "Networks whose v1 agent-addr is believed though they send directly.",
        )
        .default("[]"),
        key(
            "canonical",
            Kind::Section(&CANONICAL),
            "One name for a device with several addresses: stands for `source` in keys, labels and texts.",
        ),
    ],
};

static CANONICAL: Section = Section {
    path: "source.canonical",
    keys: &[
        key("lookup", Kind::Text, "The table, one that is asked by `source`.")
            .required()
            .example("\"device\""),
        key("column", Kind::Text, "Its column with the name; where it has none, the address stays.")
            .required()
            .example("\"name\""),
    ],
};

static LOOKUP: Section = Section {
    path: "lookups[]",
    keys: &[
        key("name", Kind::Text, "What rules call it.").required().example("\"device\""),
        key("file", Kind::Path, "A CSV file, relative to this one; its first line names the columns.")
            .required()
            .example("\"devices.csv\""),
        key(
            "key",
            Kind::Text,
            "The column to search: addresses and networks, of which the longest prefix wins, or exact texts.",
        )
        .required()
        .example("\"source\""),
        key("by", Kind::Varbind, "What is searched for: `source`, `peer`, or a varbind's text.")
            .default("\"source\""),
    ],
};

static MIB_SECTION: Section = Section {
    path: "mib",
    keys: &[
        key("directories", Kind::Many(&Kind::Path), "Directories, read recursively.")
            .default("[]")
            .example(r#"["/usr/share/snmp/mibs", "./mibs"]"#),
        key(
            "cache",
            Kind::Path,
            "Where the compiled MIBs are kept over restarts; only a restart changes it.",
        )
        .default("\"./nereus-mib.cache\""),
    ],
};

static RULE: Section = Section {
    path: "rules[]",
    keys: &[
        key("name", Kind::Text, "Its name in events and logs.").required().example("\"link\""),
        key("match", Kind::Section(&MATCH), "What it matches; without it, everything."),
        key("drop", Kind::Flag, "Count and drop what it matches.").default("false"),
        key("continue", Kind::Flag, "Try the rules below as well.").default("false"),
        key("alert", Kind::Text, "The name of the alert; a rule without one stores the event alone.")
            .example("\"InterfaceDown\""),
        key(
            "severity",
            Kind::Either(&[Kind::Choice(SEVERITIES), Kind::Section(&SEVERITY)]),
            "critical, major, minor, warning or info.",
        )
        .default("\"warning\"")
        .example("\"major\"")
        .also(r#"{"from": "perceivedSeverity", "map": {"critical": "critical", "cleared": "clear"}, "default": "warning"}"#),
        key("key", Kind::Many(&Kind::Varbind), "What identifies the resource: `source` and varbinds.")
            .default(r#"["source"]"#)
            .example(r#"["source", "ifIndex"]"#),
        key(
            "cleared_by",
            Kind::Either(&[Kind::Many(&Kind::Trap), Kind::Section(&CLEAR)]),
            "The notification that ends the alert of the same key.",
        )
        .example("\"IF-MIB::linkUp\"")
        .also(r#"{"trap": "IF-MIB::linkUp", "when": {"ifOperStatus": "up"}, "key": {"ifIndex": "ifIndex"}}"#),
        key(
            "deduplicate",
            Kind::Duration { min: SECOND, max: YEAR },
            "Repeats inside this window update the alert and send nothing.",
        )
        .example("\"5m\""),
        key(
            "history",
            Kind::Choice(&["every", "first"]),
            "Which repeats inside `deduplicate` are stored as events: every one, or none after the first. All are counted.",
        )
        .default("\"every\""),
        key(
            "flapping",
            Kind::Section(&FLAPPING),
            "Holds an alert open that comes and goes: webhooks hear that it flaps, and what became of it once it is quiet.",
        ),
        key(
            "expire",
            Kind::Either(&[Kind::Choice(&["never"]), Kind::Duration { min: SECOND, max: 10 * YEAR }]),
            "Ends the alert so long after its last repeat; 1h unless something clears it, else never.",
        )
        .example("\"24h\""),
        key("labels", Kind::Map(&Kind::Template), "Labels of the alert; they are part of what it is.")
            .example(r#"{"team": "noc"}"#),
        key("annotations", Kind::Map(&Kind::Template), "Texts for people.")
            .example(r#"{"summary": "{{ source }} {{ ifDescr }} is down"}"#),
        key("notify", Kind::List(&Kind::Webhook), "Webhooks by name; without it every one, `[]` none.")
            .example(r#"["alertmanager"]"#),
    ],
};

static FLAPPING: Section = Section {
    path: "rules[].flapping",
    keys: &[
        key(
            "count",
            Kind::Integer { min: 2, max: 100 },
            "So many changes (a beginning, an end, another severity) within `window`.",
        )
        .default("6"),
        key("window", Kind::Duration { min: SECOND, max: HOUR }, "The time in which they are counted.")
            .default("\"2m\""),
        key("hold", Kind::Duration { min: SECOND, max: DAY }, "Let go after so long without a change.")
            .default("\"10m\""),
    ],
};

static MATCH: Section = Section {
    path: "rules[].match",
    keys: &[
        key("trap", Kind::Many(&Kind::Trap), "Notifications: names, OIDs, subtrees as `1.3.6.1.4.1.9.*`.")
            .example("\"IF-MIB::linkDown\"")
            .also(r#"["linkDown", "1.3.6.1.4.1.9.9.43.*"]"#),
        key("except", Kind::Many(&Kind::Trap), "Notifications that it does not match all the same.")
            .example(r#"["1.3.6.1.4.1.9.9.43.2.0.1"]"#),
        key("source", Kind::Many(&Kind::Network), "Networks of the device.").example(r#"["10.1.0.0/16"]"#),
        key("realm", Kind::Many(&Kind::Text), "Realms of the device.").example(r#"["default"]"#),
        key("community", Kind::Many(&Kind::Alias), "Names of communities.").example(r#"["core"]"#),
        key("when", Kind::Condition, "What varbinds must say.")
            .example(r#"{"ifAdminStatus": "up", "ifDescr": {"matches": "^(Gi|Te)"}}"#)
            .also(r#"{"any": [{"ifIndex": {"above": 100}}, {"ifType": {"in": ["ethernetCsmacd", 24]}}]}"#),
    ],
};

static SEVERITY: Section = Section {
    path: "rules[].severity",
    keys: &[
        key("from", Kind::Varbind, "The varbind that says it.").required().example("\"perceivedSeverity\""),
        key("map", Kind::Map(&MAPPED), "What its values mean; `clear` ends the alert.")
            .required()
            .example(r#"{"cleared": "clear"}"#),
        key("default", MAPPED, "For every other value.").default("\"warning\""),
    ],
};

static CLEAR: Section = Section {
    path: "rules[].cleared_by",
    keys: &[
        key("trap", Kind::Many(&Kind::Trap), "The notifications that clear.")
            .required()
            .example("\"IF-MIB::linkUp\""),
        key("when", Kind::Condition, "What their varbinds must say.").example(r#"{"ifOperStatus": "up"}"#),
        key("key", Kind::Map(&Kind::Varbind), "Names of the key that are called differently there.")
            .example(r#"{"ifIndex": "otherIfIndex"}"#),
    ],
};

static STORM: Section = Section {
    path: "storm",
    keys: &[
        key(
            "alerts",
            Kind::Integer { min: 1, max: 1_000_000 },
            "More alerts of one source than this that begin within `per` are a storm.",
        )
        .default("100"),
        key("per", Kind::Duration { min: SECOND, max: HOUR }, "The time in which they are counted.")
            .default("\"1m\""),
        key(
            "hold",
            Kind::Duration { min: SECOND, max: DAY },
            "Over once the source has stayed below for so long.",
        )
        .default("\"5m\""),
        key("alert", Kind::Text, "The name of the alert that says so.").default("\"AlertStorm\""),
        key("severity", Kind::Choice(SEVERITIES), "Its severity.").default("\"major\""),
        key("labels", Kind::Map(&Kind::Text), "Labels of it.").example(r#"{"team": "noc"}"#),
        key("notify", Kind::List(&Kind::Webhook), "Webhooks by name; without it every one, `[]` none.")
            .example(r#"["alertmanager"]"#),
    ],
};

static HEARTBEAT: Section = Section {
    path: "heartbeats[]",
    keys: &[
        key("name", Kind::Text, "Its name; the label `heartbeat` of its alerts.")
            .required()
            .example("\"ups\""),
        key(
            "source",
            Kind::Many(&Kind::Text),
            "The devices, each of which must send: addresses, or their names by `source.canonical`.",
        )
        .required()
        .example(r#"["10.0.0.1", "10.0.0.2"]"#),
        key("realm", Kind::Text, "The realm that these addresses are in.").default("\"default\""),
        key("within", Kind::Duration { min: SECOND, max: YEAR }, "Something at least this often.")
            .required()
            .example("\"15m\""),
        key("alert", Kind::Text, "The name of the alert.").default("\"DeviceSilent\""),
        key("severity", Kind::Choice(SEVERITIES), "Its severity.").default("\"major\""),
        key("labels", Kind::Map(&Kind::Text), "Labels of it.").example(r#"{"team": "noc"}"#),
        key("notify", Kind::List(&Kind::Webhook), "Webhooks by name; without it every one, `[]` none.")
            .example(r#"["alertmanager"]"#),
    ],
};

static STORAGE: Section = Section {
    path: "storage",
    keys: &[
        key("path", Kind::Path, "A directory, locked against a second instance. Changed only by a restart.")
            .default("\"./nereus-data\""),
        key("retention", Kind::Duration { min: MINUTE, max: 100 * YEAR }, "How long events are kept.")
            .default("\"30d\""),
        key("max_size", Kind::Size { min: 16 * MIB, max: 1 << 50 }, "The most that they may take.")
            .default("\"10GiB\""),
    ],
};

static ADMIN: Section = Section {
    path: "admin",
    keys: &[
        key(
            "address",
            Kind::Address,
            "Address and port; any but a loopback one needs `token`. Changed only by a restart.",
        )
        .default("\"127.0.0.1:9090\""),
        key("hosts", Kind::List(&Kind::Text), "Host names of requests, besides localhost.")
            .default("[]")
            .example(r#"["nereus.example.com"]"#),
        key("token", Kind::Secret, "What a request must carry to read and to change.")
            .example(r#"{"file": "/run/secrets/admin"}"#),
        key("read_token", Kind::Secret, "What a request must carry to read.")
            .example(r#"{"env": "NEREUS_READ_TOKEN"}"#),
    ],
};

static LOGGING: Section = Section {
    path: "logging",
    keys: &[
        key(
            "level",
            Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
            "The least that is written.",
        )
        .default("\"info\""),
        key("format", Kind::Choice(&["json", "text"]), "How lines look.").default("\"json\""),
        key("output", Kind::Path, "stderr, stdout, or a file's path.").default("\"stderr\""),
    ],
};

static RELOAD: Section = Section {
    path: "reload",
    keys: &[
        key("enabled", Kind::Flag, "Watch files at all; a reload that is asked for works either way.")
            .default("true"),
        key("watch_config_file", Kind::Flag, "Watch the configuration.").default("true"),
        key("watch_mib_directories", Kind::Flag, "Watch the MIB directories.").default("true"),
        key(
            "reload_delay",
            Kind::Duration { min: 0, max: HOUR },
            "How long file events must be quiet; at most five times as long in all.",
        )
        .default("\"2s\""),
        key(
            "max_reload_attempts",
            Kind::Integer { min: 1, max: 100 },
            "How often a failure that may pass is tried in all.",
        )
        .default("3"),
        key("reload_timeout", Kind::Duration { min: 100, max: DAY }, "For one attempt.").default("\"30s\""),
        key("preserve_state", Kind::Flag, "Keep deduplication and flap windows; alerts are kept either way.")
            .default("true"),
        key(
            "validate_before_reload",
            Kind::Flag,
            "Rehearse a change on recent traps before it is published.",
        )
        .default("true"),
        key("keep_generations", Kind::Integer { min: 1, max: 100 }, "Generations that a rollback can reach.")
            .default("8"),
        key("guard", Kind::Section(&GUARD), "What the rehearsal may find."),
    ],
};

static GUARD: Section = Section {
    path: "reload.guard",
    keys: &[
        key("samples", Kind::Integer { min: 0, max: 1_000_000 }, "Recent traps that are processed again.")
            .default("4096"),
        key(
            "max_unresolved_increase",
            Kind::Percent,
            "Percentage points by which the share of unresolved traps may grow.",
        )
        .default("\"5%\""),
    ],
};

/// The tests of a condition, in the order that the guide names them.
pub(super) const TESTS: &[(&str, &str)] = &[
    ("equals", "Equal to a number, an enum label or a text."),
    ("in", "Equal to one of a list."),
    ("not", "The opposite of a value, a list or a test."),
    ("matches", "The text matches this regular expression."),
    ("above", "Greater than this number."),
    ("below", "Less than this number."),
    ("contains", "The text contains this one."),
    ("exists", "Whether the varbind is there."),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(section: &Section, all: &mut Vec<String>) {
        fn below(kind: &Kind, all: &mut Vec<String>) {
            match kind {
                Kind::List(kind) | Kind::Many(kind) | Kind::Map(kind) => below(kind, all),
                Kind::Either(kinds) => kinds.iter().for_each(|kind| below(kind, all)),
                Kind::Section(section) => paths(section, all),
                _ => {}
            }
        }
        for key in section.keys {
            all.push(section.path_of(key.name));
            below(&key.kind, all);
        }
    }

    #[test]
    fn what_only_a_restart_changes_is_in_the_table() {
        let mut all = Vec::new();
        paths(&ROOT, &mut all);
        for path in RESTART_ONLY {
            assert!(all.iter().any(|known| known == path), "{path} is no key");
        }
        let before = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), before, "a path stands twice");
    }

    #[test]
    fn every_key_has_something_for_the_sample() {
        fn check(section: &Section) {
            for key in section.keys {
                let shown = key.default.is_some() || key.example.is_some();
                let nested = matches!(key.kind, Kind::Section(_) | Kind::List(_) | Kind::Many(_));
                assert!(shown || nested, "{} has nothing for the sample", section.path_of(key.name));
                if let Kind::Section(section) | Kind::List(Kind::Section(section)) = &key.kind {
                    check(section);
                }
            }
        }
        check(&ROOT);
    }
}
