//! The notification to send: from names and values to a template that is encoded again and again.

use smallvec::SmallVec;

use super::value::{self, Owned};
use crate::cli::names;
use crate::mib::{Kind as NodeKind, Mib, NodeId};
use crate::oid::{Oid, OidRef};
use crate::value::Value;
use crate::wire::{EncodeError, Kind, OutgoingVarbind, V1Trap, V2Notification, encode_v1, encode_v2c};

const SYS_UP_TIME: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
const SNMP_TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
const SNMP_TRAP_ENTERPRISE: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 3, 0];
/// The notifications below it are the generic traps of SNMPv1.
const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];

/// One varbind to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Varbind {
    pub(super) name: Vec<u32>,
    pub(super) value: Owned,
}

/// A varbind whose value counts from packet to packet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Varying {
    /// Which varbind.
    at: usize,
    from: i128,
    /// How many values there are before it starts again.
    values: i128,
    /// Whether the last arc of the name is the value too: `--vary ifIndex=1..9` sends ifIndex.N = N.
    instance: bool,
}

/// A notification whose names are OIDs, ready to be encoded.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) trap_oid: Oid,
    /// For people: `MODULE::name`, or the OID.
    pub(super) trap_name: String,
    pub(super) varbinds: Vec<Varbind>,
    varying: Vec<Varying>,
    /// A sysUpTime.0 that was given, in place of the clock's.
    pub(super) uptime: Option<u32>,
    node: Option<NodeId>,
}

/// The head of an SNMPv1 trap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct V1Head {
    pub(super) enterprise: Oid,
    pub(super) generic: u8,
    pub(super) specific: u32,
}

impl Message {
    /// The notification `name` with `varbinds` as `NAME=VALUE` or `NAME:TYPE=VALUE`, and `vary` as `NAME=FROM..TO`.
    ///
    /// # Errors
    /// Every problem of the command line, a sentence each.
    pub(super) fn parse(
        mib: &Mib,
        name: &str,
        varbinds: &[String],
        vary: &[String],
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let (trap_oid, node) = match notification(mib, name) {
            Ok(found) => found,
            Err(problem) => return Err(vec![problem]),
        };
        let mut message = Self {
            trap_name: node.map_or_else(|| trap_oid.to_string(), |node| mib.node(node).qualified_name()),
            trap_oid,
            varbinds: Vec::new(),
            varying: Vec::new(),
            uptime: None,
            node,
        };
        for text in varbinds {
            match parse_varbind(mib, text) {
                Ok(varbind) if varbind.name == SYS_UP_TIME => match varbind.value {
                    Owned::TimeTicks(ticks) => message.uptime = Some(ticks),
                    _ => problems.push(format!("{text}: sysUpTime.0 takes TimeTicks")),
                },
                Ok(varbind) if varbind.name == SNMP_TRAP_OID => {
                    problems.push(format!("{text}: snmpTrapOID.0 is what NAME says"));
                }
                Ok(varbind) => message.varbinds.push(varbind),
                Err(problem) => problems.push(format!("{text}: {problem}")),
            }
        }
        for text in vary.iter().rev() {
            if let Err(problem) = message.vary(mib, text) {
                problems.push(format!("--vary {text}: {problem}"));
            }
        }
        if problems.is_empty() { Ok(message) } else { Err(problems) }
    }

    /// Lets a varbind count; one that was not given comes first.
    fn vary(&mut self, mib: &Mib, text: &str) -> Result<(), String> {
        let (name, range) = text.split_once('=').ok_or("write NAME=FROM..TO")?;
        let (from, to) = range.split_once("..").ok_or("write NAME=FROM..TO")?;
        let object = Object::parse(mib, name)?;
        let first = object.value(mib, from)?;
        let (Some(low), Some(high)) = (first.number(), object.value(mib, to)?.number()) else {
            return Err("only numbers and IP addresses count".to_owned());
        };
        if high < low {
            return Err(format!("{to} comes before {from}"));
        }
        let (name, instance) = match object.instance(mib) {
            Ok(name) => (name, false),
            // A column without a row: the value is the row, as an ifIndex is.
            Err(_) if low >= 0 && high <= i128::from(u32::MAX) => {
                let mut name = object.oid.arcs().to_vec();
                name.push(low as u32);
                (name, true)
            }
            Err(problem) => return Err(problem),
        };
        let at = match self.varbinds.iter().position(|varbind| varbind.name == name) {
            Some(at) if !instance => {
                self.varbinds[at].value = first;
                at
            }
            _ => {
                self.varbinds.insert(0, Varbind { name, value: first });
                self.varying.iter_mut().for_each(|other| other.at += 1);
                0
            }
        };
        self.varying.push(Varying { at, from: low, values: high - low + 1, instance });
        Ok(())
    }

