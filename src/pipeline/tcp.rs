//! Notifications over TCP (RFC 3430): one thread a listener, which reads all its connections.
//!
//! Bounded in everything: connections, also of one peer; a message's size; the time without a whole message. Unlike a
//! datagram, what finds no room in the handoff waits: the thread reads no further, and TCP slows its senders down.
//! Meanwhile connections are still taken and Responses sent, and nobody's time runs out.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::intake::{Counters, Intake};
use super::listeners::{TICK, Wiring};
use super::process::Datagram;
use super::receiver::DRAIN;
use super::reply::WayBack;
use super::samples::Samples;
use super::seldom::Seldom;
use crate::config::settings::Endpoint;
use crate::event::{Generation, Handed, Queue, Timestamp};
use crate::metrics::{ConnectionRefusal, DropReason, Metrics};
use crate::snapshot::{Snapshot, SnapshotReader};
use crate::wire::MAX_MESSAGE_SIZE;

/// What is read of one connection at a time, so that none keeps the others waiting.
const READ: usize = 64 << 10;
/// What may wait for a peer that does not read its Responses, for each connection.
const UNSENT: usize = 64 << 10;
/// How many new connections are taken between two looks at the others.
const ACCEPT: usize = 64;
/// A message that has begun is whole within this time, or its connection ends.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);
/// Buffers up to so much are kept by a connection with nothing to read.
const KEEP: usize = 4 << 10;
/// How soon a full handoff is asked again for room.
const ROOM: Duration = Duration::from_millis(1);
/// How long nobody is let in after the system refused a connection: it waits in the backlog.
const REFUSED_BY_SYSTEM: Duration = Duration::from_millis(100);

/// Opens a listening socket. An IPv6 one takes IPv6 alone.
///
/// # Errors
/// The system's.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that are still closing do not keep the address.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Makes one of our listening sockets of one that was bound by another program.
///
/// # Errors
/// The system's.
pub(super) fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The writing half of a connection: Responses leave it from the writer's thread.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    unsent: Mutex<Vec<u8>>,
}

