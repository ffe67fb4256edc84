//! A TCP listener by itself, with a queue behind it that the test empties when it likes: what counts as a connection,
//! whose time runs, and what a full queue holds up.

#[path = "common/peers.rs"]
mod peers;
#[path = "common/trap.rs"]
mod trap;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nereus::config::settings::Listener;
use nereus::event::{Event, Handed, Queue};
use nereus::metrics::Metrics;
use nereus::pipeline::{Listeners, Samples, Usm, Wiring};
use nereus::snapshot::{self, Publisher};
use socket2::{Domain, Socket, Type};

struct Bed {
    listeners: Arc<Listeners>,
    handoff: Arc<Queue<Handed>>,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    _publisher: Publisher,
}

impl Bed {
    /// A listener on TCP, and a queue for so many octets.
    fn new(listener: Listener, queue: usize) -> Self {
        let listener = Listener { address: "tcp://127.0.0.1:0".parse().unwrap(), ..listener };
        let settings =
            nereus::config::Settings { listeners: Arc::new([listener.clone()]), ..Default::default() };
        let candidate = snapshot::build(settings, nereus::mib::Mib::builtin(), None).unwrap();
        let publisher = Publisher::new(candidate, 1).unwrap();
        let metrics = Arc::new(Metrics::new());
        let listeners = Arc::new(Listeners::bind(&[listener]).unwrap());
        let handoff = Arc::new(Queue::new(queue));
        let wiring = Wiring {
            snapshot: publisher.handle(),
            handoff: Arc::clone(&handoff),
            metrics: Arc::clone(&metrics),
            samples: Arc::new(Samples::default()),
            usm: Arc::new(Usm::unkept(&metrics)),
            refusals: Arc::default(),
        };
        listeners.start(wiring).unwrap();
        let address = listeners.addresses()[0];
        // What the receiver begins with; from here on the queue is empty.
        let mut begun = Vec::new();
        peers::until("the receiver is there", || {
            handoff.take_all(&mut begun, Duration::from_millis(1));
            !begun.is_empty()
        });
        Self { listeners, handoff, metrics, address, _publisher: publisher }
    }

    fn connect(&self) -> TcpStream {
        self.connect_from([127, 0, 0, 1])
    }

    fn connect_from(&self, address: [u8; 4]) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.into()
    }

    /// Waits for so many events and takes them.
    fn take(&self, number: usize) -> Vec<Event> {
        let (mut events, mut batch) = (Vec::new(), Vec::new());
        peers::until("the events come", || {
            self.handoff.take_all(&mut batch, Duration::from_millis(1));
            events.extend(batch.drain(..).filter_map(|handed| match handed {
                Handed::Event(event) => Some(event),
                _ => None,
            }));
            events.len() >= number
        });
        assert_eq!(events.len(), number);
        events
    }

    fn connections(&self) -> u64 {
        self.listeners.status()[0].connections.unwrap()
    }

    fn refused(&self, reason: &str) -> u64 {
        let listener = "tcp://127.0.0.1:0";
        self.metrics.connections_refused.with_label_values(&[listener, reason]).get()
    }
}

fn is_closed(mut stream: TcpStream) -> bool {
    stream.read(&mut [0; 10]).is_ok_and(|length| length == 0)
}

#[test]
fn a_connection_counts_until_its_informs_are_answered() {
    let listener = Listener { max_connections: 3, max_connections_per_peer: Some(3), ..Listener::default() };
    let bed = Bed::new(listener, 1 << 20);
    let mut stays = bed.connect();
    for number in 1..=2 {
        let mut leaves = bed.connect();
        leaves.write_all(&trap::inform(number, "public")).unwrap();
    }
    let waiting = bed.take(2);
    // What closed before this was sent is seen with it, or before it.
    for number in 3..=4 {
        stays.write_all(&trap::link_down(number, "public")).unwrap();
        bed.take(1);
    }
    assert!(is_closed(bed.connect()), "there are three, though two have no peer any more");
    assert_eq!((bed.connections(), bed.refused("max_connections")), (3, 1));
    for event in waiting {
        event.answer.unwrap().send();
    }
    peers::until("they are gone", || bed.connections() == 1);
    let mut again = bed.connect();
    again.write_all(&trap::link_down(5, "public")).unwrap();
    bed.take(1);
}

