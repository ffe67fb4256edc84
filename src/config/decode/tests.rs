//! The decoder as a whole: what a newcomer is told, secrets, agreement of table, schema and sample.

mod access;
mod delivery;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::settings::*;
use crate::config::source::Source;
use crate::config::{Loaded, Problems, parse, sample_toml, sample_yaml, schema, tree};
use crate::diagnostic::render;

/// Every variable and file holds the planted secret.
struct Planted;

const PLANTED: &str = "Pl4nt3dS3cr3t";

impl Inputs for Planted {
    fn env(&self, name: &str) -> Option<Vec<u8>> {
        (name != "UNSET").then(|| format!("{PLANTED}-env-{name}").into_bytes())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("missing") => Err(io::ErrorKind::NotFound.into()),
            Some("empty") => Ok(b"\n".to_vec()),
            _ => Ok(format!("{PLANTED}-file-{}\r\n", path.display()).into_bytes()),
        }
    }

    fn read_part(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") if path.ends_with("missing.csv") => Err(io::ErrorKind::NotFound.into()),
            Some("csv") => Ok(b"source,name,site\n10.0.0.1,core-1,Berlin\n10.1.0.0/16,,Bonn\n".to_vec()),
            _ => Ok(b"{}".to_vec()),
        }
    }

    fn list(&self, _: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        Ok(vec!["extra.yaml".into()])
    }
}

fn yaml(text: &str) -> Result<Loaded, Problems> {
    parse("nereus.yaml", text.as_bytes(), &Planted)
}

fn fine(text: &str) -> Settings {
    yaml(text).unwrap_or_else(|problems| panic!("{text}\n{problems}")).settings
}

fn codes(text: &str) -> Vec<&'static str> {
    match yaml(text) {
        Ok(loaded) => loaded.diagnostics.iter().map(|diagnostic| diagnostic.code).collect(),
        Err(problems) => problems.diagnostics.iter().map(|diagnostic| diagnostic.code).collect(),
    }
}

