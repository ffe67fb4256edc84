//! Instances by INDEX and values by type, as people read them; and every name that is written is read back.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use nereus::mib::{LookupError, Mib, SourceFile};
use nereus::oid::{EncodedOid, encode};
use nereus::value::Value;
use proptest::prelude::*;

static MIB: LazyLock<Mib> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mibs/valid");
    let names = ["ACME-INDEX-MIB.mib", "ACME-V2-MIB.mib"];
    let files = names.map(|name| SourceFile::new(name, fs::read(folder.join(name)).unwrap()));
    Mib::compile(&files).mib
});

/// The arcs of a column with an instance behind them.
fn instance(column: &str, instance: &[u32]) -> Vec<u32> {
    [MIB.resolve(column).unwrap().oid.arcs(), instance].concat()
}

fn name(arcs: &[u32]) -> String {
    let mut out = String::new();
    MIB.write_name(arcs, &mut out);
    out
}

/// The arcs of a text with its length before it.
fn text(text: &str) -> Vec<u32> {
    let octets = text.bytes().map(u32::from);
    std::iter::once(text.len() as u32).chain(octets).collect()
}

#[test]
fn instances_are_written_part_by_part() {
    let v4 = [1, 4, 10, 0, 0, 1];
    let mut v6 = vec![2, 16, 0xfe, 0x80];
    v6.extend([0; 13]);
    v6.push(1);
    let zoned = [3, 8, 10, 0, 0, 1, 0, 0, 0, 7];
    let dns = [&[16][..], &text("r1.example")].concat();
    let port = |middle: &[u32]| {
        let (mac, code) = ([0, 0x1a, 0x2b, 3, 4, 0xff], [97, 98, 99]);
        [&mac[..], &code, &[192, 0, 2, 1], &[2, 7, 8], middle, &[1, 3, 6]].concat()
    };
    for (column, arcs, expected) in [
        ("kindValue", [&[1][..], &text("east"), &[120, 121]].concat(), r#"kindValue.red."east".'xy'"#),
        ("kindValue", [&[9][..], &text(r#"a"b\c.d"#), &[39]].concat(), r#"kindValue.9."a\"b\\c.d".'\''"#),
        ("kindValue", [&[3][..], &text("Zürich"), &[7]].concat(), r#"kindValue.blue."Zürich".7"#),
        ("kindValue", [&[3][..], &text("")].concat(), r#"kindValue.blue."""#),
        ("kindValue", vec![3, 2, 9, 10, 120], "kindValue.blue.2.9.10.'x'"),
        // What does not fit the INDEX stays in arcs.
        ("kindValue", vec![3, 5, 97], "kindValue.3.5.97"),
        ("kindValue", vec![3, 1, 999], "kindValue.3.1.999"),
        ("peerVia", [&v4[..], &[80], &v6].concat(), r#"peerVia.ipv4."10.0.0.1".80.ipv6."fe80::1""#),
        ("peerVia", [&zoned[..], &[80], &dns].concat(), r#"peerVia.ipv4z."10.0.0.1%7".80.dns."r1.example""#),
        // Text that would be read as the address that it is not stays in arcs.
        (
            "peerVia",
            [&[1][..], &text("1.2.3.4"), &[80], &v4].concat(),
            r#"peerVia.ipv4.7.49.46.50.46.51.46.52.80.ipv4."10.0.0.1""#,
        ),
        ("portValue", port(&[2, 1, 3]), "portValue.00:1a:2b:03:04:ff.'abc'.192.0.2.1.2.7.8.2.1.3.1.3.6"),
    ] {
        let arcs = instance(column, &arcs);
        let written = name(&arcs);
        assert_eq!(written, format!("ACME-INDEX-MIB::{expected}"));
        assert_eq!(MIB.resolve(&written).unwrap().oid.arcs(), arcs, "{written}");
    }
    // INDEX { fanShelf, IMPLIED fanName }, through AUGMENTS.
    assert_eq!(name(&instance("fanNote", &[4, 101, 97])), "ACME-V2-MIB::fanNote.4.'ea'");
}

#[test]
fn instances_are_read_in_every_form() {
    let oid = |text: &str| MIB.resolve(text).map(|target| target.oid.arcs()[11..].to_vec());
    let east = [2, 4, 101, 97, 115, 116, 120];
    for text in [
        r#"kindValue.green."east".'x'"#,
        // Whichever quotes: the INDEX says whether the length stands before the text.
        r#"ACME-INDEX-MIB::kindValue.2.'east'."x""#,
        "kindValue.2.4.101.97.115.116.120",
    ] {
        assert_eq!(oid(text).as_deref(), Ok(&east[..]), "{text}");
    }
    let port = oid("portValue.0:1A:2b:3:4:ff.'abc'.10.0.0.1").unwrap();
    assert_eq!(port, [0, 26, 43, 3, 4, 255, 97, 98, 99, 10, 0, 0, 1]);
    // Where no INDEX is known the quotes tell, as net-snmp has it.
    let plain = |text: &str| MIB.resolve(text).map(|target| target.oid.arcs()[6..].to_vec());
    assert_eq!(plain(r#"enterprises."ab".1"#), Ok(vec![2, 97, 98, 1]));
    assert_eq!(plain("enterprises.'ab'"), Ok(vec![97, 98]));
    for wrong in [
        "kindValue.purple",
        "kindValue.red.",
        "kindValue..1",
        r#"kindValue.red."open"#,
        r#"kindValue.red."a"b"#,
        "portValue.'abc'",
        "portValue.0:1a",
        "kindValue.3.5.97.red",
    ] {
        let answer = oid(wrong);
        let is_refused = matches!(answer, Err(LookupError::BadSyntax | LookupError::NotFound { .. }));
        assert!(is_refused, "{wrong}: {answer:?}");
    }
    assert_eq!(oid(&format!("kindValue.red.\"{}\"", "x".repeat(500))), Err(LookupError::BadSyntax));
}

#[test]
fn the_type_beside_an_address_decides_its_form() {
    let instance_of = [1, 4, 10, 0, 0, 1, 80, 1, 4, 10, 0, 0, 2];
    let shown = |kind: Option<i32>, other_row: bool, octets: &[u8]| {
        let mut type_name = Vec::new();
        let mut row = instance_of.to_vec();
        if other_row {
            row[12] = 3;
        }
        encode(&instance("peerViaType", &row), &mut type_name).unwrap();
        let kind = kind.map(|kind| (EncodedOid::new(&type_name).unwrap(), Value::Integer(kind)));
        let mut out = String::new();
        let arcs = instance("peerVia", &instance_of);
        MIB.write_varbind(MIB.lookup(&arcs), &arcs, &Value::Octets(octets), kind, &mut out);
        out
    };
    assert_eq!(shown(Some(16), false, b"host"), "host");
    assert_eq!(shown(Some(1), false, b"host"), "104.111.115.116");
    assert_eq!(shown(Some(3), false, &[10, 0, 0, 1, 0, 0, 0, 7]), "10.0.0.1%7");
    assert_eq!(shown(Some(2), false, &[0; 16]), "::");
    // A type that the octets are not of, or none: by their length, else as octets.
    assert_eq!(shown(Some(2), false, &[10, 0, 0, 1]), "10.0.0.1");
    assert_eq!(shown(Some(0), false, &[1, 2, 3]), "01 02 03");
    assert_eq!(shown(Some(-1), false, &[10, 0, 0, 1]), "10.0.0.1");
    assert_eq!(shown(None, false, &[10, 0, 0, 1]), "10.0.0.1");
    // The type of another row is no word about this one.
    assert_eq!(shown(Some(16), true, b"host"), "104.111.115.116");
}

/// Arcs that are likely to fit some INDEX, and some that fit none.
fn arcs() -> impl Strategy<Value = Vec<u32>> {
    let arc = prop_oneof![4 => 0u32..8, 4 => 32u32..127, 1 => 0u32..300, 1 => any::<u32>()];
    prop_oneof![
        prop::collection::vec(arc, 0..40),
        (1u32..5, "[ -~ü]{0,12}", "[ -~]{0,12}")
            .prop_map(|(colour, name, rest)| { [&[colour][..], &text(&name), &text(&rest)[1..]].concat() }),
        (0u32..5, prop::collection::vec(0u32..256, 0..21), any::<u32>(), "[0-9.:a-f%]{0,16}").prop_map(
            |(kind, octets, port, address)| {
                let octets = [&[kind, octets.len() as u32][..], &octets].concat();
                [&octets[..], &[port, kind], &text(&address)].concat()
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_name_that_is_written_is_read_back(
        column in prop::sample::select(vec!["kindValue", "peerVia", "portValue", "fanNote", "sysDescr", "enterprises", "ifDescr"]),
        behind in arcs(),
    ) {
        let arcs = instance(column, &behind);
        let written = name(&arcs);
        let read = MIB.resolve(&written);
        prop_assert_eq!(read.as_ref().map(|target| target.oid.arcs()), Ok(&arcs[..]), "{}", written);
        prop_assert!(!written.contains(char::is_control));
    }

    #[test]
    fn no_text_does_harm(text in r#"(kindValue|peerVia|portValue|ifDescr)[."'a-f0-9:\\:ü]{0,40}"#) {
        let _ = MIB.resolve(&text);
    }
}
