//! Who follows what is stored.

use super::*;
use crate::store::Follower;

fn next(follower: &mut Follower) -> Option<Followed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), follower.next()).await.expect("it hears something")
    })
}

#[test]
fn a_follower_sees_what_is_stored_as_it_reads_from_the_disk() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(&settings(directory.path()));
    running.push(decided(1, None, Vec::new()));
    running.flush();
    let mut follower = running.reader.follow().unwrap();
    let mut repeat = decided(3, Some(1), Vec::new());
    if let Command::Event(decided) = &mut repeat {
        decided.row = false;
    }
    for command in [raise(2, 1, 1), repeat, decided(4, None, Vec::new())] {
        running.push(command);
    }
    running.flush();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let followed = next(&mut follower).unwrap();
        assert_eq!(followed.missed, 0);
        seen.extend(followed.events);
    }
    // Neither what came before nor the repeat, which has no row.
    for (event, number) in seen.iter().zip([2, 4]) {
        assert_eq!(**event, running.reader.event(id_of(number)).unwrap().unwrap());
    }
    assert_eq!(seen.len(), 2);
    running.stop();
    assert_eq!(next(&mut follower), None, "nothing more will be stored");
}

#[test]
fn one_that_does_not_read_hears_how_many_it_missed_and_holds_nobody_up() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(&settings(directory.path()));
    let mut lazy = running.reader.follow().unwrap();
    let mut number = 0;
    // About 6 MB, where 4 MiB is the bound: the writer goes on and stores all of it.
    while number < 16_000 {
        number += 1;
        running.push(decided(number, None, Vec::new()));
    }
    running.flush();
    let followed = next(&mut lazy).unwrap();
    let held = followed.events.len() as u64;
    assert!(held > 1_000 && followed.missed > 1_000, "{held} and {}", followed.missed);
    assert_eq!(held + followed.missed, number, "each is shown or counted");
    assert!(followed.events.iter().zip(1..).all(|(event, number)| event.id == id_of(number)));
    // Once it has read, it goes on.
    running.push(decided(number + 1, None, Vec::new()));
    running.flush();
    let followed = next(&mut lazy).unwrap();
    assert_eq!((followed.events[0].id, followed.missed), (id_of(number + 1), 0));
    running.stop();
}

#[test]
fn followers_are_bounded_and_give_their_places_back() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(&settings(directory.path()));
    let mut followers: Vec<_> = std::iter::from_fn(|| running.reader.follow()).collect();
    assert_eq!(followers.len(), 16);
    followers.pop();
    assert!(running.reader.follow().is_some());
    drop(followers);
    running.push(decided(1, None, Vec::new()));
    running.stop();
}