fn told(text: &str) -> String {
    match yaml(text) {
        Ok(loaded) => format!("{:?}", loaded.diagnostics),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn ten_mistakes_are_ten_diagnostics() {
    let text = r#"listener:
  - address: 0.0.0.0
    recieve_buffer: 32MiB
storage:
  retention: 30
rules:
  - name: link
    match:
      trap: 1.3
      when: {ifDescr: {matches: "^(Gi"}}
    alert: InterfaceDown
    severity: majr
    key: [source, ifIndex]
    annotations: {summary: "{{ ifDescr | uper }} is down"}
    notify: [alertmanger]
webhooks:
  - name: alertmanager
    url: 127.0.0.1:9093/api/v2/alerts
    format: alertmanager
    retry: {attempts: 0}
"#;
    let problems = yaml(text).unwrap_err();
    assert_eq!(problems.diagnostics.len(), 10);
    insta::assert_snapshot!(problems.to_string());
}

#[test]
fn every_section_is_decoded() {
    let settings = fine(
        r#"
listener:
  - {address: "[::1]:1162", receivers: 4, receive_buffer: 1MiB, allow: [10.0.0.0/8, 192.168.1.1]}
  - {address: "127.0.0.1:0", receivers: auto}
source:
  order: [packet]
  trusted_relays: 10.0.0.5
  direct_agent_address: [10.9.0.0/16]
  canonical: {lookup: device, column: name}
lookups:
  - {name: device, file: tables/devices.csv, key: source}
  - {name: circuit, file: /circuits.csv, key: site, by: ifAlias}
components: {forwarder: {targets: [a, 1, 2.5, true, ~], deep: {x: y}}}
access: {communities: [public, {env: EDGE}, {name: core, community: {file: /core}}]}
mib: {directories: [/a, ./b]}
unmatched: store
rules:
  - name: link
    match:
      trap: ["IF-MIB::linkDown", 1.3.6.1.4.1.9.*, "1.3.6.1.6.3.1.1.5.3"]
      except: [coldStart]
      source: 10.1.0.0/16
      community: core
      when:
        ifAdminStatus: up
        ifIndex: [1, 2]
        any: [{ifType: {not: other}}, {ifMtu: {above: 1.5, below: 9000}}, {ifAlias: {exists: false}}]
    alert: InterfaceDown
    severity: {from: perceivedSeverity, map: {1: critical, cleared: clear}, default: minor}
    key: [source, ifIndex]
    cleared_by: {trap: linkUp, when: {ifOperStatus: {equals: 1}}, key: {ifIndex: otherIndex}}
    deduplicate: 5m
    history: first
    expire: 1h30m
    labels: {team: noc}
    annotations: {summary: "{{ device.name or source }}"}
    notify: [am]
    continue: true
  - {name: chatter, match: {trap: 1.3.6.1.4.1.9.9.43.*}, drop: true}
  - {name: rest, match: {trap: coldStart}, alert: Restart, expire: never, notify: []}
  - {name: kept, match: {trap: warmStart}, alert: Warm}
webhooks:
  - name: am
    urls: [http://127.0.0.1:9093/api/v2/alerts, "https://[::1]:9094/x?y"]
    format: json
    timeout: 5s
    retry: {attempts: 3, initial: 1s, max: 10s}
    batch: {max: 7, wait: 0s}
    headers: {Authorization: {env: AUTH}, X-Plain: plain}
storage: {path: /d, retention: 1d, max_size: 1GiB}
admin: {address: 0.0.0.0:9090, hosts: [n.example.com], token: {file: /t}, read_token: read}
logging: {level: debug, format: text, output: /var/log/nereus.log}
reload: {keep_generations: 3}
"#,
    );
    let net = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    assert_eq!(settings.listeners.len(), 2);
    assert_eq!(settings.listeners[0].receivers, Some(4));
    assert_eq!(settings.listeners[0].receive_buffer, 1 << 20);
    assert_eq!(settings.listeners[0].allow.as_deref(), Some(&[net("10.0.0.0/8"), net("192.168.1.1/32")][..]));
    assert_eq!((settings.listeners[1].receivers, &settings.listeners[1].allow), (None, &None));
    assert_eq!(settings.source.order, [SourceOrigin::Packet]);
    assert_eq!(settings.source.trusted_relays, [net("10.0.0.5/32")]);
    let communities = settings.access.communities.as_ref().unwrap();
    let octets: Vec<_> = communities.iter().map(|c| (c.name.as_deref(), c.community.expose())).collect();
    let (edge, core) = (format!("{PLANTED}-env-EDGE"), format!("{PLANTED}-file-/core"));
    assert_eq!(octets, [(None, &b"public"[..]), (None, edge.as_bytes()), (Some("core"), core.as_bytes())]);
    assert_eq!(settings.unmatched, Unmatched::Store);
    let canonical = settings.source.canonical.as_ref().unwrap();
    assert_eq!((&*canonical.lookup, &*canonical.column), ("device", "name"));
    let tables: Vec<_> =
        settings.lookups.iter().map(|table| (&**table.name(), table.by(), table.len())).collect();
    assert_eq!(tables, [("device", "source", 2), ("circuit", "ifAlias", 2)]);
    let component = &settings.components["forwarder"];
    let expected = serde_json::json!({"targets": ["a", 1, 2.5, true, null], "deep": {"x": "y"}});
    assert_eq!((&component.0, &*format!("{component:?}")), (&expected, "Component(..)"));

    let rule = &settings.rules[0];
    assert!(matches!(&rule.trap[..], [TrapPattern::Name(_), TrapPattern::Subtree(_), TrapPattern::Exact(_)]));
    assert_eq!(
        (rule.except.len(), &rule.source[..], &*rule.community[0]),
        (1, &[net("10.1.0.0/16")][..], "core")
    );
    let field = |name: &str, test| Condition::Field { name: name.into(), test };
    let expected = Condition::All(vec![
        field("ifAdminStatus", Test::Equals(Scalar::Text("up".into()))),
        field("ifIndex", Test::In(vec![Scalar::Number(1), Scalar::Number(2)])),
        Condition::Any(vec![
            field("ifType", Test::Not(Box::new(Test::Equals(Scalar::Text("other".into()))))),
            field("ifMtu", Test::All(vec![Test::Above(1.5), Test::Below(9000.0)])),
            field("ifAlias", Test::Exists(false)),
        ]),
    ]);
    assert_eq!(rule.when.as_ref(), Some(&expected));
    assert!(rule.continue_);
    let RuleActionSettings::Alert(alert) = &rule.action else { panic!("{rule:?}") };
    let SeveritySettings::From { varbind, map, default } = &alert.severity else { panic!("{alert:?}") };
    assert_eq!((&**varbind, map.len(), map["cleared"]), ("perceivedSeverity", 2, MappedSeverity::Clear));
    assert_eq!(*default, MappedSeverity::Severity(crate::severity::Severity::Minor));
    assert_eq!(alert.cleared_by.as_ref().unwrap().key["ifIndex"], "otherIndex");
    assert_eq!(alert.expire, Some(std::time::Duration::from_secs(5_400)));
    assert!(!alert.store_repeats);
    assert_eq!(alert.notify.as_deref(), Some(&["am".into()][..]));
    assert_eq!(settings.rules[1].action, RuleActionSettings::Drop);
    let RuleActionSettings::Alert(alert) = &settings.rules[2].action else { panic!() };
    assert_eq!((alert.expire, alert.notify.as_deref()), (None, Some(&[][..])));
    let RuleActionSettings::Alert(alert) = &settings.rules[3].action else { panic!() };
    assert_eq!(alert.expire, Some(std::time::Duration::from_secs(3_600)), "nothing clears it");
    assert!(alert.store_repeats);
    assert_eq!((&alert.key[..], &alert.notify), (&["source".to_owned()][..], &None));

    let webhook = &settings.webhooks[0];
    assert_eq!((webhook.urls.len(), &webhook.format), (2, &WebhookFormat::Json));
    assert_eq!((webhook.retry.attempts, webhook.batch.max, webhook.headers.len()), (3, 7, 2));
    assert!(webhook.batch.wait.is_zero());
    assert_eq!(settings.admin.token.as_ref().unwrap().expose(), format!("{PLANTED}-file-/t").as_bytes());
    assert_eq!(settings.logging.output, LogOutput::File("/var/log/nereus.log".into()));
    assert_eq!(settings.reload.keep_generations, 3);
}

#[test]
fn a_rule_that_something_clears_never_expires_by_itself() {
    for clears in ["cleared_by: linkUp", "severity: {from: s, map: {ok: clear}}"] {
        let settings = fine(&format!("rules: [{{name: a, alert: A, {clears}}}]"));
        let RuleActionSettings::Alert(alert) = &settings.rules[0].action else { panic!() };
        assert_eq!(alert.expire, None, "{clears}");
    }
}

#[test]
fn each_mistake_has_its_code() {
    for (text, expected) in [
        ("admin: {address: 0.0.0.0:9090}", "config-admin-token"),
        ("admin: {token: a, read_token: a}", "config-conflict"),
        ("admin: {token: {file: missing}}", "config-secret"),
        ("admin: {token: {file: empty}}", "config-secret"),
        ("admin: {token: {env: UNSET}}", "config-secret"),
        ("admin: {token: 5}", "config-type"),
        ("admin: {token: {flie: a}}", "config-unknown-key"),
        ("admin: {hosts: ['http://a']}", "config-value"),
        ("listener: []", "config-value"),
        ("listener: [{address: 'tcp://0.0.0.0'}]", "config-address"),
        ("listener: [{address: 'tcp://0.0.0.0:162', receivers: 2}]", "config-conflict"),
        ("listener: [{idle_timeout: 1m}]", "config-conflict"),
        ("admin: {address: 'tcp://127.0.0.1:9090'}", "config-address"),
        ("listener: [{address: 1162}]", "config-address"),
        ("listener: [{}, {}]", "config-duplicate-name"),
        ("listener: [{receivers: 0}]", "config-range"),
        ("listener: [{receivers: many}]", "config-value"),
        ("listener: [{receive_buffer: 1B}]", "config-range"),
        ("listener: [{allow: }]", "config-type"),
        ("listener: [{allow: 10.0.0.0/40}]", "config-network"),
        ("listener: [{realm: a/b}]", "config-value"),
        ("listener: [{realm: 10.0.0.0}]", "config-value"),
        ("rules: [{name: a, match: {realm: branch}}]", "config-dangling"),
        ("heartbeats: [{name: a, source: 10.0.0.1, within: 1m, realm: branch}]", "config-dangling"),
        ("mib: {cache: [a]}", "config-type"),
        ("access: {communities: []}", "config-value"),
        ("access: {communities: [a, a]}", "config-duplicate-name"),
        (
            "access: {communities: [{name: a, community: b}, {name: a, community: c}]}",
            "config-duplicate-name",
        ),
        ("source: {order: [packet, packet]}", "config-duplicate-name"),
        ("rules: [{}]", "config-missing-key"),
        ("rules: [{name: a, drop: true}, {name: b, match: {trap: b}}]", "config-shadowed"),
        ("rules: [{name: a, match: {trap: b}}, {name: a}]", "config-duplicate-name"),
        ("rules: [{name: a, drop: true, alert: b}]", "config-conflict"),
        ("rules: [{name: a, severity: major}]", "config-conflict"),
        ("rules: [{name: a, alert: b, labels: {severity: c}}]", "config-conflict"),
        ("rules: [{name: a, alert: b, history: first}]", "config-conflict"),
        ("rules: [{name: a, history: every}]", "config-conflict"),
        ("rules: [{name: a, alert: b, deduplicate: 5m, history: last}]", "config-value"),
        ("rules: [{name: a, alert: b, key: [ifIndex]}]", "config-key-source"),
        ("rules: [{name: a, alert: b, key: []}]", "config-key-empty"),
        ("rules: [{name: a, alert: b, key: [source, 1.3]}]", "config-oid-number"),
        ("rules: [{name: a, alert: b, notify: [c]}]", "config-dangling"),
        ("rules: [{name: a, alert: b, cleared_by: {trap: c, key: {x: y}}}]", "config-dangling"),
        ("rules: [{name: a, alert: b, flapping: {count: 1}}]", "config-range"),
        ("webhooks: [{name: a, url: 'http://h', format: json, addresses: []}]", "config-value"),
        ("rules: [{name: a, alert: b, expire: soon}]", "config-duration"),
        ("rules: [{name: a, alert: b, annotations: {c: {{ d }}}}]", "config-key"),
        ("rules: [{name: a, match: {trap: []}}]", "config-value"),
        ("rules: [{name: a, match: {trap: 'a b'}}]", "config-trap"),
        ("rules: [{name: a, match: {community: b}}]", "config-dangling"),
        ("rules: [{name: a, match: {when: {}}}]", "config-value"),
        ("rules: [{name: a, match: {when: {b: {machtes: c}}}}]", "config-unknown-key"),
        ("rules: [{name: a, match: {when: {b: 1.3}}}]", "config-oid-number"),
        ("rules: [{name: a, match: {when: {b: []}}}]", "config-value"),
        ("rules: [{name: a, match: {when: {b: {matches: '(a{1000}){1000}'}}}}]", "config-regex"),
        ("webhooks: [{name: a, format: json}]", "config-missing-key"),
        ("webhooks: [{name: a, format: json, url: 'http://a', urls: ['http://b']}]", "config-conflict"),
        ("webhooks: [{name: a, format: jsno, url: 'http://a'}]", "config-value"),
        ("webhooks: [{name: a, format: json, url: 'ftp://a'}]", "config-url"),
        ("webhooks: [{name: a, format: json, url: 'http://a:x'}]", "config-url"),
        ("webhooks: [{name: a, format: json, url: 'http://u:p@a'}]", "config-url"),
        ("webhooks: [{name: a, format: json, urls: []}]", "config-value"),
        ("webhooks: [{name: a, format: json, url: 'http://a', headers: {Host: b}}]", "config-header"),
        ("webhooks: [{name: a, format: json, url: 'http://a', headers: {'b c': d}}]", "config-header"),
        ("webhooks: [{name: a, format: json, url: 'http://a', headers: {b: \"c\\nd\"}}]", "config-header"),
        (
            "webhooks: [{name: a, format: json, url: 'http://a', retry: {initial: 1h, max: 1s}}]",
            "config-conflict",
        ),
        ("webhooks: [{name: a, format: json, url: 'http://a', rate_limit: {}}]", "config-missing-key"),
        ("webhooks: [{nmae: a, format: json, url: 'http://a'}]", "config-unknown-key"),
        ("reload: {reload_delay: 2h}", "config-range"),
        ("reload: {max_reload_attempts: 0}", "config-range"),
        ("reload: {reload_timeout: 1ms}", "config-range"),
        ("reload: {guard: {samples: -1}}", "config-range"),
        ("reload: {guard: {max_unresolved_increase: 101%}}", "config-value"),
        ("source: {canonical: {lookup: device, column: name}}", "config-dangling"),
        ("lookups: [{name: device, file: missing.csv, key: source}]", "config-read"),
        ("lookups: [{name: source, file: a.csv, key: source}]", "config-value"),
        ("lookups: [{name: a-b, file: a.csv, key: source}]", "config-value"),
        ("lookups: [{name: a, file: a.csv, key: sourec}]", "lookup-column"),
        ("lookups: [{name: a, file: a.csv, key: source, by: b.c}]", "config-dangling"),
        (
            "lookups: [{name: a, file: a.csv, key: source}, {name: a, file: b.csv, key: source}]",
            "config-duplicate-name",
        ),
        ("components: [a]", "config-type"),
        ("components: {'': 1}", "config-value"),
        ("include: 5", "config-type"),
        ("include: ['**/a.yaml']", "config-value"),
        ("include: a*.toml", "config-include"),
        ("reload: {keep_generations: 0}", "config-range"),
        ("logging: info", "config-type"),
        ("unmatched: stroe", "config-value"),
        ("unmatched: drop\nunmatched: drop", "config-duplicate-key"),
        ("[]", "config-type"),
        ("", "config-empty"),
    ] {
        assert_eq!(codes(text), [expected], "{text}\n{}", told(text));
    }
}

#[test]
fn help_is_something_to_do() {
    let with = |part: &str| {
        format!(
            "lookups: [{{name: device, file: a.csv, key: source}}]\nrules: [{{name: a, alert: b, {part}}}]"
        )
    };
    for (text, help) in [
        ("rulez: []", "did you mean `rules`?"),
        ("retention: 30d", "`retention` is a key of `storage`"),
        ("listener: [{address: '10.0.0.1'}]", "add a port: `10.0.0.1:1162`"),
        ("listener: [{address: ':1162'}]", "write \"0.0.0.0:1162\""),
        ("storage: {retention: 5}", "write `5s`"),
        ("storage: {max_size: 10GB}", "`10GiB`"),
        ("rules: [{name: a, match: {trap: 1.3}}]", "an OID needs quotes: \"1.3\""),
        ("rules: [{name: a, drop: yes}]", "write `true`"),
        ("unmatched: Drop", "did you mean `drop`?"),
        ("admin: {token: {env: UNSET}}", "set `UNSET`"),
        ("<<: {}", "merge keys"),
        ("lookups: [{name: a, file: a.csv, key: name}]", "`by: VARBIND` beside `key`"),
        (&with("key: [source, device.sit]"), "did you mean `device.site`?"),
        (&with("annotations: {a: \"{{ devise.name }}\"}"), "did you mean `device`?"),
        (&with("annotations: {a: \"{{ device }}\"}"), "write `device.source`"),
        (&with("match: {when: {device.role: core}}"), "its columns are source, name, site"),
        ("rules: [{name: a, alert: b, key: [source, rack.row]}]", "file: racks.csv"),
    ] {
        assert!(told(text).contains(help), "{text}\n{}", told(text));
    }
}

#[test]
fn broken_encodings_are_told_with_their_place() {
    let octets: [(&[u8], &str); 4] = [
        (b"\xff\xfea\0", "UTF-16"),
        (b"rules: []\nunmatched: \xe9\n", "2:12"),
        (b"rules: \0", "NUL"),
        (b"\xef\xbb\xbf{}", ""),
    ];
    for (octets, part) in octets {
        match parse("a.yaml", octets, &Planted) {
            Ok(_) => assert_eq!(part, ""),
            Err(problems) => assert!(problems.to_string().contains(part) && !part.is_empty(), "{problems}"),
        }
    }
    assert_eq!(parse("a.json", b"{}", &Planted).unwrap_err().diagnostics[0].code, "config-extension");
}

#[test]
fn problems_beyond_the_limit_are_counted() {
    let text: String = (0..500).map(|n| format!("x{n}: 1\n")).collect();
    let problems = yaml(&text).unwrap_err();
    assert_eq!(problems.diagnostics.len(), MAX_PROBLEMS + 1);
    assert!(problems.diagnostics[MAX_PROBLEMS].message.starts_with("300 further"));
}

#[test]
fn inputs_are_listed_with_their_content() {
    let text = "admin: {token: {file: /a}, read_token: {file: /b}}\naccess: {communities: [{file: /a}]}";
    let loaded = yaml(text).unwrap();
    let paths: Vec<_> =
        loaded.inputs.iter().map(|input| (input.path.to_str().unwrap(), input.secret)).collect();
    assert_eq!(paths, [("nereus.yaml", false), ("/a", true), ("/b", true)]);
    assert_eq!(loaded.inputs[0].hash, Some(ContentHash::of(text.as_bytes())));
    assert_ne!(loaded.inputs[1].hash, loaded.inputs[2].hash);
    let problems = yaml("admin: {token: {file: missing}}").unwrap_err();
    assert_eq!(problems.inputs[1].hash, None);
}

#[test]
fn the_reload_block_is_decoded() {
    let text =
        "reload: {enabled: false, watch_config_file: false, watch_mib_directories: false, reload_delay: 1s,
        max_reload_attempts: 5, reload_timeout: 1m, preserve_state: false, validate_before_reload: false,
        keep_generations: 2, guard: {samples: 7, max_unresolved_increase: 2.5%}}";
    let reload = fine(text).reload;
    let expected = ReloadSettings {
        enabled: false,
        watch_config_file: false,
        watch_mib_directories: false,
        reload_delay: std::time::Duration::from_secs(1),
        max_reload_attempts: 5,
        reload_timeout: std::time::Duration::from_secs(60),
        preserve_state: false,
        validate_before_reload: false,
        keep_generations: 2,
        guard: GuardSettings { samples: 7, max_unresolved_increase: 250 },
    };
    assert_eq!(*reload, expected);
}

// Table, decoder, sample and schema.

fn walk(section: &'static Section, found: &mut dyn FnMut(&'static Section, &'static Key)) {
    fn below(kind: &'static Kind, found: &mut dyn FnMut(&'static Section, &'static Key)) {
        match kind {
            Kind::List(kind) | Kind::Many(kind) | Kind::Map(kind) => below(kind, found),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| below(kind, found)),
            Kind::Section(section) => walk(section, found),
            _ => {}
        }
    }
    for key in section.keys {
        found(section, key);
        below(&key.kind, found);
    }
}

/// With the `#` of every example taken away.
fn uncommented(sample: &str) -> String {
    let line = |line: &str| {
        let body = line.trim_start();
        let blanks = &line[..line.len() - body.len()];
        match body.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{blanks}{rest}\n"),
            _ => format!("{line}\n"),
        }
    };
    sample.lines().map(line).collect()
}

