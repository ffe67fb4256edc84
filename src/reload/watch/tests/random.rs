//! Whatever happens to the inputs, what was read after the last report is what is there.

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestCaseError, TestRunner};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(usize, u8),
    Replace(usize, u8),
    Remove(usize),
    RemoveDirectory(usize),
    MoveDirectory(usize),
    Link(usize, usize),
    Pause(u64),
}

const FILES: [&str; 5] =
    ["etc/config.yml", "etc/conf.d/a.yml", "mibs/A.mib", "mibs/v/B.mib", "mibs/v/w/C.mib"];
const DIRECTORIES: [&str; 4] = ["etc", "etc/conf.d", "mibs", "mibs/v"];

fn step() -> impl Strategy<Value = Step> {
    let file = 0..FILES.len();
    let directory = 0..DIRECTORIES.len();
    prop_oneof![
        4 => (file.clone(), 0..3_u8).prop_map(|(file, content)| Step::Write(file, content)),
        2 => (file.clone(), 0..3_u8).prop_map(|(file, content)| Step::Replace(file, content)),
        2 => file.clone().prop_map(Step::Remove),
        1 => directory.clone().prop_map(Step::RemoveDirectory),
        1 => directory.prop_map(Step::MoveDirectory),
        1 => (file.clone(), file).prop_map(|(file, to)| Step::Link(file, to)),
        3 => (0..60_u64).prop_map(Step::Pause),
    ]
}

/// Does one step; that a step finds nothing to do, or a thing in its way, is part of the game.
fn act(t: &Fixture, step: &Step) {
    let ready = |file: usize| {
        let path = t.path(FILES[file]);
        let _ = fs::create_dir_all(path.parent().unwrap());
        path
    };
    let content = |n: u8| "x".repeat(usize::from(n));
    let _ = match step {
        Step::Write(file, n) => fs::write(ready(*file), content(*n)),
        Step::Replace(file, n) => {
            fs::write(t.path("new"), content(*n)).and_then(|()| fs::rename(t.path("new"), ready(*file)))
        }
        Step::Remove(file) => fs::remove_file(t.path(FILES[*file])),
        Step::RemoveDirectory(n) => fs::remove_dir_all(t.path(DIRECTORIES[*n])),
        Step::MoveDirectory(n) => {
            let away = t.path("away");
            if away.exists() {
                fs::rename(away, t.path(DIRECTORIES[*n]))
            } else {
                fs::rename(t.path(DIRECTORIES[*n]), away)
            }
        }
        Step::Link(file, to) => {
            let path = ready(*file);
            let _ = fs::remove_file(&path);
            symlink(t.path(FILES[*to]), path)
        }
        Step::Pause(milliseconds) => {
            thread::sleep(Duration::from_millis(*milliseconds));
            Ok(())
        }
    };
}

fn no_report_is_lost(cases: u32, timing: Timing, open: fn() -> Open) {
    let mut runner = TestRunner::new(Cases { cases, max_shrink_iters: 40, ..Cases::default() });
    let result = runner.run(&prop::collection::vec(step(), 1..25), |steps| {
        let mut t = Fixture::new();
        t.publishes = true;
        for file in 0..FILES.len() {
            act(&t, &Step::Write(file, 1));
        }
        let t = t.watch_with(&FILES[..2], &["mibs"], timing, open());
        let first = read_all(&t.targets);
        for step in &steps {
            act(&t, step);
        }
        let now = read_all(&t.targets);
        let limit = Instant::now() + Duration::from_secs(20);
        let right = |all: &[(Change, Contents)]| all.last().map_or(&first, |(_, contents)| contents) == &now;
        let mut all = t.reports.all.lock();
        while !right(&all) {
            if t.reports.more.wait_until(&mut all, limit).timed_out() {
                return Err(TestCaseError::fail(format!("last {:?}, but now {now:?}", all.last())));
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn no_report_is_lost_by_events() {
    let timing = Timing { delay: Duration::from_millis(20), sweep: LONG * 60 };
    no_report_is_lost(64, timing, native);
}

#[test]
fn no_report_is_lost_by_the_sweep_alone() {
    let timing = Timing { delay: Duration::from_millis(20), sweep: Duration::from_millis(40) };
    no_report_is_lost(24, timing, off);
}
