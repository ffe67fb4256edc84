//! Any octets, and faults in valid notifications, through the whole decision under several Snapshots.

mod process_oracle;
#[path = "common/trap.rs"]
mod trap;
#[path = "common/v3.rs"]
mod v3;

use nereus::security::{AuthProtocol, PrivacyProtocol};
use nereus::wire::usm::V3Pdu;
use proptest::prelude::*;

/// Valid notifications to start from; some of each kind are accepted by every Snapshot that may.
fn valid() -> Vec<Vec<u8>> {
    vec![
        trap::link_down(3, "public"),
        trap::link_down(4_000_000, "somebody"),
        trap::link_down_with_address(7, [192, 0, 2, 8]),
        trap::v1_link_down(5, [192, 0, 2, 7]),
    ]
}

/// The same in SNMPv3, at each level; an inform for the own engine, and the question for it.
fn valid_v3() -> Vec<Vec<u8>> {
    let (device, own) = ([0x80, 0, 0, 0, 9, 9], [0x80, 0, 0, 0, 5, 1, 2, 3]);
    let auth = Some((AuthProtocol::Md5, "mypassword"));
    let privacy = Some((PrivacyProtocol::Aes128, "myprivacy"));
    let mut inform = v3::Sender::new(&own, "myuser", auth, privacy);
    (inform.boots, inform.time) = (7, 0);
    let discovery = v3::Sender { boots: 0, ..v3::Sender::new(b"", "", None, None) };
    vec![
        v3::Sender::new(&device, "plain", None, None).link_down(3),
        v3::Sender::new(&device, "myuser", auth, None).link_down(3),
        v3::Sender::new(&device, "myuser", auth, privacy).link_down(3),
        inform.inform(3),
        discovery.encode(&V3Pdu::Discovery { request_id: 1 }),
    ]
}

#[test]
fn valid_notifications_are_accepted_where_they_may_be() {
    let accepted: Vec<_> = valid().iter().map(|datagram| process_oracle::check(datagram)).collect();
    // linkDown is unmatched where no rule stands and `unmatched` is `drop`; one community is a stranger's.
    assert_eq!(accepted, [4, 2, 4, 4]);
    let accepted: Vec<_> = valid_v3().iter().map(|datagram| process_oracle::check(datagram)).collect();
    // Of the two Snapshots with users one knows `plain` and privacy.
    assert_eq!(accepted, [1, 2, 1, 1, 0]);
}

#[test]
fn every_octet_of_a_valid_notification_may_be_wrong() {
    for datagram in valid().into_iter().chain(valid_v3()) {
        for at in 0..datagram.len() {
            for wrong in [0, 1, 0x7f, 0x80, 0x81, 0x84, 0xff, datagram[at] ^ 1, datagram[at].wrapping_add(1)]
            {
                let mut faulty = datagram.clone();
                faulty[at] = wrong;
                process_oracle::check(&faulty);
            }
            process_oracle::check(&datagram[..at]);
        }
    }
}

proptest! {
    #[test]
    fn any_octets_have_a_verdict(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        process_oracle::check(&octets);
    }

    #[test]
    fn any_splice_of_two_has_a_verdict(one in 0usize..9, other in 0usize..9, from in 0usize..150, to in 0usize..150) {
        let all = [valid(), valid_v3()].concat();
        let (one, other) = (&all[one], &all[other]);
        let spliced = [&one[..from.min(one.len())], &other[to.min(other.len())..]].concat();
        process_oracle::check(&spliced);
    }
}
