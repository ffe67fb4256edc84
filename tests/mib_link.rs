//! Linking against a resolver that follows the rules one name at a time.

mod link_oracle;

use link_oracle::World;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_definition_stands_where_the_rules_say(octets in prop::collection::vec(any::<u8>(), 0..192)) {
        World::of(&octets).check();
    }
}

#[test]
fn the_worlds_are_worth_comparing() {
    // Octets without any pattern, the same each time.
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let compared: usize =
        (0..100).map(|_| World::of(&(0..192).map(|_| next()).collect::<Vec<u8>>()).check()).sum();
    assert!(compared > 500, "{compared}");
}