#[test]
fn the_sample_is_the_default() {
    for (name, sample) in [("a.yaml", sample_yaml()), ("a.toml", sample_toml())] {
        let loaded = parse(name, sample.as_bytes(), &Planted).unwrap_or_else(|e| panic!("{sample}\n{e}"));
        assert!(loaded.diagnostics.is_empty());
        assert_eq!(
            loaded.settings,
            Settings::default(),
            "{name}: the table's defaults are not the settings'"
        );
    }
}

#[test]
fn the_samples_examples_are_taken() {
    let whole = |name: &str, sample: String| {
        let sample = uncommented(&sample);
        let loaded = parse(name, sample.as_bytes(), &Planted).unwrap_or_else(|e| panic!("{sample}\n{e}"));
        assert_eq!((loaded.settings.rules.len(), loaded.settings.webhooks.len()), (1, 2));
        loaded.settings
    };
    assert_eq!(whole("a.yaml", sample_yaml()), whole("a.toml", sample_toml()));
}

#[test]
fn every_key_of_the_table_is_in_the_sample_and_asked_by_the_decoder() {
    let text = uncommented(&sample_yaml());
    // What reads the files it names is `include`, before the decoder.
    let mut asked = BTreeSet::from(["include".to_owned()]);
    // The second text opens the sections that stand beside the sample's way of writing.
    let other =
        "access: {communities: [{name: core, community: a}], users: [{name: b, auth: {}, privacy: {}}]}
rules: [{name: a, alert: b, severity: {from: c, map: {}}, cleared_by: {trap: d}}]
webhooks: [{name: a, format: template, template: {file: b}, content_type: text/plain, url: 'https://a', \
auth: {user: a, password: b, bearer: c}, signing: {secret: d}, tls: {ca: e, certificate: f, key: g, minimum_version: tls1.3}}]
outputs: [{name: b, syslog: {address: 'tls://h:1', facility: user, app_name: a, timeout: 1s, tls: {ca: e}, addresses: 10.0.0.0/8}}, \
{name: c, forward: {address: 'udp://h:162', as: received, community: e, timeout: 1s, addresses: 10.0.0.0/8}}]";
    for text in [&*text, other] {
        let root = tree::read(tree::Language::Yaml, text).unwrap().root;
        let sources = Sources::new(Source::new("a.yaml", text.into()));
        let mut context = Context::new(sources, &Planted, &[]);
        settings(&mut context, &root);
        asked.append(&mut context.asked.borrow_mut());
    }
    let (yaml, toml) = (sample_yaml(), sample_toml());
    walk(&keys::ROOT, &mut |section, key| {
        let path = section.path_of(key.name);
        assert!(asked.contains(&path), "the decoder never asks for {path}");
        assert!(yaml.contains(&format!("{}:", key.name)), "{path} is not in the YAML sample");
        let table = toml.contains(&format!(".{}]", key.name)) || toml.contains(&format!("[{}]", key.name));
        assert!(table || toml.contains(&format!("{} =", key.name)), "{path} is not in the TOML sample");
    });
    assert!(asked.len() > 50);
}

