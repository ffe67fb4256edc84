//! Every element of valid SNMPv1, SNMPv2c and SNMPv3 messages, spoilt in every way that BER can be
//! spoilt, in the datagram as it is and in one whose enclosing lengths were made right again.

#[path = "common/anomalies.rs"]
mod anomalies;
mod wire_oracle;

use nereus::wire::DecodeErrorKind;
use wire_oracle::check;

#[test]
fn every_anomaly_of_every_element_is_refused_or_walked() {
    for message in anomalies::messages() {
        check(&message).expect("valid");
    }
    let (mut faults, mut refused) = (0u64, 0u64);
    let mut reasons = std::collections::BTreeMap::new();
    anomalies::every_fault(|datagram| {
        faults += 1;
        if let Err(error) = check(datagram) {
            refused += 1;
            *reasons.entry(error.kind.as_str()).or_insert(0u64) += 1;
        }
    });
    assert!(faults >= 100_000, "{faults} faults only");
    assert!(refused > faults / 2, "{refused} of {faults} refused");
    // The generator reaches everything that a fault in one element can bring about.
    for kind in DecodeErrorKind::ALL {
        let reached = reasons.contains_key(kind.as_str());
        // These need more than one element, and have their fixtures in tests/wire_vectors.rs.
        let beyond = matches!(kind, DecodeErrorKind::MessageTooLong | DecodeErrorKind::TooManyVarbinds);
        assert_ne!(reached, beyond, "{} of {reasons:?}", kind.as_str());
    }
}
