//! Every element of valid SNMPv1, SNMPv2c and SNMPv3 messages, and every way in which BER can be spoilt.
#![allow(dead_code, reason = "each test uses its part")]

use nereus::oid::Oid;
use nereus::value::Value;
use nereus::wire::{Kind, V1Trap, V2Notification, encode_v1, encode_v2c};

/// An element and, when it is constructed, what is inside.
enum Node {
    Leaf(u8, Vec<u8>),
    Inner(u8, Vec<Self>),
}

impl Node {
    /// The elements that fill `octets`. The messages here are our own, so that nothing can be wrong.
    fn parse(mut octets: &[u8]) -> Vec<Self> {
        let mut nodes = Vec::new();
        while let [tag, first, rest @ ..] = octets {
            let (length, rest) = match *first {
                0x81 => (usize::from(rest[0]), &rest[1..]),
                0x82 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
                short => (usize::from(short), rest),
            };
            let (contents, after) = rest.split_at(length);
            // Security parameters are a SEQUENCE inside an OCTET STRING.
            let wraps = *tag == 0x04 && contents.first() == Some(&0x30);
            nodes.push(if tag & 0x20 != 0 || wraps {
                Self::Inner(*tag, Self::parse(contents))
            } else {
                Self::Leaf(*tag, contents.to_vec())
            });
            octets = after;
        }
        nodes
    }

    fn count(nodes: &[Self]) -> usize {
        let below = |node: &Self| match node {
            Self::Leaf(..) => 1,
            Self::Inner(_, nodes) => 1 + Self::count(nodes),
        };
        nodes.iter().map(below).sum()
    }