#[test]
fn the_schema_lists_the_same_keys() {
    fn paths(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            found.insert(path.clone());
            paths(below, &path, found);
        }
        if schema["items"].is_object() {
            paths(&schema["items"], &format!("{at}[]"), found);
        }
        for below in schema["anyOf"].as_array().into_iter().flatten() {
            paths(below, at, found);
        }
    }
    let mut expected = BTreeSet::new();
    walk(&keys::ROOT, &mut |section, key| {
        expected.insert(section.path_of(key.name).replace("[]", ""));
    });
    let mut found = BTreeSet::new();
    paths(&schema(), "", &mut found);
    let found: BTreeSet<_> = found.into_iter().map(|path| path.replace("[]", "")).collect();
    assert_eq!(found, expected);
}

#[test]
fn examples_and_defaults_are_json() {
    walk(&keys::ROOT, &mut |section, key| {
        for text in [key.default, key.example, key.also].into_iter().flatten() {
            let parsed = serde_json::from_str::<Value>(text);
            assert!(parsed.is_ok(), "{}: {text}", section.path_of(key.name));
        }
    });
}

#[test]
fn other_ways_to_write_a_key_are_taken() {
    let mut tried = 0;
    walk(&keys::ROOT, &mut |section, key| {
        let Some(also) = key.also else { return };
        let text = match section.path {
            "access" => format!("access: {{{}: {also}}}", key.name),
            "rules[]" => {
                format!("rules: [{{name: a, alert: b, key: [source, ifIndex], {}: {also}}}]", key.name)
            }
            "rules[].match" => format!("rules: [{{name: a, match: {{{}: {also}}}}}]", key.name),
            "webhooks[]" => {
                format!("webhooks: [{{name: a, format: json, url: 'http://a', {}: {also}}}]", key.name)
            }
            other => panic!("no wrapping for {other}"),
        };
        fine(&text);
        tried += 1;
    });
    assert!(tried >= 4);
}

