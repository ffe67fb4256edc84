//! Notifications over TCP (RFC 3430): one thread a listener, which reads all its connections.
//!
//! Bounded in everything: connections, a message's size, the time without a whole message. Unlike a datagram, what
//! finds no room in the handoff waits: the thread reads no further, and TCP slows its senders down.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::IntCounter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::intake::{Counters, Intake};
use super::listeners::{TICK, Wiring};
use super::process::Datagram;
use super::receiver::DRAIN;
use super::reply::WayBack;
use super::samples::Samples;
use crate::config::settings::Endpoint;
use crate::event::{Generation, Handed, Queue, Timestamp};
use crate::metrics::DropReason;
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

    /// Sends what waits, as far as the socket takes it. False if the connection is broken.
    fn flush(&self) -> bool {
        let mut unsent = self.unsent.lock();
        match (&self.socket).write(&unsent) {
            Ok(written) => {
                unsent.drain(..written);
                true
            }
            Err(error) => is_idle(&error),
        }
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.lock().is_empty()
    }
}

/// A connection as its reader has it.
struct Connection {
    stream: Arc<Stream>,
    peer: SocketAddr,
    /// The beginning of a message.
    buffer: Vec<u8>,
    /// When the last message was whole, or the connection was made.
    last: Instant,
    /// When the message in the buffer began.
    began: Instant,
    open: bool,
}

/// What one listener's thread owns.
pub(super) struct TcpReceiver {
    number: u32,
    endpoint: Endpoint,
    listener: TcpListener,
    snapshot: SnapshotReader,
    handoff: Arc<Queue<Handed>>,
    samples: Arc<Samples>,
    intake: Intake,
    stop: Arc<AtomicBool>,
    connections: Vec<Connection>,
    /// The same number for the status.
    number_of_connections: Arc<AtomicUsize>,
    refused: IntCounter,
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
            intake: Intake::new(
                Counters::new(&wiring.metrics),
                Arc::clone(&wiring.usm),
                Arc::clone(&wiring.refusals),
            ),
            stop,
            connections: Vec::new(),
            number_of_connections,
            refused: wiring.metrics.connections_refused.with_label_values(&[&endpoint.to_string()]),
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
                // Not for as long as somebody goes on sending.
                let end_by = Instant::now() + DRAIN;
                while Instant::now() < end_by && self.read_all(&snapshot, place, &mut chunk) {}
                break;
            }
            let (new, ready) = self.wait();
            if new {
                self.accept(&snapshot, place);
            }
            if ready {
                self.read_all(&snapshot, place, &mut chunk);
            } else {
                self.intake.idle(Instant::now());
            }
            self.close_idle(&snapshot, place);
        }
        let cut = self.connections.iter().filter(|connection| !connection.buffer.is_empty()).count();
        self.intake.counters.unread(DropReason::Stopped, cut as u64);
        self.number_of_connections.store(0, Ordering::Relaxed);
        let _ = self.handoff.push_control(Handed::Left { receiver: self.number });
    }

    /// Waits a tick for a new connection or something to read; sends what could not be sent before.
    fn wait(&mut self) -> (bool, bool) {
        let mut places = Vec::with_capacity(self.connections.len() + 1);
        places.push(PollFd::new(&self.listener, PollFlags::IN));
        places.extend(self.connections.iter().map(|connection| {
            let writes = if connection.stream.has_unsent() { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::new(&connection.stream.socket, PollFlags::IN | writes)
        }));
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as _ };
        if poll(&mut places, Some(&tick)).is_err() {
            // A signal, or memory: the next call tells whether it lasts.
            thread::sleep(Duration::from_millis(1));
            return (false, false);
        }
        let new = !places[0].revents().is_empty();
        let told: Vec<PollFlags> = places[1..].iter().map(PollFd::revents).collect();
        for (connection, told) in self.connections.iter_mut().zip(&told) {
            if told.contains(PollFlags::OUT) && !connection.stream.flush() {
                connection.open = false;
            }
        }
        (new, told.iter().any(|told| !told.difference(PollFlags::OUT).is_empty()))
    }

    fn accept(&mut self, snapshot: &Snapshot, place: usize) {
        let most = snapshot.settings().listeners.get(place).map_or(0, |own| own.max_connections) as usize;
        for _ in 0..ACCEPT {
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    let wanted = snapshot.allows(place, peer.ip()) && self.connections.len() < most;
                    if !wanted || socket.set_nonblocking(true).is_err() {
                        // It is closed at once: its sender knows.
                        self.refused.inc();
                        continue;
                    }
                    // A Response is not held back for company; a peer that is gone is found out.
                    let _ = socket.set_nodelay(true);
                    let _ = SockRef::from(&socket).set_keepalive(true);
                    let now = Instant::now();
                    self.connections.push(Connection {
                        stream: Arc::new(Stream { socket, unsent: Mutex::default() }),
                        peer,
                        buffer: Vec::new(),
                        last: now,
                        began: now,
                        open: true,
                    });
                }
                Err(error) if is_idle(&error) => break,
                Err(error) => {
                    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted) {
                        tracing::warn!(component = "listener", listener = %self.endpoint, %error, "A connection cannot be accepted");
                        thread::sleep(Duration::from_millis(10));
                    }
                    break;
                }
            }
        }
        self.tell_number();
    }

    /// Reads each connection once. Says whether anything came.
    fn read_all(&mut self, snapshot: &Snapshot, place: usize, chunk: &mut [u8]) -> bool {
        let started = Instant::now();
        let received = Timestamp::now();
        let mut messages = 0u32;
        let mut came = false;
        for connection in &mut self.connections {
            match (&connection.stream.socket).read(chunk) {
                Ok(0) => connection.open = false,
                Ok(length) => {
                    came = true;
                    if connection.buffer.is_empty() {
                        connection.began = started;
                    }
                    connection.buffer.extend_from_slice(&chunk[..length]);
                }
                Err(error) if is_idle(&error) => continue,
                Err(_) => connection.open = false,
            }
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
        }
        // A sender that is slowed down loses nothing.
        while !self.intake.offer(&self.handoff) && !self.stop.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        self.intake.finish();
        if messages > 0 {
            let mean = started.elapsed().as_secs_f64() / f64::from(messages);
            self.intake.counters.metrics.trap_processing_duration.observe(mean);
        }
        came
    }

    fn close_idle(&mut self, snapshot: &Snapshot, place: usize) {
        let Some(own) = snapshot.settings().listeners.get(place) else { return };
        let now = Instant::now();
        let mut cut = 0;
        self.connections.retain_mut(|connection| {
            let begun = !connection.buffer.is_empty();
            let late =
                begun && now.saturating_duration_since(connection.began) > WHOLE_WITHIN.min(own.idle_timeout);
            let idle = now.saturating_duration_since(connection.last) > own.idle_timeout;
            let keep = connection.open && !late && !idle;
            cut += u64::from(!keep && begun);
            keep
        });
        self.intake.counters.unread(DropReason::Truncated, cut);
        self.tell_number();
    }

    fn tell_number(&self) {
        self.number_of_connections.store(self.connections.len(), Ordering::Relaxed);
    }
}

impl Drop for TcpReceiver {
    fn drop(&mut self) {
        for connection in mem::take(&mut self.connections) {
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
            assert!(stream.flush());
        }
        assert_eq!(read, taken * message.len());
        assert!(!stream.has_unsent());
    }
}
