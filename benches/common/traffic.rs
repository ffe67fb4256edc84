//! Datagrams and rules for benches and for `tests/allocations.rs`.

#![allow(dead_code, reason = "each user takes its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use nereus::config::Settings;
use nereus::config::settings::{
    Access, AlertSettings, ClearSettings, Condition, Credential, KeySource, RuleActionSettings, RuleSettings,
    Scalar, Secret, SeveritySettings, Test, TrapPattern, Unmatched, UserSettings,
};
use nereus::event::Timestamp;
use nereus::mib::Mib;
use nereus::oid::Oid;
use nereus::pipeline::Datagram;
use nereus::security::{AuthProtocol, PrivacyProtocol, SecurityLevel};
use nereus::severity::Severity;
use nereus::snapshot::{Candidate, build};
use nereus::value::Value;
use nereus::wire::usm::{MasterKey, Protection, V3Outgoing, V3Pdu};
use nereus::wire::{self, Kind, V2Notification};

pub(crate) const LINK_DOWN: &str = "1.3.6.1.6.3.1.1.5.3";
/// A notification that no rule of [`rules`] names.
pub(crate) const UNKNOWN: &str = "1.3.6.1.4.1.99999.1.0.1";
/// A notification that a rule of [`rules`] drops, where there are 100 or more.
pub(crate) const CHATTER: &str = "1.3.6.1.4.1.5000.9.0.7";

/// A linkDown of `interface` as switches send it: 157 octets for an index below 128.
pub(crate) fn link_down(interface: u32) -> Vec<u8> {
    trap(LINK_DOWN, interface)
}

/// The varbinds of a linkDown under any notification.
pub(crate) fn trap(trap_oid: &str, interface: u32) -> Vec<u8> {
    let trap_oid: Oid = trap_oid.parse().unwrap();
    let column = |number: u32| Oid::new([1, 3, 6, 1, 2, 1, 2, 2, 1, number, interface]).unwrap();
    let (index, descr, admin, oper) = (column(1), column(2), column(7), column(8));
    let varbinds = [
        (index.borrow(), Value::Integer(interface.cast_signed())),
        (admin.borrow(), Value::Integer(1)),
        (oper.borrow(), Value::Integer(2)),
        (descr.borrow(), Value::Octets(b"HundredGigE0/0/1")),
    ];
    let mut octets = Vec::new();
    wire::encode_v2c(
        &V2Notification {
            community: b"public",
            kind: Kind::Trap,
            request_id: 0x1234_5678,
            uptime: 123_456_789,
            trap_oid: trap_oid.borrow(),
            varbinds: &varbinds,
        },
        &mut octets,
    )
    .unwrap();
    octets
}

/// The engine that sends in SNMPv3.
pub(crate) const ENGINE: &[u8] = &[0x80, 0, 0x1f, 0x88, 4, b'c', b'o', b'r', b'e'];
const PASSPHRASE: &[u8] = b"a passphrase";

/// The same linkDown in SNMPv3 with SHA-256, encrypted with AES-128 or not.
pub(crate) fn link_down_v3(interface: u32, private: bool) -> Vec<u8> {
    let trap_oid: Oid = LINK_DOWN.parse().unwrap();
    let column = |number: u32| Oid::new([1, 3, 6, 1, 2, 1, 2, 2, 1, number, interface]).unwrap();
    let (index, descr, admin, oper) = (column(1), column(2), column(7), column(8));
    let varbinds = [
        (index.borrow(), Value::Integer(interface.cast_signed())),
        (admin.borrow(), Value::Integer(1)),
        (oper.borrow(), Value::Integer(2)),
        (descr.borrow(), Value::Octets(b"HundredGigE0/0/1")),
    ];
    let master = MasterKey::from_passphrase(AuthProtocol::Sha256, PASSPHRASE);
    let (auth, privacy) = (master.localize(ENGINE), master.localize_privacy(PrivacyProtocol::Aes128, ENGINE));
    let message = V3Outgoing {
        message_id: 1,
        reportable: false,
        engine_id: ENGINE,
        boots: 3,
        time: 1_000,
        user: b"ops",
        context_engine_id: ENGINE,
        context_name: b"",
        protection: if private { Protection::AuthPriv(&auth, &privacy, 1) } else { Protection::Auth(&auth) },
    };
    let pdu = V3Pdu::Notification {
        kind: Kind::Trap,
        request_id: 0x1234_5678,
        uptime: 123_456_789,
        trap_oid: trap_oid.borrow(),
        varbinds: &varbinds,
    };
    let mut octets = Vec::new();
    wire::encode_v3(&message, &pdu, &mut octets).unwrap();
    octets
}