impl Stream {
    /// Sends one message, or keeps what the socket does not take yet. Never waits.
    ///
    /// # Errors
    /// The system's; `WouldBlock` if too much waits already: nothing of the message is sent then.
    pub(super) fn send(&self, octets: &[u8]) -> io::Result<()> {
        let mut unsent = self.unsent.lock();
        let mut rest = octets;
        if unsent.is_empty() {
            match (&self.socket).write(octets) {
                Ok(written) => rest = octets.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        } else if unsent.len() + octets.len() > UNSENT {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // What is begun is sent whole: half a message would be taken for the head of the next.
        unsent.extend_from_slice(rest);
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it. If the connection is broken, nothing waits any longer.
    fn flush(&self) {
        let mut unsent = self.unsent.lock();
        match (&self.socket).write(&unsent) {
            Ok(written) => {
                unsent.drain(..written);
            }
            Err(error) if is_idle(&error) => {}
            Err(_) => unsent.clear(),
        }
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.lock().is_empty()
    }
}

/// A connection as its reader has it. It counts as one until the last Response on it is sent, whoever closed it.
struct Connection {
    stream: Arc<Stream>,
    peer: SocketAddr,
    /// The beginning of a message.
    buffer: Vec<u8>,
    /// When the last message was whole, or the connection was made.
    last: Instant,
    /// When the message in the buffer began.
    began: Instant,
    /// There is something to read.
    ready: bool,
    /// It is read from. No longer, once its peer has said all or has had its time.
    open: bool,
}

impl Connection {
    /// Whether a Response is still to come, or to be sent to a peer that is slow to read, within `patience`.
    fn is_awaited(&self, now: Instant, patience: Duration) -> bool {
        // An answer that waits for its commit holds the stream.
        Arc::strong_count(&self.stream) > 1
            || self.stream.has_unsent() && now.saturating_duration_since(self.last) < patience
    }

    /// Whether it has had its time: without a whole message, or in the middle of one.
    fn is_late(&self, now: Instant, idle_timeout: Duration) -> bool {
        let whole_within = WHOLE_WITHIN.min(idle_timeout);
        !self.ready
            && (now.saturating_duration_since(self.last) > idle_timeout
                || !self.buffer.is_empty() && now.saturating_duration_since(self.began) > whole_within)
    }
}

/// The connections of one listener, bounded in number altogether and for each peer.
#[derive(Default)]
struct Connections {
    all: Vec<Connection>,
    peers: HashMap<IpAddr, u32>,
    /// Whose turn it is.
    next: usize,
}

impl Connections {
    /// Why there is no room for one more of this peer.
    fn no_room(&self, peer: IpAddr, most: u32, most_per_peer: u32) -> Option<ConnectionRefusal> {
        if self.all.len() >= most as usize {
            return Some(ConnectionRefusal::MaxConnections);
        }
        let has = self.peers.get(&peer).copied().unwrap_or(0);
        (has >= most_per_peer).then_some(ConnectionRefusal::MaxConnectionsPerPeer)
    }

    fn add(&mut self, socket: TcpStream, peer: SocketAddr) {
        *self.peers.entry(peer.ip()).or_default() += 1;
        let now = Instant::now();
        self.all.push(Connection {
            stream: Arc::new(Stream { socket, unsent: Mutex::default() }),
            peer,
            buffer: Vec::new(),
            last: now,
            began: now,
            ready: false,
            open: true,
        });
    }

    /// The next one with something to read, one after the other.
    fn next_ready(&mut self) -> Option<usize> {
        let number = self.all.len();
        let at = (0..number).map(|step| (self.next + step) % number).find(|&at| self.all[at].ready)?;
        self.next = at + 1;
        Some(at)
    }

    /// Nobody was read from for so long: it is nobody's fault.
    fn excuse(&mut self, waited: Duration) {
        let now = Instant::now();
        for connection in &mut self.all {
            connection.last = (connection.last + waited).min(now);
            connection.began = (connection.began + waited).min(now);
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Connection) -> bool) {
        let peers = &mut self.peers;
        self.all.retain_mut(|connection| {
            let kept = keep(connection);
            if !kept && let Some(number) = peers.get_mut(&connection.peer.ip()) {
                *number -= 1;
                if *number == 0 {
                    peers.remove(&connection.peer.ip());
                }
            }
            kept
        });
    }
}

/// What one listener's thread owns.
pub(super) struct TcpReceiver {
    number: u32,
    endpoint: Endpoint,
    listener: TcpListener,
    snapshot: SnapshotReader,
    handoff: Arc<Queue<Handed>>,
    samples: Arc<Samples>,
    metrics: Arc<Metrics>,
    intake: Intake,
    stop: Arc<AtomicBool>,
    connections: Connections,
    /// The same number for the status.
    number_of_connections: Arc<AtomicUsize>,
    /// Since when the handoff has had no room for what was decided on.
    full_since: Option<Instant>,
    /// Until when nobody is let in.
    shut_until: Option<Instant>,
    complaints: Seldom,
}

impl TcpReceiver {
    pub(super) fn new(
        number: u32,
        endpoint: Endpoint,
        listener: TcpListener,
        wiring: &Wiring,
        stop: Arc<AtomicBool>,
        number_of_connections: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            number,
            endpoint,
            listener,
            snapshot: wiring.snapshot.reader(),
            handoff: Arc::clone(&wiring.handoff),
            samples: Arc::clone(&wiring.samples),
            metrics: Arc::clone(&wiring.metrics),
            intake: Intake::new(
                Counters::new(&wiring.metrics),
                Arc::clone(&wiring.usm),
                Arc::clone(&wiring.refusals),
            ),
            stop,
            connections: Connections::default(),
            number_of_connections,
            full_since: None,
            shut_until: None,
            complaints: Seldom::default(),
        }
    }

    /// Receives until told to stop, or until the settings have the address no longer; then takes what has arrived
    /// on its connections and ends. Who is cut off in the middle of a message sees its connection end.
    pub(super) fn run(mut self) {
        // The generation that this receiver works under: the last that had the address.
        let mut working: Option<(Arc<Snapshot>, usize)> = None;
        let mut newest = Generation(0);
        let mut chunk = vec![0; READ];
        loop {
            let snapshot = self.snapshot.load();
            if snapshot.generation() != newest {
                newest = snapshot.generation();
                if let Some(place) = snapshot.listener(self.endpoint) {
                    working = Some((Arc::clone(snapshot), place));
                    let marker = Handed::Generation { receiver: self.number, generation: newest };
                    let _ = self.handoff.push_control(marker);
                }
            }
            let Some((snapshot, place)) = working.clone() else { break };
            let ending = snapshot.generation() != newest || self.stop.load(Ordering::Acquire);
            if ending {
                self.accept(&snapshot, place);
                self.drain(&snapshot, place, &mut chunk);
                break;
            }
            if self.wait() {
                self.accept(&snapshot, place);
            }
            if self.hand_over() && !self.read_ready(&snapshot, place, &mut chunk) {
                self.intake.idle(Instant::now());
            }
            self.close_late(&snapshot, place);
        }
        // What found no room until the end is dropped, and counted.
        self.intake.finish();
        let cut = self.connections.all.iter().filter(|connection| !connection.buffer.is_empty()).count();
        self.intake.counters.unread(DropReason::Stopped, cut as u64);
        self.number_of_connections.store(0, Ordering::Relaxed);
        let _ = self.handoff.push_control(Handed::Left { receiver: self.number });
    }

    /// Waits a tick for a new connection or something to read; sends what could not be sent before. Says whether
    /// there is somebody to let in. While the handoff is full it waits for shorter, and for nothing to read.
    fn wait(&mut self) -> bool {
        let full = self.full_since.is_some();
        let shut = self.shut_until.is_some_and(|until| Instant::now() < until);
        let mut places = Vec::with_capacity(self.connections.all.len() + 1);
        places.push(PollFd::new(&self.listener, if shut { PollFlags::empty() } else { PollFlags::IN }));
        let mut asked = Vec::with_capacity(self.connections.all.len());
        for (at, connection) in self.connections.all.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, connection.open && !full);
            flags.set(PollFlags::OUT, connection.stream.has_unsent());
            // One that nothing is asked of would still be told broken, again and again.
            if !flags.is_empty() {
                places.push(PollFd::new(&connection.stream.socket, flags));
                asked.push((at, flags));
            }
        }
        let tick = if full { ROOM } else { TICK };
        if poll(&mut places, Some(&Timespec { tv_sec: 0, tv_nsec: tick.as_nanos() as _ })).is_err() {
            // A signal, or memory: the next call tells whether it lasts.
            thread::sleep(Duration::from_millis(1));
            return false;
        }
        let told: Vec<PollFlags> = places.iter().map(PollFd::revents).collect();
        for (&(at, asked), told) in asked.iter().zip(&told[1..]) {
            let connection = &mut self.connections.all[at];
            if asked.contains(PollFlags::OUT) && !told.is_empty() {
                connection.stream.flush();
            }
            connection.ready |= asked.contains(PollFlags::IN) && !told.difference(PollFlags::OUT).is_empty();
        }
        !shut && !told[0].is_empty()
    }