#[test]
fn who_has_closed_its_side_is_answered_all_the_same() {
    let bed = Bed::new(Listener::default(), 1 << 20);
    let mut stream = bed.connect();
    let inform = trap::inform(1, "public");
    stream.write_all(&inform).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let event = bed.take(1).remove(0);
    event.answer.unwrap().send();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), inform.len());
    peers::until("it is gone", || bed.connections() == 0);
}

#[test]
fn no_peer_takes_all_connections() {
    let bed = Bed::new(Listener { max_connections: 8, ..Listener::default() }, 1 << 20);
    let _held = [bed.connect(), bed.connect()];
    peers::until("both are there", || bed.connections() == 2);
    assert!(is_closed(bed.connect()), "a quarter is two");
    assert_eq!(bed.refused("max_connections_per_peer"), 1);
    let mut other = bed.connect_from([127, 0, 0, 2]);
    other.write_all(&trap::link_down(1, "public")).unwrap();
    bed.take(1);
    drop(other);
    peers::until("it is gone", || bed.connections() == 2);
    // Its share is free again.
    let _others = [bed.connect_from([127, 0, 0, 2]), bed.connect_from([127, 0, 0, 2])];
    peers::until("they are there", || bed.connections() == 4);
    assert_eq!(bed.refused("max_connections_per_peer"), 1);
}

#[test]
fn a_full_queue_holds_up_nobody_but_what_has_come() {
    const IDLE: Duration = Duration::from_millis(500);
    // Room for one event, past which nothing fits.
    let bed = Bed::new(Listener { idle_timeout: IDLE, ..Listener::default() }, 1);
    let (mut first, mut begun) = (bed.connect(), bed.connect());
    let message = trap::link_down(4, "public");
    begun.write_all(&message[..20]).unwrap();
    first.write_all(&[trap::link_down(1, "public"), trap::link_down(2, "public")].concat()).unwrap();
    peers::until("the first fills the queue", || bed.connections() == 2 && bed.handoff.octets() > 0);
    // Others are still let in.
    let mut second = bed.connect();
    second.write_all(&trap::link_down(3, "public")).unwrap();
    peers::until("it is let in", || bed.connections() == 3);
    // Twice the time after which an idle one is closed; but it is the collector that does not read.
    thread::sleep(2 * IDLE);
    begun.write_all(&message[20..]).unwrap();
    let mut seen: Vec<Vec<u8>> = bed.take(4).into_iter().map(|event| event.datagram.to_vec()).collect();
    seen.sort();
    let mut sent: Vec<Vec<u8>> = (1..=4).map(|number| trap::link_down(number, "public")).collect();
    sent.sort();
    assert_eq!(seen, sent);
    assert_eq!(bed.metrics.traps_dropped.with_label_values(&["truncated"]).get(), 0);
}

#[test]
fn a_stop_waits_for_room_for_what_has_come() {
    let bed = Bed::new(Listener::default(), 1);
    let mut stream = bed.connect();
    let many: Vec<u8> = (1..=50).flat_map(|number| trap::link_down(number, "public")).collect();
    stream.write_all(&many).unwrap();
    peers::until("the first fills the queue", || bed.handoff.octets() > 0);
    let listeners = Arc::clone(&bed.listeners);
    let stopping = thread::spawn(move || listeners.stop());
    bed.take(50);
    stopping.join().unwrap();
    assert_eq!(bed.metrics.traps_processed.get(), 50);
    assert_eq!(bed.metrics.traps_dropped.with_label_values(&["handoff_full"]).get(), 0);
}
