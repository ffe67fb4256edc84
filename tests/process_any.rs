//! Any octets, and faults in valid notifications, through the whole decision under several Snapshots.

mod process_oracle;
#[path = "common/trap.rs"]
mod trap;

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

#[test]
fn valid_notifications_are_accepted_where_they_may_be() {
    let accepted: Vec<_> = valid().iter().map(|datagram| process_oracle::check(datagram)).collect();
    // linkDown is unmatched where no rule stands and `unmatched` is `drop`; one community is a stranger's.
    assert_eq!(accepted, [3, 2, 3, 3]);
}

#[test]
fn every_octet_of_a_valid_notification_may_be_wrong() {
    for datagram in valid() {
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
    fn any_splice_of_two_has_a_verdict(one in 0usize..4, other in 0usize..4, from in 0usize..150, to in 0usize..150) {
        let (one, other) = (&valid()[one], &valid()[other]);
        let spliced = [&one[..from.min(one.len())], &other[to.min(other.len())..]].concat();
        process_oracle::check(&spliced);
    }
}
