//! What the built-in names can do, through the public interface.

use super::*;
use crate::oid::EncodedOid;
use crate::value::Value;

const LINK_DOWN: [u32; 10] = [1, 3, 6, 1, 6, 3, 1, 1, 5, 3];
const IF_ADMIN_STATUS: [u32; 10] = [1, 3, 6, 1, 2, 1, 2, 2, 1, 7];

fn name(mib: &Mib, arcs: &[u32]) -> String {
    let mut out = String::new();
    mib.write_name(arcs, &mut out);
    out
}

fn value(mib: &Mib, object: &str, value: Value<'_>) -> String {
    let mut out = String::new();
    mib.write_value(mib.resolve(object).unwrap().node, &value, &mut out);
    out
}

#[test]
fn a_link_down_reads_well_with_no_file_at_all() {
    let mib = Mib::builtin();
    assert_eq!(name(&mib, &LINK_DOWN), "IF-MIB::linkDown");
    let mut instance = IF_ADMIN_STATUS.to_vec();
    instance.push(3);
    assert_eq!(name(&mib, &instance), "IF-MIB::ifAdminStatus.3");
    assert_eq!(value(&mib, "ifAdminStatus", Value::Integer(2)), "down");
    assert_eq!(value(&mib, "ifAdminStatus", Value::Integer(9)), "9");
    assert_eq!(value(&mib, "ifPhysAddress", Value::Octets(&[0, 0x1a, 0x2b, 3, 4, 5])), "00:1a:2b:03:04:05");
    let oid = EncodedOid::new(&[0x2b, 6, 1, 6, 3, 1, 1, 5, 3]).unwrap();
    assert_eq!(value(&mib, "snmpTrapOID", Value::Oid(oid)), "IF-MIB::linkDown");
    let link_down = mib.lookup(&LINK_DOWN).unwrap();
    assert_eq!(link_down.matched, 10);
    let node = mib.node(link_down.node);
    assert_eq!(node.kind(), Kind::Notification);
    let objects: Vec<_> = node.objects().map(|object| mib.node(object).name()).collect();
    assert_eq!(objects, ["ifIndex", "ifAdminStatus", "ifOperStatus"]);
}

#[test]
fn built_in_names_are_small_and_whole() {
    let linked = resolve::link(&[builtin_input()]);
    let mib = Mib::made(&linked.parts, linked.files);
    assert!(linked.problems.is_empty(), "{:?}", linked.problems);
    assert!(mib.size() < 128 << 10, "{}", mib.size());
    for node in mib.nodes() {
        assert_eq!(mib.resolve(&node.qualified_name()).unwrap().oid, node.oid());
        assert_eq!(mib.lookup(node.oid().arcs()).unwrap().node, node.id());
    }
}

#[test]
fn names_are_found_in_every_form() {
    let mib = Mib::builtin();
    for (text, oid) in [
        ("IF-MIB::linkDown", "1.3.6.1.6.3.1.1.5.3"),
        ("linkDown", "1.3.6.1.6.3.1.1.5.3"),
        ("ifDescr.3", "1.3.6.1.2.1.2.2.1.2.3"),
        (" IF-MIB::ifDescr.3 ", "1.3.6.1.2.1.2.2.1.2.3"),
        ("enterprises.9.9", "1.3.6.1.4.1.9.9"),
        (".1.3.6.1", "1.3.6.1"),
        ("1.3.6.1", "1.3.6.1"),
        (".iso.org.dod.internet.2", "1.3.6.1.2"),
    ] {
        assert_eq!(mib.resolve(text).map(|target| target.oid.to_string()), Ok(oid.to_owned()), "{text}");
    }
    let target = mib.resolve("ifDescr.3").unwrap();
    assert_eq!(target.instance(), [3]);
    assert_eq!(mib.resolve(""), Err(LookupError::BadSyntax));
    assert_eq!(mib.resolve("1..3"), Err(LookupError::BadSyntax));
    assert_eq!(mib.resolve("ifDescr.3.x"), Err(LookupError::BadSyntax));
    let Err(LookupError::NotFound { suggestions }) = mib.resolve("ifAdminStaus") else {
        panic!("a name that is misspelt is found");
    };
    assert_eq!(suggestions[0], "ifAdminStatus");
    let Err(LookupError::NotFound { suggestions }) = mib.resolve("SNMPv2-MIB::linkDown") else {
        panic!("linkDown is in no other module");
    };
    assert_eq!(suggestions, ["IF-MIB::linkDown"]);
}

#[test]
fn a_rules_names_bind_to_objects_then_to_index_parts() {
    let mib = Mib::builtin();
    let link_down = mib.resolve("linkDown").unwrap().node;
    assert!(matches!(mib.resolve_object(link_down, "ifAdminStatus"), Ok(Bound::Object(_))));
    assert!(matches!(mib.resolve_object(link_down, "ifIndex"), Ok(Bound::Object(_))));
    assert!(matches!(mib.resolve_object(None, "ifIndex"), Ok(Bound::Object(_))));
    assert!(matches!(mib.resolve_object(link_down, "nothing"), Err(LookupError::NotFound { .. })));
    let if_name = mib.resolve("ifName").unwrap().node.unwrap();
    let decoder = mib.index_decoder(if_name).unwrap();
    assert_eq!(decoder.kinds(), [IndexKind::Integer]);
    assert_eq!(decoder.part(0, &[7]).unwrap().integer(), Some(7));
    let parts = mib.index_parts(if_name, &[7]).unwrap();
    assert_eq!(mib.node(parts[0].0.unwrap()).name(), "ifIndex");
}

#[test]
fn a_renderer_stands_alone() {
    let mib = Mib::builtin();
    let renderer = Arc::new(mib.renderer(mib.resolve("ifAdminStatus").unwrap().node.unwrap()).unwrap());
    drop(mib);
    assert_eq!(renderer.enum_number("up"), Some(1));
    assert_eq!(renderer.enum_number("upp"), None);
    let mut out = String::new();
    renderer.write(&Value::Integer(3), &mut out);
    assert_eq!(out, "testing");
}
