//! What a lane polls itself: its posts, and the connections that they go over.
//!
//! hyper wants a task for each connection. A post would wake that task, which another thread takes, and the answer would
//! wake the lane on the first one: in a guest each of these costs about as much as the post. Here the lane's own task
//! polls both, and what wakes one of them while the lane is at work wakes no thread.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The lane looks so often at all of them before it lets others of its thread have a turn.
const ROUNDS: usize = 8;

/// What a client wants to have polled beside its posts: a connection, the look at idle ones.
type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who polls what a client's connections do.
#[derive(Debug, Clone)]
pub(super) enum Hands {
    /// A task for each.
    Tasks,
    /// The lane that has the [`Flights`] of the other end. What is given after its end is dropped.
    Lane(UnboundedSender<Job>),
}

impl hyper::rt::Executor<Job> for Hands {
    fn execute(&self, job: Job) {
        match self {
            Self::Tasks => drop(tokio::spawn(job)),
            Self::Lane(jobs) => drop(jobs.send(job)),
        }
    }
}

/// Posts in flight, each of which comes to a `T`, and their connections.
pub(super) struct Flights<T> {
    posts: FuturesUnordered<BoxFuture<'static, T>>,
    /// What posts came to [`Flights::meanwhile`].
    landed: VecDeque<T>,
    jobs: FuturesUnordered<Job>,
    given: UnboundedReceiver<Job>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<T> Flights<T> {
    /// None yet, and the hands for the clients of these posts.
    pub(super) fn new() -> (Self, Hands) {
        let (sender, given) = unbounded_channel();
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let flights = Self {
            posts: FuturesUnordered::new(),
            landed: VecDeque::new(),
            jobs: FuturesUnordered::new(),
            given,
            bell,
            waker,
        };
        (flights, Hands::Lane(sender))
    }

    /// Posts in flight, and those whose end nobody has asked for yet.
    pub(super) fn len(&self) -> usize {
        self.posts.len() + self.landed.len()
    }

    /// One more post; it begins when [`Flights::next`] is polled.
    pub(super) fn begin(&mut self, post: BoxFuture<'static, T>) {
        self.posts.push(post);
    }

    /// What the next post has come to; waits for ever while there is none. Works on the connections meanwhile. Nothing is
    /// lost if it is not waited for to its end.
    pub(super) async fn next(&mut self) -> T {
        if let Some(landed) = self.landed.pop_front() {
            return landed;
        }
        poll_fn(|context| self.poll(context)).await
    }

    /// Does `work`, and goes on with the posts meanwhile: an answer that comes in time is read in time, however long the work
    /// takes. What they come to is kept for [`Flights::next`].
    pub(super) async fn meanwhile<W: Future>(&mut self, work: W) -> W::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            while let Poll::Ready(landed) = self.poll(context) {
                self.landed.push_back(landed);
            }
            Poll::Pending
        })
        .await
    }

    /// What a post has come to by now.
    pub(super) fn landed(&mut self) -> Option<T> {
        self.next().now_or_never()
    }

    fn poll(&mut self, outer: &mut Context<'_>) -> Poll<T> {
        self.bell.lane.register(outer.waker());
        let mut context = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS {
            self.bell.state.store(AT_WORK, Ordering::SeqCst);
            if let Poll::Ready(Some(landed)) = self.posts.poll_next_unpin(&mut context) {
                // Whoever takes it comes again before it rests.
                return Poll::Ready(landed);
            }
            while let Poll::Ready(Some(job)) = self.given.poll_recv(&mut context) {
                self.jobs.push(job);
            }
            while let Poll::Ready(Some(())) = self.jobs.poll_next_unpin(&mut context) {}
            let rests = self.bell.state.compare_exchange(AT_WORK, RESTS, Ordering::SeqCst, Ordering::SeqCst);
            if rests.is_ok() {
                return Poll::Pending;
            }
        }
        self.bell.state.store(RESTS, Ordering::SeqCst);
        outer.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The lane waits: whoever rings wakes it.
const RESTS: u8 = 0;
/// It is at work, and looks at the bell before it rests.
const AT_WORK: u8 = 1;
/// Somebody has rung.
const RUNG: u8 = 2;

/// Wakes the lane's task, unless that is at work.
#[derive(Debug, Default)]
struct Bell {
    lane: AtomicWaker,
    state: AtomicU8,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::SeqCst) == RESTS {
            self.lane.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use hyper::rt::Executor as _;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    /// Counts how often the task was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A post whose question is answered by a job, as a connection does it.
    fn exchange(flights: &mut Flights<u32>, hands: &Hands, number: u32) {
        let (ask, asked) = oneshot::channel::<u32>();
        let (answer, answered) = oneshot::channel();
        hands.execute(Box::pin(async move {
            let _ = asked.await.map(|number| answer.send(number));
        }));
        flights.begin(Box::pin(async move {
            ask.send(number).unwrap();
            answered.await.unwrap()
        }));
    }

    #[test]
    fn a_post_and_its_connection_wake_nobody_while_the_lane_is_at_work() {
        let (mut flights, hands) = Flights::new();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        for number in 1..=100 {
            exchange(&mut flights, &hands, number);
            assert_eq!(flights.poll(&mut Context::from_waker(&waker)), Poll::Ready(number));
        }
        assert_eq!((woken.0.load(Ordering::SeqCst), flights.len()), (0, 0));
        // One from outside that ends its rest does, once.
        let (send, receive) = oneshot::channel();
        flights.begin(Box::pin(async move { receive.await.unwrap() }));
        assert_eq!(flights.poll(&mut Context::from_waker(&waker)), Poll::Pending);
        send.send(7).unwrap();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(flights.landed(), Some(7));
        assert_eq!(flights.landed(), None);
    }

    #[test]
    fn a_job_that_never_rests_leaves_others_their_turn() {
        let (mut flights, hands) = Flights::<u32>::new();
        hands.execute(Box::pin(poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::Pending
        })));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert_eq!(flights.poll(&mut Context::from_waker(&waker)), Poll::Pending);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "it asks to be polled again");
    }

    #[tokio::test]
    async fn posts_go_on_while_something_else_is_waited_for() {
        let (mut flights, hands) = Flights::new();
        let (tell, told) = oneshot::channel();
        exchange(&mut flights, &hands, 1);
        // Its end is what the work waits for.
        flights.begin(Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            tell.send(()).map_or(0, |()| 2)
        }));
        timeout(Duration::from_secs(30), flights.meanwhile(told)).await.unwrap().unwrap();
        assert_eq!(flights.len(), 2, "nobody has asked for them");
        let ends = [flights.landed(), flights.landed(), flights.landed()];
        assert_eq!((ends, flights.len()), ([Some(1), Some(2), None], 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_from_another_thread_is_lost() {
        let (mut flights, _hands) = Flights::new();
        let (mut begun, mut sum) = (0_u64, 0_u64);
        for _ in 0..2_000 {
            for _ in 0..4 {
                begun += 1;
                let (send, receive) = oneshot::channel();
                let number = begun;
                flights.begin(Box::pin(async move { receive.await.unwrap_or(0) }));
                tokio::spawn(async move { send.send(number) });
            }
            while flights.len() > 0 {
                sum += timeout(Duration::from_secs(30), flights.next()).await.unwrap();
            }
        }
        assert_eq!(sum, begun * (begun + 1) / 2);
    }
}