/// As [`candidate`], with the user of [`link_down_v3`].
pub(crate) fn candidate_with_user(number: usize) -> Candidate {
    let secret = || KeySource::Passphrase(Secret::new(PASSPHRASE.to_vec()));
    let user = UserSettings {
        name: "ops".into(),
        auth: Some(Credential { protocol: AuthProtocol::Sha256, secret: secret() }),
        privacy: Some(Credential { protocol: PrivacyProtocol::Aes128, secret: secret() }),
        engines: None,
        sources: Vec::new(),
        minimum_level: SecurityLevel::AuthNoPriv,
        lenient_time: false,
    };
    let settings = Settings {
        rules: rules(number).into_iter().map(Arc::new).collect(),
        unmatched: Unmatched::Drop,
        access: Arc::new(Access { users: vec![Arc::new(user)], ..Access::default() }),
        ..Settings::default()
    };
    build(settings, Mib::builtin(), None).unwrap()
}

/// A datagram as a receiver hands it to the processing.
pub(crate) fn received(octets: &[u8]) -> Datagram<'_> {
    Datagram {
        octets,
        peer: SocketAddr::from(([10, 1, 2, 3], 49_152)),
        listener: 0,
        received: Timestamp(1_700_000_000_000_000),
    }
}

/// A candidate of `number` rules under `unmatched: drop`.
pub(crate) fn candidate(number: usize) -> Candidate {
    let settings = Settings {
        rules: rules(number).into_iter().map(Arc::new).collect(),
        unmatched: Unmatched::Drop,
        ..Settings::default()
    };
    build(settings, Mib::builtin(), None).unwrap()
}

/// `number` rules as a large network has them. The last one raises an alert for linkDown, keyed by source and
/// ifIndex and cleared by linkUp. Of the others, in each ten: five name one vendor notification, two a
/// subtree (of different depths), three a notification and a `when`. With 100 and more rules, three
/// also name linkDown with a `when` that this linkDown does not fulfil, and one drops a subtree.
pub(crate) fn rules(number: usize) -> Vec<RuleSettings> {
    let mut rules: Vec<RuleSettings> = (0..number.saturating_sub(1)).map(vendor_rule).collect();
    if number >= 100 {
        let conditions = [
            Condition::Field {
                name: "ifAdminStatus".into(),
                test: Test::Equals(Scalar::Text("down".into())),
            },
            Condition::Field { name: "ifDescr".into(), test: Test::Matches("^(Loopback|Vlan|Null)".into()) },
            Condition::Field { name: "ifIndex".into(), test: Test::Above(100_000.0) },
        ];
        for (place, condition) in conditions.into_iter().enumerate() {
            rules[place * 10].trap = vec![TrapPattern::Name("IF-MIB::linkDown".into())];
            rules[place * 10].when = Some(condition);
        }
        rules[5].trap = vec![TrapPattern::Subtree(CHATTER.parse::<Oid>().unwrap())];
        rules[5].action = RuleActionSettings::Drop;
    }
    let mut link = alert("InterfaceDown", &["source", "ifIndex"]);
    link.cleared_by = Some(ClearSettings {
        trap: vec![TrapPattern::Name("IF-MIB::linkUp".into())],
        when: None,
        key: BTreeMap::new(),
    });
    rules.push(rule("link".into(), TrapPattern::Name("IF-MIB::linkDown".into()), link));
    rules
}

fn vendor_rule(place: usize) -> RuleSettings {
    let enterprise = 1_000 + (place / 10) as u32;
    let arcs = |rest: &[u32]| {
        let mut arcs = vec![1, 3, 6, 1, 4, 1, enterprise];
        arcs.extend_from_slice(rest);
        Oid::new(arcs).unwrap()
    };
    let last = (place % 10) as u32;
    let pattern = match last {
        5 => TrapPattern::Subtree(arcs(&[5])),
        6 => TrapPattern::Subtree(arcs(&[6, 1, 2])),
        _ => TrapPattern::Exact(arcs(&[1, 0, last])),
    };
    let mut rule = rule(format!("vendor-{place}"), pattern, alert("VendorTrap", &["source", "trap"]));
    if last > 6 {
        rule.when = Some(Condition::Field {
            name: "ifOperStatus".into(),
            test: Test::Equals(Scalar::Text("down".into())),
        });
    }
    rule
}

/// A rule that raises an alert for the notification `oid`, by source and trap.
pub(crate) fn alert_rule(name: String, oid: Oid, when: Option<Condition>) -> RuleSettings {
    let mut rule = rule(name, TrapPattern::Exact(oid), alert("VendorTrap", &["source", "trap"]));
    rule.when = when;
    rule
}

fn rule(name: String, trap: TrapPattern, alert: AlertSettings) -> RuleSettings {
    RuleSettings {
        name: name.into(),
        trap: vec![trap],
        except: Vec::new(),
        source: Vec::new(),
        realm: Vec::new(),
        community: Vec::new(),
        when: None,
        action: RuleActionSettings::Alert(alert),
        continue_: false,
    }
}

fn alert(name: &str, key: &[&str]) -> AlertSettings {
    AlertSettings {
        alert: name.into(),
        severity: SeveritySettings::Fixed(Severity::Major),
        key: key.iter().map(|&part| part.to_owned()).collect(),
        cleared_by: None,
        deduplicate: None,
        store_repeats: true,
        expire: None,
        flapping: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        notify: None,
    }
}
