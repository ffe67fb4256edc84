//! Valid notifications, encoded by the library: what tests send between the things they ask about.
#![allow(dead_code, reason = "each test uses some of it")]

use nereus::oid::OidRef;
use nereus::value::Value;
use nereus::wire::{Kind, V1Trap, V2Notification, encode_v1, encode_v2c};

const LINK_DOWN: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 5, 3];
const LINK_UP: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 5, 4];
const TRAP_ADDRESS: &[u32] = &[1, 3, 6, 1, 6, 3, 18, 1, 3, 0];

fn column(column: u32, interface: u32) -> [u32; 11] {
    [1, 3, 6, 1, 2, 1, 2, 2, 1, column, interface]
}

/// An SNMPv2c linkDown of one interface.
pub(crate) fn link_down(interface: u32, community: &str) -> Vec<u8> {
    v2c(Kind::Trap, LINK_DOWN, community, interface, None)
}

/// The linkUp that ends it.
pub(crate) fn link_up(interface: u32, community: &str) -> Vec<u8> {
    v2c(Kind::Trap, LINK_UP, community, interface, None)
}

/// The same as an inform; its request-id is the interface.
pub(crate) fn inform(interface: u32, community: &str) -> Vec<u8> {
    v2c(Kind::Inform, LINK_DOWN, community, interface, None)
}

/// The same as a relay sends it on for `device` (RFC 3584 section 3.1).
pub(crate) fn link_down_with_address(interface: u32, device: [u8; 4]) -> Vec<u8> {
    v2c(Kind::Trap, LINK_DOWN, "public", interface, Some(device))
}

fn v2c(
    kind: Kind,
    notification: &[u32],
    community: &str,
    interface: u32,
    device: Option<[u8; 4]>,
) -> Vec<u8> {
    let [index, admin, oper] = [1, 7, 8].map(|number| column(number, interface));
    let mut varbinds = vec![
        (OidRef(&index), Value::Integer(i32::try_from(interface).unwrap())),
        (OidRef(&admin), Value::Integer(1)),
        (OidRef(&oper), Value::Integer(2)),
    ];
    varbinds.extend(device.map(|device| (OidRef(TRAP_ADDRESS), Value::IpAddress(device))));
    let notification = V2Notification {
        community: community.as_bytes(),
        kind,
        request_id: i32::try_from(interface).unwrap(),
        uptime: 1,
        trap_oid: OidRef(notification),
        varbinds: &varbinds,
    };
    let mut out = Vec::new();
    encode_v2c(&notification, &mut out).unwrap();
    out
}

/// An SNMPv1 linkDown with this agent-addr.
pub(crate) fn v1_link_down(interface: u32, agent: [u8; 4]) -> Vec<u8> {
    let index = column(1, interface);
    let trap = V1Trap {
        community: b"public",
        enterprise: OidRef(&[1, 3, 6, 1, 4, 1, 8072, 3, 2, 10]),
        agent_addr: agent,
        generic: 2,
        specific: 0,
        uptime: 1,
        varbinds: &[(OidRef(&index), Value::Integer(i32::try_from(interface).unwrap()))],
    };
    let mut out = Vec::new();
    encode_v1(&trap, &mut out).unwrap();
    out
}