// Secrets.

/// Secrets at every place where one can stand.
const SECRETIVE: &str = r#"
access:
  communities:
    - Pl4nt3dS3cr3t1
    - {name: core, community: "Pl4nt3dS3cr3t2"}
    - {file: /a}
  users:
    - name: ops
      auth: {protocol: sha1, passphrase: Pl4nt3dS3cr3tC}
      privacy:
        protocol: des
        passphrase: "Pl4nt3dS3cr3tD"
webhooks:
  - name: a
    format: json
    url: https://hooks.example.com/Pl4nt3dS3cr3t3?token=Pl4nt3dS3cr3t4
    headers:
      Authorization: Bearer Pl4nt3dS3cr3t5
      X-Key: {env: KEY}
    retry: {attempts: 3}
  - name: b
    format: json
    urls: ["https://hooks.example.com/services/Pl4nt3dS3cr3t6", "https://b.example.com/Pl4nt3dS3cr3t7"]
    headers: {Authorization: 'Pl4nt3dS3cr3t8', B: "Pl4nt3dS3cr3t9"}
    signing: {secret: Pl4nt3dS3cr3tC}
  - {name: c, format: json, url: 'http://c', auth: {user: me, password: Pl4nt3dS3cr3tD}}
  - {name: d, format: json, url: 'http://d', auth: {bearer: "Pl4nt3dS3cr3tE"}}
