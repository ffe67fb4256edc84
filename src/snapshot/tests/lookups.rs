//! Tables that add what is known about a device: in keys, conditions, labels, and for `source` itself.

use std::io;
use std::path::Path;

use super::*;
use crate::config::{Inputs, parse_after};
use crate::device::Device;
use crate::diagnostic::Diagnostic;
use crate::event::{Event, Timestamp, Watch};

/// `devices.csv` holds this text, `circuits.csv` a fixed one.
struct Tables(&'static str);

const DEVICES: &str = "net,name,site\n10.0.0.0/8,,Berlin\n10.0.0.7,core-1,Bonn\n10.0.0.8,core-1,Bonn\n";

impl Inputs for Tables {
    fn env(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_part(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("devices.csv") => Ok(self.0.into()),
            Some("circuits.csv") => Ok(b"circuit,customer\nGi0/3,ACME\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

const RULES: &str = r#"
lookups:
  - {name: device, file: devices.csv, key: net}
  - {name: circuit, file: circuits.csv, key: circuit, by: ifDescr}
unmatched: store
rules:
  - name: far
    match: {trap: linkDown, when: {device.site: Berlin}}
    alert: Far
    key: [source, device.site]
  - name: link
    match: {trap: linkDown, source: 10.0.0.0/24}
    alert: Down
    key: [source, ifIndex, circuit.customer]
    labels: {site: "{{ device.site }}"}
    annotations: {summary: "{{ device.name or peer }} for {{ circuit.customer or 'nobody' }} by {{ source }}"}
  - {name: other, match: {trap: coldStart}, alert: Start}
"#;

const CANONICAL: &str = "source: {canonical: {lookup: device, column: name}}";

fn settings(text: &str, devices: &'static str, known: Option<&Snapshot>) -> Settings {
    let known = known.map(|known| known.settings().lookups.clone()).unwrap_or_default();
    parse_after("a.yaml", text.as_bytes(), &Tables(devices), &known)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .settings
}

fn made(text: &str, devices: &'static str, previous: Option<&Snapshot>) -> Snapshot {
    let number = previous.map_or(1, |previous| previous.generation().0 + 1);
    build(settings(text, devices, previous), Mib::builtin(), previous)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .into_snapshot(Generation(number))
}

/// A linkDown of interface 3 from `source`.
fn down() -> Vec<u8> {
    trap(
        LINK_DOWN,
        &[(&format!("{IF_INDEX}.3"), Value::Integer(3)), (&format!("{IF_DESCR}.3"), Value::Octets(b"Gi0/3"))],
    )
}

fn of(snapshot: &Snapshot, source: [u8; 4]) -> (Vec<Effect>, Event) {
    of_realm(snapshot, None, source)
}

fn of_realm(snapshot: &Snapshot, realm: Option<&str>, source: [u8; 4]) -> (Vec<Effect>, Event) {
    let octets = down();
    let Ok(Message::Community(message)) = wire::decode(&octets) else { panic!("a valid trap") };
    let trap_oid = message.notification.trap_oid.to_oid();
    let subject = Subject {
        notification: &message.notification,
        trap_oid: trap_oid.arcs(),
        source: source.into(),
        realm,
        peer: SocketAddr::from(([192, 0, 2, 1], 4000)),
        version: Version::V2c,
        community: None,
    };
    let mut effects = SmallVec::new();
    snapshot.rules().decide(&subject, &mut RuleScratch::default(), &mut effects);
    let start = message.pdu.as_ptr() as usize - octets.as_ptr() as usize;
    let pdu = start..start + message.pdu.len();
    let event = Event {
        time: Timestamp(0),
        generation: snapshot.generation(),
        listener: 0,
        peer: subject.peer,
        source: Device { realm: realm.map(Arc::from), address: subject.source },
        version: Version::V2c,
        community: None,
        trap_oid,
        trap_name: None,
        pdu,
        datagram: octets.as_slice().into(),
        effects: SmallVec::new(),
        answer: None,
    };
    (effects.into_vec(), event)
}

#[test]
fn columns_are_keys_conditions_labels_and_texts() {
    let snapshot = made(RULES, DEVICES, None);
    let (effects, _) = of(&snapshot, [10, 9, 9, 9]);
    assert_eq!(&*effects[0].key, key(&["Far", "10.9.9.9", "Berlin"]));
    let (effects, event) = of(&snapshot, [10, 0, 0, 7]);
    assert_eq!(&*effects[0].key, key(&["Down", "10.0.0.7", "3", "ACME"]));
    let rendered = effects[0].rule.text.render(&event, Severity::Warning);
    assert_eq!(rendered.labels, [("site".into(), "Bonn".to_owned())]);
    assert_eq!(rendered.annotations[0].1, "core-1 for ACME by 10.0.0.7");
}

/// Two networks have the same addresses: what is said of a device of one is said of no other.
#[test]
fn an_address_is_another_device_in_another_realm() {
    const TWO: &str = "source,name,site\n10.0.0.0/24,core-1,Bonn\nbranch/10.0.0.0/24,edge-1,Ulm\n";
    const REALMS: &str = "
listener: [{address: '127.0.0.1:1162'}, {address: '127.0.0.1:1163', realm: branch}, {address: '127.0.0.1:1164', realm: lab}]
rules:
  - {name: branch, match: {trap: linkDown, realm: branch}, alert: Branch, key: [source, ifIndex], continue: true}
  - {name: both, match: {trap: linkDown, source: 10.0.0.0/24, realm: [default, branch]}, alert: Down, key: [source, peer, realm, device.site]}
  - {name: rest, alert: Rest, annotations: {summary: '{{ source }} {{ device.name or realm }}'}}
lookups: [{name: device, file: devices.csv, key: source}]
";
    let keys = |snapshot: &Snapshot, realm| -> Vec<String> {
        let (effects, _) = of_realm(snapshot, realm, [10, 0, 0, 7]);
        effects.iter().map(|effect| effect.key.to_string()).collect()
    };
    let snapshot = made(REALMS, TWO, None);
    assert_eq!(keys(&snapshot, None), [key(&["Down", "10.0.0.7", "192.0.2.1", "default", "Bonn"])]);
    assert_eq!(
        keys(&snapshot, Some("branch")),
        [
            key(&["Branch", "branch/10.0.0.7", "3"]),
            key(&["Down", "branch/10.0.0.7", "branch/192.0.2.1", "branch", "Ulm"])
        ]
    );
    let (effects, event) = of_realm(&snapshot, Some("lab"), [10, 0, 0, 7]);
    assert_eq!(&*effects[0].key, key(&["Rest", "lab/10.0.0.7"]));
    let rendered = effects[0].rule.text.render(&event, Severity::Warning);
    assert_eq!(rendered.annotations[0].1, "lab/10.0.0.7 lab", "no row is its own");

    let named = made(&format!("{CANONICAL}\n{REALMS}"), TWO, None);
    assert_eq!(keys(&named, None)[0], key(&["Down", "core-1", "192.0.2.1", "default", "Bonn"]));
    assert_eq!(keys(&named, Some("branch"))[0], key(&["Branch", "edge-1", "3"]));
    assert_eq!(keys(&named, Some("lab")), [key(&["Rest", "lab/10.0.0.7"])]);
    assert_eq!((snapshot.realm(0), snapshot.realm(1).map(|realm| &**realm)), (None, Some("branch")));
}

#[test]
fn one_name_stands_for_all_addresses_of_a_device() {
    let text = format!("{CANONICAL}\n{RULES}");
    let snapshot = made(&text, DEVICES, None);
    for source in [[10, 0, 0, 7], [10, 0, 0, 8]] {
        // The rule's `match.source` is a network, so that the name does not hide the address from it.
        let (effects, event) = of(&snapshot, source);
        assert_eq!(&*effects[0].key, key(&["Down", "core-1", "3", "ACME"]));
        assert_eq!(event.source.address, IpAddr::from(source));
        let rendered = effects[0].rule.text.render(&event, Severity::Warning);
        assert_eq!(rendered.annotations[0].1, "core-1 for ACME by core-1");
    }
    let (effects, _) = of(&snapshot, [10, 9, 9, 9]);
    assert_eq!(&*effects[0].key, key(&["Far", "10.9.9.9", "Berlin"]), "without a name the address stays");
}

/// What alerts that no rule raises call a device is what stands in the keys of those that a rule does.
#[test]
fn devices_are_called_as_in_keys() {
    let long = "x".repeat(250);
    let text: &'static str =
        format!("source,name\n10.0.0.1,{long}\nbranch/10.0.0.1,edge-1\n10.0.0.2,\n").leak();
    let rule = "listener: [{address: '127.0.0.1:1162'}, {address: '127.0.0.1:1163', realm: branch}]
lookups: [{name: device, file: devices.csv, key: source}]
unmatched: drop
rules: [{name: any, alert: Any}]";
    let named = made(&format!("{CANONICAL}\n{rule}"), text, None);
    let plain = made(rule, text, None);
    for (realm, last) in [(None, 1), (None, 2), (None, 3), (Some("branch"), 1), (Some("branch"), 2)] {
        for snapshot in [&named, &plain] {
            let (effects, event) = of_realm(snapshot, realm, [10, 0, 0, last]);
            let watch = Watch { names: snapshot.rules().device_names(), ..Watch::default() };
            assert_eq!(&*effects[0].key, key(&["Any", &watch.source(&event.source)]));
        }
    }
    assert!(plain.rules().device_names().is_none());
    let again = made(&format!("{CANONICAL}\n{rule}"), text, Some(&named));
    let other = made(&format!("{CANONICAL}\n{rule}"), "source,name\n10.0.0.1,other\n", Some(&named));
    let same = [&again, &other, &plain].map(|new| named.rules().names_devices_as(new.rules()));
    assert_eq!(same, [true, false, false]);
}

#[test]
fn what_did_not_change_is_shared() {
    let first = made(RULES, DEVICES, None);
    let same = build(settings(RULES, DEVICES, None), Mib::builtin(), Some(&first)).unwrap();
    assert!(same.is(&first), "read again, and equal");
    let known = settings(RULES, DEVICES, Some(&first));
    assert!(Arc::ptr_eq(&known.lookups[0], &first.lookups()[0]), "not even parsed");

    let other = made(RULES, "net,name,site\n10.0.0.7,core-2,Ulm\n", Some(&first));
    assert!(!Arc::ptr_eq(other.lookups(), first.lookups()));
    assert!(Arc::ptr_eq(&other.lookups()[1], &first.lookups()[1]), "the other table");
    let (before, after) = (&first.rules().rules, &other.rules().rules);
    let shared: Vec<_> = before.iter().zip(after).map(|(old, new)| Arc::ptr_eq(old, new)).collect();
    assert_eq!(shared, [false, false, true], "only rules that name the table are compiled again");
    let (effects, event) = of(&other, [10, 0, 0, 7]);
    assert_eq!(effects[0].rule.text.render(&event, Severity::Warning).labels[0].1, "Ulm");
    assert!(rule_changes(&first, &other).rules.is_empty());
}

#[test]
fn another_meaning_of_source_ends_what_it_identified() {
    let first = made(RULES, DEVICES, None);
    let second = made(&format!("{CANONICAL}\n{RULES}"), DEVICES, Some(&first));
    let changed: Vec<_> =
        rule_changes(&first, &second).rules.iter().map(|change| change.rule.to_string()).collect();
    assert_eq!(changed, ["far", "link", "other"]);
}

#[test]
fn settings_of_a_program_are_checked_too() {
    let mut settings = settings(RULES, DEVICES, None);
    settings.lookups.remove(0);
    let code = |settings: Settings| -> Vec<Diagnostic> { build(settings, Mib::builtin(), None).unwrap_err() };
    let problems = code(settings.clone());
    assert_eq!(problems.len(), 4);
    assert_eq!(problems[0].code, "rule-unknown-lookup");
    let canonical = crate::config::settings::Canonical { lookup: "device".into(), column: "name".into() };
    settings.source = Arc::new(SourceSettings { canonical: Some(canonical), ..SourceSettings::default() });
    assert_eq!(code(settings)[0].code, "source-canonical");
}