    /// Encodes `nodes`, the `spoilt`th element (counted in the order of their tags) by `spoil`.
    fn encode(
        nodes: &[Self],
        seen: &mut usize,
        spoilt: usize,
        spoil: &dyn Fn(u8, &[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for node in nodes {
            let here = *seen;
            *seen += 1;
            let (tag, contents) = match node {
                Self::Leaf(tag, contents) => (*tag, contents.clone()),
                Self::Inner(tag, nodes) => (*tag, Self::encode(nodes, seen, spoilt, spoil)),
            };
            out.extend(if here == spoilt { spoil(tag, &contents) } else { element(tag, &contents) });
        }
        out
    }
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match contents.len() {
        length @ 0..0x80 => out.push(length as u8),
        length @ 0x80..0x100 => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(contents);
    out
}

/// One element with other length octets before its contents.
fn with_length(tag: u8, length: &[u8], contents: &[u8]) -> Vec<u8> {
    [&[tag], length, contents].concat()
}

type Spoil = Box<dyn Fn(u8, &[u8]) -> Vec<u8>>;

/// Every way to spoil one element.
fn anomalies() -> Vec<Spoil> {
    let mut all: Vec<Spoil> = Vec::new();
    for difference in [-128i32, -2, -1, 1, 2, 127] {
        all.push(Box::new(move |tag, contents| {
            let length = (contents.len() as i32 + difference).max(0) as u16;
            with_length(tag, &[&[0x82][..], &length.to_be_bytes()].concat(), contents)
        }));
    }
    for length in [
        &[0][..],
        &[0x7f],
        &[0x80],
        &[0x81],
        &[0x81, 0],
        &[0x82, 0xff, 0xff],
        &[0x83, 0xff, 0xff, 0xff],
        &[0x84, 0x7f, 0xff, 0xff, 0xff],
        &[0x84, 0x80, 0, 0, 0],
        &[0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x85, 0, 0, 0, 0, 1],
        &[0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xfe],
        &[0xff],
    ] {
        all.push(Box::new(move |tag, contents| with_length(tag, length, contents)));
    }
    for octet in [0x00, 0x01, 0x7f, 0x80, 0x81, 0xff] {
        all.push(Box::new(move |tag, contents| element(tag, &vec![octet; contents.len()])));
        for size in [0, 1, 4, 5, 8, 9, 10, 33, 127, 129, 260] {
            all.push(Box::new(move |tag, _| element(tag, &vec![octet; size])));
        }
    }
    for tag in 0..=u8::MAX {
        all.push(Box::new(move |_, contents| element(tag, contents)));
    }
    // Twice, not at all, cut, with more behind, and inside itself.
    all.push(Box::new(|tag, contents| [element(tag, contents), element(tag, contents)].concat()));
    all.push(Box::new(|_, _| Vec::new()));
    all.push(Box::new(|tag, contents| element(tag, &contents[..contents.len() / 2])));
    all.push(Box::new(|tag, contents| element(tag, &[contents, &[0, 0]].concat())));
    all.push(Box::new(|tag, contents| element(tag, &element(tag, contents))));
    // The longest legal form, which is no anomaly to a receiver.
    all.push(Box::new(|tag, contents| {
        with_length(tag, &[&[0x84][..], &(contents.len() as u32).to_be_bytes()].concat(), contents)
    }));
    all
}

/// Valid messages of every shape.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    let oid = |text: &str| text.parse::<Oid>().unwrap();
    let name = oid("1.3.6.1.4.1.8072.2.3.2.1");
    let pointer = [0x2b, 6, 1, 4, 1, 0xbf, 8];
    let values = [
        Value::Integer(-1),
        Value::Octets(b"GigabitEthernet0/1"),
        Value::Oid(nereus::oid::EncodedOid::new(&pointer).unwrap()),
        Value::IpAddress([192, 0, 2, 1]),
        Value::Counter32(u32::MAX),
        Value::Unsigned32(7),
        Value::TimeTicks(100),
        Value::Opaque(&[0x9f, 0x78, 4, 0, 0, 0, 0]),
        Value::Counter64(u64::MAX),
        Value::Null,
        Value::NoSuchObject,
        Value::NoSuchInstance,
        Value::EndOfMibView,
    ];
    let every_type: Vec<_> = values.iter().map(|value| (name.borrow(), *value)).collect();
    let address = oid("1.3.6.1.6.3.18.1.3.0");
    let community = oid("1.3.6.1.6.3.18.1.4.0");
    let enterprise_name = oid("1.3.6.1.6.3.1.1.4.3.0");
    let proxied = [
        (address.borrow(), Value::IpAddress([192, 0, 2, 9])),
        (community.borrow(), Value::Octets(b"secret")),
        (enterprise_name.borrow(), Value::Oid(nereus::oid::EncodedOid::new(&pointer).unwrap())),
    ];
    let trap_oid = oid("1.3.6.1.6.3.1.1.5.3");
    let enterprise = oid("1.3.6.1.4.1.8072.2.3");
    let mut messages = Vec::new();
    for varbinds in [&[][..], &proxied, &every_type] {
        for kind in [Kind::Trap, Kind::Inform] {
            let mut out = Vec::new();
            let notification = V2Notification {
                community: b"public",
                kind,
                request_id: 7,
                uptime: 100,
                trap_oid: trap_oid.borrow(),
                varbinds,
            };
            encode_v2c(&notification, &mut out).unwrap();
            messages.push(out);
        }
        for generic in [2, 6] {
            let mut out = Vec::new();
            let trap = V1Trap {
                community: b"public",
                enterprise: enterprise.borrow(),
                agent_addr: [192, 0, 2, 1],
                generic,
                specific: 17,
                uptime: 100,
                varbinds,
            };
            encode_v1(&trap, &mut out).unwrap();
            messages.push(out);
        }
    }
    let v2 = messages[0].clone();
    // The PDU behind version and community of the first message.
    let pdu = &v2[2 + 3 + 8..];
    for flags in [0, 1, 3, 7] {
        messages.push(v3(flags, pdu));
    }
    messages
}

fn v3(flags: u8, pdu: &[u8]) -> Vec<u8> {
    let engine = [0x80, 0, 0x1f, 0x88, 0x80, 1, 2, 3, 4];
    let header =
        [element(2, &[9]), element(2, &[0, 0xff, 0xe3]), element(4, &[flags]), element(2, &[3])].concat();
    let digest = if flags & 1 == 0 { &[][..] } else { &[0xaa; 12] };
    let salt = if flags & 2 == 0 { &[][..] } else { &[0xbb; 8] };
    let usm = [
        element(4, &engine),
        element(2, &[3]),
        element(2, &[100]),
        element(4, b"ops"),
        element(4, digest),
        element(4, salt),
    ]
    .concat();
    let scoped = element(0x30, &[element(4, &engine), element(4, b""), pdu.to_vec()].concat());
    let data = if flags & 2 == 0 { scoped } else { element(4, &[0xcc; 48]) };
    let whole = [element(2, &[3]), element(0x30, &header), element(4, &element(0x30, &usm)), data].concat();
    element(0x30, &whole)
}

/// Gives every fault to `feed`: each element of each message spoilt in each way, each message cut at each octet, and
/// each octet replaced.
pub(crate) fn every_fault(mut feed: impl FnMut(&[u8])) {
    let anomalies = anomalies();
    for message in messages() {
        let nodes = Node::parse(&message);
        for spoilt in 0..Node::count(&nodes) {
            for spoil in &anomalies {
                feed(&Node::encode(&nodes, &mut 0, spoilt, spoil));
            }
        }
        for end in 0..message.len() {
            feed(&message[..end]);
        }
        for at in 0..message.len() {
            let mut datagram = message.clone();
            for octet in
                [0x00, 0x01, 0x7f, 0x80, 0x81, 0x84, 0x85, 0xfe, 0xff, message[at] ^ 1, message[at] ^ 0x20]
            {
                datagram[at] = octet;
                feed(&datagram);
            }
            // Everything from here on, so that lengths and contents go together.
            for octet in [0x00, 0x30, 0x80, 0xff] {
                datagram[at..].fill(octet);
                feed(&datagram);
            }
        }
    }
}
