//! Threads that compile without getting into the way of those that receive.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

/// By how much the threads of a compile stand back: beside a thread that is busy at the usual priority one of
/// these gets about a quarter of the core, and all of an idle one.
const NICENESS: i32 = 5;
/// More threads than these only wait for memory.
const MOST_THREADS: usize = 8;
/// Below this many pieces of work for each, another thread costs more than it gains.
const LEAST_PIECES: usize = 16;

/// Runs `work` on a thread of lower priority, and with it all threads that it starts. Where the system refuses
/// the thread, `work` runs on this one.
pub(crate) fn standing_back<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let stand_back = || {
        // Not being granted it changes nothing but the courtesy.
        let _ = rustix::process::setpriority_process(None, NICENESS);
    };
    beside("mib_compile", || (), stand_back, work).1
}

/// As many as there were cores when this was asked first: asking takes reading several files.
fn most_threads() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    (*CORES.get_or_init(cores)).min(MOST_THREADS)
}

/// Does `count` pieces of work on as many threads as pay, and returns what they came to in order. Each thread
/// has a `state` of its own. The order in which the pieces are begun is theirs.
pub(crate) fn in_parallel<S, T: Send>(
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    let threads = most_threads().min(count / LEAST_PIECES);
    if threads < 2 {
        let mut state = state();
        return (0..count).map(|at| work(&mut state, at)).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut state = state();
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return done;
            }
            done.push((at, work(&mut state, at)));
        }
    };
    let mut done: Vec<(usize, T)> = Vec::with_capacity(count);
    thread::scope(|scope| {
        let start = || thread::Builder::new().name("mib_parse".into()).spawn_scoped(scope, run);
        let others: Vec<_> = (1..threads).map_while(|_| start().ok()).collect();
        done.extend(run());
        for other in others {
            match other.join() {
                Ok(theirs) => done.extend(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    done.sort_unstable_by_key(|&(at, _)| at);
    done.into_iter().map(|(_, done)| done).collect()
}

/// Work that fills what it holds.
pub(crate) type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Does all of `tasks`, on as many threads as there are cores; they are begun in their order.
pub(crate) fn all(tasks: Vec<Task<'_>>) {
    let threads = most_threads().min(tasks.len());
    let tasks = Mutex::new(tasks.into_iter());
    let run = || {
        loop {
            // The lock is not held while the task is done.
            let task = tasks.lock().next();
            match task {
                Some(task) => task(),
                None => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // A panic of that thread goes on in this one when the scope ends.
            let _ = thread::Builder::new().name("mib_fill".into()).spawn_scoped(scope, run);
        }
        run();
    });
}

/// Does `other` on another thread beside `own`; after it where there is none to be had.
pub(crate) fn both<A, B: Send>(own: impl FnOnce() -> A, other: impl FnOnce() -> B + Send) -> (A, B) {
    beside("mib_fill", own, || (), other)
}

/// Does `other` on a thread of that name, which begins with `first`; where the system refuses the thread, on this one
/// after `own`, without `first`.
fn beside<A, B: Send>(
    name: &str,
    own: impl FnOnce() -> A,
    first: impl FnOnce() + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    let mut work = Some(other);
    let mut done = None;
    let own = thread::scope(|scope| {
        let (work, done) = (&mut work, &mut done);
        let run = move || {
            first();
            *done = work.take().map(|work| work());
        };
        // A panic of that thread goes on in this one when the scope ends.
        let _ = thread::Builder::new().name(name.into()).spawn_scoped(scope, run);
        own()
    });
    match (done, work) {
        (Some(other), _) => (own, other),
        (None, Some(work)) => (own, work()),
        (None, None) => unreachable!("a panic of the thread has ended this one too"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_in_order() {
        for count in [0, 1, 15, 1000] {
            let squares = standing_back(|| in_parallel(count, || 0, |_, at| at * at));
            assert_eq!(squares, (0..count).map(|at| at * at).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_task_is_done_once() {
        for count in [0, 1, 100] {
            let mut done = vec![0; count];
            all(done.iter_mut().map(|done| -> Task<'_> { Box::new(move || *done += 1) }).collect());
            assert_eq!(done, vec![1; count]);
        }
        assert_eq!(both(|| 1, || 2), (1, 2));
    }

    #[test]
    fn a_panic_is_not_swallowed() {
        let run = || standing_back(|| in_parallel(100, || (), |(), at| assert_ne!(at, 77)));
        assert!(std::panic::catch_unwind(run).is_err());
        assert!(std::panic::catch_unwind(|| both(|| (), || panic!("in the other"))).is_err());
    }
}