    /// Sets the counting varbinds for the packet with this number, from 0.
    pub(super) fn step(&mut self, number: u64) {
        for varying in &self.varying {
            let value = varying.from + i128::from(number) % varying.values;
            let varbind = &mut self.varbinds[varying.at];
            varbind.value.set_number(value);
            if varying.instance
                && let Some(last) = varbind.name.last_mut()
            {
                // `vary` checked that both ends are arcs.
                *last = value as u32;
            }
        }
    }

    /// The names of the notification's OBJECTS that no varbind gives.
    pub(super) fn missing(&self, mib: &Mib) -> Vec<String> {
        let Some(node) = self.node else {
            return Vec::new();
        };
        let given = |object: &NodeId| {
            let oid = mib.node(*object).oid();
            self.varbinds.iter().any(|varbind| varbind.name.starts_with(oid.arcs()))
        };
        let missing = mib.node(node).objects().filter(|object| !given(object));
        missing.map(|object| mib.node(object).name().to_owned()).collect()
    }

    /// What an SNMPv1 trap says in place of snmpTrapOID.0 (RFC 3584 section 3.2, (1), (3) and (4)).
    ///
    /// # Errors
    /// One sentence, where SNMPv1 cannot say it.
    pub(super) fn v1_head(&self) -> Result<V1Head, String> {
        if self.varbinds.iter().any(|varbind| matches!(varbind.value, Owned::Counter64(_))) {
            return Err("SNMPv1 has no Counter64 (RFC 3584 section 3.2); send it with --v2c".to_owned());
        }
        let arcs = self.trap_oid.arcs();
        let oid = |arcs: &[u32]| OidRef(arcs).to_oid();
        if let Some(&[number @ 1..=6]) = arcs.strip_prefix(&SNMP_TRAPS) {
            let given = self.varbinds.iter().find(|varbind| varbind.name == SNMP_TRAP_ENTERPRISE);
            let enterprise = match given.map(|varbind| varbind.value.borrow()) {
                Some(Value::Oid(enterprise)) => Some(enterprise.to_oid()),
                _ => oid(&SNMP_TRAPS),
            };
            let enterprise = enterprise.ok_or("no enterprise")?;
            return Ok(V1Head { enterprise, generic: number as u8 - 1, specific: 0 });
        }
        let (enterprise, specific) = match arcs {
            [enterprise @ .., 0, specific] => (enterprise, *specific),
            [enterprise @ .., specific] => (enterprise, *specific),
            [] => (arcs, 0),
        };
        let enterprise = oid(enterprise).filter(|enterprise| enterprise.arcs().len() >= 2);
        let enterprise =
            enterprise.ok_or_else(|| format!("{} leaves no enterprise for SNMPv1", self.trap_oid))?;
        if i32::try_from(specific).is_err() {
            return Err(format!("{}: SNMPv1 has no specific-trap above 2147483647", self.trap_oid));
        }
        Ok(V1Head { enterprise, generic: 6, specific })
    }

    /// Puts the notification into `out`, which is emptied before. Some 0.3 µs for a linkDown.
    pub(super) fn encode_v2c(
        &self,
        kind: Kind,
        community: &[u8],
        request_id: i32,
        uptime: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.clear();
        let varbinds = self.outgoing();
        let trap_oid = self.trap_oid.borrow();
        let uptime = self.uptime.unwrap_or(uptime);
        encode_v2c(
            &V2Notification { community, kind, request_id, uptime, trap_oid, varbinds: &varbinds },
            out,
        )
    }

    /// As [`encode_v2c`](Self::encode_v2c), with what [`v1_head`](Self::v1_head) gave.
    pub(super) fn encode_v1(
        &self,
        community: &[u8],
        head: &V1Head,
        agent_addr: [u8; 4],
        uptime: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.clear();
        let varbinds = self.outgoing();
        let trap = V1Trap {
            community,
            enterprise: head.enterprise.borrow(),
            agent_addr,
            generic: head.generic,
            specific: head.specific,
            uptime: self.uptime.unwrap_or(uptime),
            varbinds: &varbinds,
        };
        encode_v1(&trap, out)
    }