admin:
  token: Pl4nt3dS3cr3tA
  read_token: "Pl4nt3dS3cr3tB"
logging: {level: info}
"#;

const SECRETIVE_TOML: &str = r#"
[access]
communities = [
"Pl4nt3dS3cr3t1",
{ name = "core", community = "Pl4nt3dS3cr3t2" },
]
[[access.users]]
name = "ops"
auth = { protocol = "sha1", passphrase = "Pl4nt3dS3cr3tC" }
[access.users.privacy]
protocol = "des"
passphrase = "Pl4nt3dS3cr3tD"
[[webhooks]]
name = "a"
format = "json"
url = "https://hooks.example.com/Pl4nt3dS3cr3t3?token=Pl4nt3dS3cr3t4"
headers = { Authorization = "Bearer Pl4nt3dS3cr3t5" }
[[webhooks]]
name = "b"
format = "json"
urls = ["https://hooks.example.com/services/Pl4nt3dS3cr3t6"]
[webhooks.headers]
Authorization = "Pl4nt3dS3cr3t8"
B = "Pl4nt3dS3cr3t9"
[admin]
token = "Pl4nt3dS3cr3tA"
read_token = "Pl4nt3dS3cr3tB"
[logging]
level = "info"
"#;

/// Everything that a user or a log could see of an attempt.
fn outputs(name: &str, text: &str) -> String {
    match parse(name, text.as_bytes(), &Planted) {
        Ok(loaded) => format!("{loaded:?}"),
        Err(problems) => {
            // The renderings show the fields that `Debug` shows, so that one of a kind is enough.
            let mut all = format!("{problems:?}");
            if let Some(diagnostic) = problems.diagnostics.first() {
                all += &render(diagnostic);
                all += &diagnostic.to_string();
            }
            all
        }
    }
}