    fn accept(&mut self, snapshot: &Snapshot, place: usize) {
        let Some(own) = snapshot.settings().listeners.get(place) else { return };
        for _ in 0..ACCEPT {
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    let refusal = if snapshot.allows(place, peer.ip()) {
                        self.connections.no_room(peer.ip(), own.max_connections, own.most_of_a_peer())
                    } else {
                        Some(ConnectionRefusal::NotAllowed)
                    };
                    let refusal = refusal
                        .or_else(|| socket.set_nonblocking(true).err().map(|_| ConnectionRefusal::System));
                    if let Some(reason) = refusal {
                        // It is closed at once: its sender knows.
                        self.refuse(reason);
                        continue;
                    }
                    // A Response is not held back for company; a peer that is gone is found out.
                    let _ = socket.set_nodelay(true);
                    let _ = SockRef::from(&socket).set_keepalive(true);
                    self.connections.add(socket, peer);
                }
                Err(error) if is_idle(&error) => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Most likely there is no descriptor left. Those who are in go on.
                    let now = Instant::now();
                    self.shut_until = Some(now + REFUSED_BY_SYSTEM);
                    if let Some(untold) = self.complaints.may_tell(now) {
                        tracing::warn!(component = "listener", listener = %self.endpoint, %error, untold, "A connection cannot be accepted");
                    }
                    break;
                }
            }
        }
        self.tell_number();
    }

    fn refuse(&self, reason: ConnectionRefusal) {
        let listener = self.endpoint.to_string();
        self.metrics.connections_refused.with_label_values(&[&listener, reason.as_str()]).inc();
    }

    /// Hands over what was decided on. False while there is no room: then nothing is read, so that TCP slows the
    /// senders down, who lose nothing by it.
    fn hand_over(&mut self) -> bool {
        if !self.intake.offer(&self.handoff) {
            self.full_since.get_or_insert_with(Instant::now);
            return false;
        }
        self.intake.finish();
        if let Some(since) = self.full_since.take() {
            self.connections.excuse(since.elapsed());
        }
        true
    }

    /// Reads each connection that has something, once, and hands over what came before it looks at the next, for as
    /// long as there is room. The others have their turn first the next time. Says whether anything came.
    fn read_ready(&mut self, snapshot: &Snapshot, place: usize, chunk: &mut [u8]) -> bool {
        let mut came = false;
        while let Some(at) = self.connections.next_ready() {
            came |= self.read(at, snapshot, place, chunk);
            if !self.hand_over() {
                break;
            }
        }
        came
    }

    /// Reads from one connection, once, and decides on what is whole. Says whether anything came.
    fn read(&mut self, at: usize, snapshot: &Snapshot, place: usize, chunk: &mut [u8]) -> bool {
        let connection = &mut self.connections.all[at];
        connection.ready = false;
        let started = Instant::now();
        let received = Timestamp::now();
        match (&connection.stream.socket).read(chunk) {
            Ok(0) => connection.open = false,
            Ok(length) => {
                if connection.buffer.is_empty() {
                    connection.began = started;
                }
                connection.buffer.extend_from_slice(&chunk[..length]);
            }
            Err(error) if is_idle(&error) => return false,
            Err(_) => connection.open = false,
        }
        let came = connection.open;
        let mut messages = 0u32;
        let mut done = 0;
        loop {
            let rest = connection.buffer.get(done..).unwrap_or_default();
            let octets = match frame(rest) {
                Ok(Some(length)) => &rest[..length],
                Ok(None) => break,
                Err(reason) => {
                    // Where the next message begins nobody can tell.
                    self.intake.refuse(reason);
                    connection.open = false;
                    done = connection.buffer.len();
                    break;
                }
            };
            let datagram = Datagram { octets, peer: connection.peer, listener: place, received };
            let way = || WayBack::Stream(Arc::clone(&connection.stream));
            self.intake.take(snapshot, &datagram, started, way);
            if messages == 0 {
                self.samples.offer(octets, connection.peer, self.endpoint);
            }
            messages += 1;
            done += octets.len();
            (connection.last, connection.began) = (started, started);
        }
        connection.buffer.drain(..done);
        if connection.buffer.is_empty() && connection.buffer.capacity() > KEEP {
            connection.buffer = Vec::new();
        }
        if !connection.open && !connection.buffer.is_empty() {
            self.intake.refuse(DropReason::Truncated);
            connection.buffer = Vec::new();
        }
        if messages > 0 {
            let mean = started.elapsed().as_secs_f64() / f64::from(messages);
            self.metrics.trap_processing_duration.observe(mean);
        }
        came
    }

    /// Takes what has arrived, before the end. Not for as long as somebody goes on sending.
    fn drain(&mut self, snapshot: &Snapshot, place: usize, chunk: &mut [u8]) {
        let end_by = Instant::now() + DRAIN;
        while Instant::now() < end_by {
            if !self.hand_over() {
                thread::sleep(ROOM);
                continue;
            }
            for connection in &mut self.connections.all {
                connection.ready = connection.open;
            }
            if !self.read_ready(snapshot, place, chunk) && self.full_since.is_none() {
                break;
            }
        }
    }

    fn close_late(&mut self, snapshot: &Snapshot, place: usize) {
        let Some(own) = snapshot.settings().listeners.get(place) else { return };
        let (now, full) = (Instant::now(), self.full_since.is_some());
        let mut cut = 0;
        self.connections.retain(|connection| {
            if connection.open && !full && connection.is_late(now, own.idle_timeout) {
                connection.open = false;
                cut += u64::from(!connection.buffer.is_empty());
                connection.buffer = Vec::new();
            }
            connection.open || connection.is_awaited(now, own.idle_timeout)
        });
        self.intake.counters.unread(DropReason::Truncated, cut);
        self.tell_number();
    }

    fn tell_number(&self) {
        self.number_of_connections.store(self.connections.all.len(), Ordering::Relaxed);
    }
}