    pub(super) fn outgoing(&self) -> SmallVec<[OutgoingVarbind<'_>; 8]> {
        self.varbinds.iter().map(|varbind| (OidRef(&varbind.name), varbind.value.borrow())).collect()
    }
}

/// The OID of a notification, and its node where exactly this OID has a name.
fn notification(mib: &Mib, name: &str) -> Result<(Oid, Option<NodeId>), String> {
    let target = names::resolve(mib, name)?;
    let numeric = name.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    let Some(node) = target.node.filter(|_| target.instance().is_empty()) else {
        return Ok((target.oid, None));
    };
    let kind = mib.node(node).kind();
    if kind != NodeKind::Notification && !numeric {
        return Err(format!(
            "{name} is a {kind}, no notification; give the OID in numbers ({}) to send it all the same",
            target.oid
        ));
    }
    Ok((target.oid, Some(node).filter(|_| kind == NodeKind::Notification)))
}

fn parse_varbind(mib: &Mib, text: &str) -> Result<Varbind, String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE or NAME:TYPE=VALUE")?;
    let object = Object::parse(mib, name)?;
    Ok(Varbind { name: object.instance(mib)?, value: object.value(mib, value)? })
}

/// The left side of a varbind.
struct Object {
    oid: Oid,
    /// The object that the OID is an instance of.
    node: Option<NodeId>,
    /// Whether the OID names an instance, not the object alone.
    has_instance: bool,
    letter: Option<char>,
}

impl Object {
    fn parse(mib: &Mib, text: &str) -> Result<Self, String> {
        let (name, letter) = match text.rsplit_once(':') {
            // The colons of MODULE::name are none of ours.
            Some((name, letter)) if !name.ends_with(':') => {
                let mut letters = letter.chars();
                match (letters.next(), letters.next()) {
                    (Some(letter), None) => (name, Some(letter)),
                    _ => return Err(format!("a type is one letter: {}", value::TYPE_LETTERS)),
                }
            }
            _ => (text, None),
        };
        let target = names::resolve(mib, name)?;
        let node = target.node.filter(|&node| mib.node(node).kind().is_object());
        Ok(Self { has_instance: !target.instance().is_empty(), node, oid: target.oid, letter })
    }

    /// The whole name: what was written, and `.0` for a scalar that was written without it.
    fn instance(&self, mib: &Mib) -> Result<Vec<u32>, String> {
        let mut name = self.oid.arcs().to_vec();
        let Some(node) = self.node.filter(|_| !self.has_instance) else {
            return Ok(name);
        };
        let node = mib.node(node);
        if node.kind() == NodeKind::Column {
            return Err(format!("{0} is a column; add the row, as {0}.1", node.name()));
        }
        name.push(0);
        Ok(name)
    }