/// Half of a secret is too much as well.
fn leaks(name: &str, text: &str) -> Option<String> {
    let all = outputs(name, text);
    (all.contains("Pl4nt3d") || all.contains("S3cr3t")).then_some(all)
}

#[test]
fn planted_secrets_are_never_shown() {
    assert!(yaml(SECRETIVE).is_ok(), "{}", told(SECRETIVE));
    for (name, whole) in [("a.yaml", SECRETIVE), ("a.toml", SECRETIVE_TOML)] {
        assert_eq!(leaks(name, whole), None);
        // One character missing, doubled, or replaced, at every place; the secrets themselves stay whole.
        for (at, character) in whole.char_indices() {
            let (before, after) = (&whole[..at], &whole[at + character.len_utf8()..]);
            let mut changed =
                vec![format!("{before}{after}"), format!("{before}{character}{character}{after}")];
            changed.extend(
                ["\"", ":", "[", "}", "#", "\n", " ", "x"].map(|with| format!("{before}{with}{after}")),
            );
            for text in changed {
                // What stands before the first slash is the host, which is no secret by itself.
                if text.matches(".example.com/").count() < whole.matches(".example.com/").count() {
                    continue;
                }
                if let Some(all) = leaks(name, &text) {
                    panic!("{text}\n=====\n{all}");
                }
            }
        }
        // Cut off anywhere.
        for at in 0..whole.len() {
            if let Some(all) = leaks(name, &whole[..at]) {
                panic!("{}\n=====\n{all}", &whole[..at]);
            }
        }
    }
}