impl Drop for TcpReceiver {
    fn drop(&mut self) {
        for connection in mem::take(&mut self.connections.all) {
            // An answer that still waits for its commit keeps the stream; reading is over either way.
            let _ = connection.stream.socket.shutdown(std::net::Shutdown::Read);
        }
    }
}

/// How long the message is that `octets` begin with (RFC 3430 section 2.1: BER's own length is the frame). `None` if
/// it is not all there.
///
/// # Errors
/// Why no message begins so.
fn frame(octets: &[u8]) -> Result<Option<usize>, DropReason> {
    const SEQUENCE: u8 = 0x30;
    let Some(&tag) = octets.first() else { return Ok(None) };
    if tag != SEQUENCE {
        return Err(DropReason::UnexpectedTag);
    }
    let Some(&first) = octets.get(1) else { return Ok(None) };
    let whole = match first {
        0..=0x7f => 2 + usize::from(first),
        0x81..=0x84 => {
            let header = 2 + usize::from(first & 0x7f);
            let Some(length) = octets.get(2..header) else { return Ok(None) };
            header + length.iter().fold(0usize, |sum, &octet| sum << 8 | usize::from(octet))
        }
        _ => return Err(DropReason::BadLength),
    };
    if whole > MAX_MESSAGE_SIZE {
        return Err(DropReason::MessageTooLong);
    }
    Ok((octets.len() >= whole).then_some(whole))
}