    fn value(&self, mib: &Mib, text: &str) -> Result<Owned, String> {
        if let Some(letter) = self.letter {
            return value::by_letter(mib, letter, text);
        }
        match self.node.and_then(|node| mib.node(node).syntax()) {
            Some(syntax) => value::by_syntax(mib, syntax, text),
            None => Err(format!(
                "no MIB says its type; write NAME:TYPE=VALUE with one of {}",
                value::TYPE_LETTERS
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, varbinds: &[&str], vary: &[&str]) -> Result<Message, Vec<String>> {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Message::parse(&Mib::builtin(), name, &owned(varbinds), &owned(vary))
    }

    fn head(name: &str, varbinds: &[&str]) -> Result<(String, u8, u32), String> {
        let head = parsed(name, varbinds, &[]).unwrap().v1_head()?;
        Ok((head.enterprise.to_string(), head.generic, head.specific))
    }

    #[test]
    fn names_types_and_instances() {
        let message = parsed(
            "linkDown",
            &[
                "IF-MIB::ifIndex.3=3",
                "ifDescr.3:x=6162",
                "sysName=core",
                "1.3.6.1.4.1.5.1.0:C=9",
                "sysUpTime.0=77",
            ],
            &[],
        )
        .unwrap();
        let names: Vec<String> = message.varbinds.iter().map(|v| OidRef(&v.name).to_string()).collect();
        assert_eq!(
            names,
            ["1.3.6.1.2.1.2.2.1.1.3", "1.3.6.1.2.1.2.2.1.2.3", "1.3.6.1.2.1.1.5.0", "1.3.6.1.4.1.5.1.0"]
        );
        assert_eq!(message.varbinds[1].value, Owned::Octets(b"ab".to_vec()));
        assert_eq!(message.varbinds[3].value, Owned::Counter64(9));
        assert_eq!(message.uptime, Some(77));
        assert_eq!(message.trap_name, "IF-MIB::linkDown");
        assert_eq!(message.missing(&Mib::builtin()), ["ifAdminStatus", "ifOperStatus"]);
    }

    #[test]
    fn every_problem_is_told() {
        let problems = parsed(
            "linkDown",
            &["ifIndx.1=1", "ifIndex=1", "ifIndex.1", "1.3.6.1.4.1.5=1"],
            &["ifDescr.1=1..2"],
        )
        .unwrap_err();
        let hints = ["ifIndex", "add the row", "NAME=VALUE", "TYPE=VALUE", "only numbers"];
        assert_eq!(problems.len(), hints.len(), "{problems:?}");
        for (problem, hint) in problems.iter().zip(hints) {
            assert!(problem.contains(hint), "{problem}");
        }
        assert!(parsed("linkDwon", &[], &[]).unwrap_err()[0].contains("linkDown"));
        assert!(parsed("ifDescr", &[], &[]).unwrap_err()[0].contains("column"));
        assert!(parsed("1.3.6.1.2.1.2.2.1.2", &[], &[]).is_ok());
    }

    /// RFC 3584 section 3.2.
    #[test]
    fn the_way_back_to_v1() {
        let traps = "1.3.6.1.6.3.1.1.5".to_owned();
        assert_eq!(head("coldStart", &[]), Ok((traps.clone(), 0, 0)));
        assert_eq!(head("linkDown", &[]), Ok((traps.clone(), 2, 0)));
        assert_eq!(head("egpNeighborLoss", &[]), Ok((traps.clone(), 5, 0)));
        let enterprise = ["snmpTrapEnterprise.0=1.3.6.1.4.1.9.1.5"];
        assert_eq!(head("linkDown", &enterprise), Ok(("1.3.6.1.4.1.9.1.5".to_owned(), 2, 0)));
        // Not one of the six, though below snmpTraps.
        assert_eq!(head("1.3.6.1.6.3.1.1.5.7", &[]), Ok((traps, 6, 7)));
        assert_eq!(head("1.3.6.1.4.1.9.0.17", &[]), Ok(("1.3.6.1.4.1.9".to_owned(), 6, 17)));
        assert_eq!(head("1.3.6.1.4.1.9.5.17", &[]), Ok(("1.3.6.1.4.1.9.5".to_owned(), 6, 17)));
        assert!(head("1.3.6.1.4.1.9.0.2147483648", &[]).is_err());
        assert!(head("1.3", &[]).is_err());
        assert!(head("linkDown", &["ifHCInOctets.1=1"]).unwrap_err().contains("Counter64"));
    }

    #[test]
    fn counting_goes_round() {
        let mut message =
            parsed("linkDown", &["ifDescr.1=x"], &["ifIndex=5..7", "snmpTrapAddress.0=10.0.0.255..10.0.1.0"])
                .unwrap();
        let mut seen = Vec::new();
        for number in 0..4 {
            message.step(number);
            let address = message.varbinds.iter().find(|v| v.name.ends_with(&[18, 1, 3, 0])).unwrap();
            let index = message
                .varbinds
                .iter()
                .find(|v| v.name.starts_with(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 1]))
                .unwrap();
            assert_eq!(index.value, Owned::Integer(*index.name.last().unwrap() as i32));
            seen.push((*index.name.last().unwrap(), address.value.number().unwrap() & 0xffff));
        }
        assert_eq!(seen, [(5, 255), (6, 256), (7, 255), (5, 256)]);
        assert_eq!(message.varbinds.len(), 3);
        let mut given = parsed("linkDown", &["ifIndex.1=1"], &["ifIndex.1=1..2"]).unwrap();
        given.step(1);
        assert_eq!(
            given.varbinds,
            [Varbind { name: vec![1, 3, 6, 1, 2, 1, 2, 2, 1, 1, 1], value: Owned::Integer(2) }]
        );
    }
}