#[test]
fn secrets_in_the_wrong_place_are_masked() {
    for text in [
        "admin: Pl4nt3dS3cr3t",
        "admin: {tokn: Pl4nt3dS3cr3t}",
        "admn: {token: Pl4nt3dS3cr3t}",
        "token: Pl4nt3dS3cr3t",
        "logging: {token: Pl4nt3dS3cr3t}",
        "access: {communities: Pl4nt3dS3cr3t}",
        "access: {communities: {Pl4nt3dS3cr3t: a}}",
        "access: {communities: [{Pl4nt3dS3cr3t: a}]}",
        "access: {communities: [[Pl4nt3dS3cr3t]]}",
        "access: {users: [{name: a, auth: {passphrase: Pl4nt3dS3cr3t}}]}",
        "components: {a: {b: Pl4nt3dS3cr3t, b: c}}",
        "components: [Pl4nt3dS3cr3t]",
        "access: {community: Pl4nt3dS3cr3t}",
        "admin: {token: {flie: Pl4nt3dS3cr3t, Pl4nt3dS3cr3t: x}}",
        "admin: {token: [Pl4nt3dS3cr3t]}",
        "admin: {token: a, token: Pl4nt3dS3cr3t}",
        "rules: [{name: a, match: {community: Pl4nt3dS3cr3t}}]",
        "webhooks: [{name: a, format: json, url: Pl4nt3dS3cr3t}]",
        "webhooks: [{name: a, format: json, url: 'https://Pl4nt3dS3cr3t@h/'}]",
        "webhooks: [{name: a, format: json, url: 'https://u:Pl4nt3dS3cr3t@h:x/'}]",
        "webhooks: [{name: a, format: json, url: 'https://h/ Pl4nt3dS3cr3t'}]",
        "webhooks: [{name: a, format: json, url: 'ftp://h/Pl4nt3dS3cr3t'}]",
        "webhooks: [{name: a, format: json, url: 'http://h', headers: {a: {b: Pl4nt3dS3cr3t}}}]",
        "webhooks: [{name: a, format: json, url: 'http://h', headers: [Pl4nt3dS3cr3t]}]",
        "webhooks: [{name: a, format: json, url: 'http://h', headers: {a: \"Pl4nt3dS3cr3t\\n\\x01\"}}]",
    ] {
        assert!(yaml(text).is_err(), "{text}");
        assert_eq!(leaks("a.yaml", text), None, "{text}");
    }
}

// Any text.

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        for name in ["a.yaml", "a.toml"] {
            outputs(name, &text);
        }
    }

    #[test]
    fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        for name in ["a.yaml", "a.toml"] {
            let _ = parse(name, &octets, &Planted);
        }
    }

    /// Pieces of real configurations in any order.
    #[test]
    fn no_shuffled_configuration_panics(lines in proptest::collection::vec(0..200_usize, 0..40), cut in 0..2000_usize) {
        for (name, sample) in [("a.yaml", uncommented(&sample_yaml())), ("a.toml", uncommented(&sample_toml()))] {
            let all: Vec<_> = sample.lines().collect();
            let mut text: String = lines.iter().map(|at| format!("{}\n", all[at % all.len()])).collect();
            outputs(name, &text);
            while !text.is_char_boundary(cut.min(text.len())) {
                text.push(' ');
                text.remove(0);
            }
            text.truncate(cut);
            outputs(name, &text);
        }
    }
}

#[test]
fn hostile_files_are_read_in_bounded_work() {
    let many = |line: &str, count: usize| line.repeat(count);
    let keys: String = (0..10_000).map(|n| format!("{{k{n}: 1}}, ")).collect();
    let texts = [
        many("a: 1\n", 20_000),
        (0..20_000).map(|n| format!("key{n}: 1\n")).collect(),
        format!("rules: [{keys}]"),
        format!("rules: [{}]", many("{name: a, match: {trap: 1.3}}, ", 5_000)),
        format!("webhooks: [{}]", many("{name: a}, ", 20_000)),
        format!("access: {{communities: [{}]}}", many("a, ", 20_000)),
        format!("{}: 1", "k".repeat(1_000)),
        format!("a: &a '{}'\nb: [{}]", "x".repeat(100_000), many("*a, ", 100_000)),
        format!("rules: # c\n{}", many("  - {nmae: a} # c\n", 5_000)),
    ];
    for text in texts {
        let problems = yaml(&text).unwrap_err();
        assert!(problems.diagnostics.len() <= MAX_PROBLEMS + 1);
        let shown: usize =
            problems.diagnostics.iter().filter_map(|d| d.place.as_ref()).map(|p| p.source.len()).sum();
        assert!(shown < 1 << 20);
    }
}