fn is_idle(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_by_their_lengths() {
        assert_eq!(frame(&[]), Ok(None));
        assert_eq!(frame(&[0x30]), Ok(None));
        assert_eq!(frame(&[0x30, 0]), Ok(Some(2)));
        assert_eq!(frame(&[0x30, 2, 5]), Ok(None));
        assert_eq!(frame(&[0x30, 2, 5, 0, 0x30]), Ok(Some(4)));
        assert_eq!(frame(&[0x30, 0x81]), Ok(None));
        assert_eq!(frame(&[0x30, 0x82, 0, 1, 9, 9]), Ok(Some(5)));
        assert_eq!(frame(&[0x30, 0x82, 0xff, 0xfb]), Ok(None));
        assert_eq!(frame(&[0x30, 0x82, 0xff, 0xfc]), Err(DropReason::MessageTooLong));
        assert_eq!(frame(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), Err(DropReason::MessageTooLong));
        assert_eq!(frame(&[0x30, 0x80]), Err(DropReason::BadLength));
        assert_eq!(frame(&[0x30, 0x85]), Err(DropReason::BadLength));
        assert_eq!(frame(b"GET / HTTP/1.1"), Err(DropReason::UnexpectedTag));
    }

    #[test]
    fn a_peer_that_does_not_read_holds_so_much_and_gets_whole_messages() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = Stream { socket, unsent: Mutex::default() };
        let message = [7; 5_000];
        let mut taken = 0;
        while stream.send(&message).is_ok() {
            taken += 1;
            assert!(taken < 100_000);
        }
        assert!(stream.unsent.lock().len() <= UNSENT + message.len());
        let mut read = 0;
        let mut buffer = vec![0; 1 << 20];
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        while read < taken * message.len() {
            read += peer.read(&mut buffer).unwrap();
            stream.flush();
        }
        assert_eq!(read, taken * message.len());
        assert!(!stream.has_unsent());
    }
}
