//! Any octets behind a right digest, and messages of any octets written and read back: the oracles of the fuzz targets
//! `usm` and `wire_roundtrip`, in a bounded form.

mod roundtrip_oracle;
mod usm_oracle;

use proptest::prelude::*;
use usm_oracle::element;

/// A scoped PDU with a linkDown in a PDU of this tag.
fn scoped(tag: u8) -> Vec<u8> {
    let varbind = |name: &[u8], value: Vec<u8>| element(0x30, &[&element(6, &[name]), &value]);
    let uptime = varbind(&[0x2b, 6, 1, 2, 1, 1, 3, 0], element(0x43, &[&[1]]));
    let link_down = element(6, &[&[0x2b, 6, 1, 6, 3, 1, 1, 5, 3]]);
    let trap_oid = varbind(&[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0], link_down);
    let zero = element(2, &[&[0]]);
    let pdu = element(tag, &[&element(2, &[&[5]]), &zero, &zero, &element(0x30, &[&uptime, &trap_oid])]);
    element(0x30, &[&element(4, &[]), &element(4, &[]), &pdu])
}

#[test]
fn what_is_in_the_clear_is_accepted() {
    // MD5 without privacy: choice 42 is 0 of 6 and 7 of 8.
    let with = |flags, tag| [&[42, flags, 0, 0][..], &scoped(tag)].concat();
    assert!(usm_oracle::check(&with(0, 0xa7)) && usm_oracle::check(&with(1, 0xa7)));
    assert!(!usm_oracle::check(&with(0, 0xa6)) && usm_oracle::check(&with(1, 0xa6)));
    assert!(!usm_oracle::check(&with(1, 0xa0)) && !usm_oracle::check(&with(3, 0xa0)));
}

proptest! {
    #[test]
    fn any_octets_behind_a_right_digest(
        head: [u8; 4], octets in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..80, wrong: u8, real: bool
    ) {
        let mut octets = if real { scoped(if wrong & 1 == 0 { 0xa7 } else { 0xa6 }) } else { octets };
        if let Some(octet) = octets.get_mut(at) {
            *octet = wrong;
        }
        usm_oracle::check(&[&head[..], &octets].concat());
    }

    #[test]
    fn any_message_is_read_back(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        roundtrip_oracle::check(&octets);
    }
}
