//! The listeners: sockets and their receiver threads, which outlive generations. The component `listener`.
//!
//! A new address is bound in *prepare* (a group of its own: never a socket in a group that lives, which
//! would take datagrams that an abort loses) and its threads wait at a gate; *commit* opens the gate. An
//! address that left the settings gets a filter that lets nothing more in; its receivers take what had
//! arrived under the generation that still had the address, and end.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::batch;
use super::hold::{self, Held};
use super::inherited::Inherited;
use super::intake::Counters;
use super::receiver::Receiver;
use super::refused::Refusals;
use super::samples::Samples;
use super::tcp::{self, TcpReceiver};
use super::usm::Usm;
use crate::config::settings::{Endpoint, Listener, Transport};
use crate::event::{Handed, Queue};
use crate::metrics::Metrics;
use crate::snapshot::{
    ComponentReloader, PrepareError, Prepared, ReloadCounter, ReloadStats, Snapshot, SnapshotHandle,
};

/// How long an idle receiver waits before it looks at the Snapshot and at whether to stop.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// What receivers work with.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// Where they read the current Snapshot.
    pub snapshot: SnapshotHandle,
    /// Where events go.
    pub handoff: Arc<Queue<Handed>>,
    /// What they count on.
    pub metrics: Arc<Metrics>,
    /// Where they leave samples for the rehearsal.
    pub samples: Arc<Samples>,
    /// The own SNMPv3 engine, and the table of the others.
    pub usm: Arc<Usm>,
    /// Where they leave a sample of what they refuse.
    pub refusals: Arc<Refusals>,
}

/// All listeners of the program.
#[derive(Debug)]
pub struct Listeners {
    groups: Mutex<Vec<Group>>,
    wiring: OnceLock<Wiring>,
    inherited: Inherited,
    next_receiver: AtomicU32,
    /// What the kernel has dropped in this program's life, as far as it was counted, on sockets of every listener that
    /// there was. It never falls, whatever comes and goes.
    dropped: AtomicU64,
    reloads: ReloadCounter,
}

/// One address: its sockets and threads.
#[derive(Debug)]
struct Group {
    /// As the settings have it; what finds it again.
    address: Endpoint,
    /// As the system gave it: a port 0 has its number.
    local: Endpoint,
    /// Where its threads run, one after the other.
    cores: Arc<[u16]>,
    /// Of UDP.
    sockets: Vec<Socket>,
    /// Of TCP.
    entrance: Option<Entrance>,
    threads: Vec<JoinHandle<()>>,
    /// For each socket whose thread holds what comes in, the way to make a receiver of it.
    holding: Vec<SyncSender<Receiver>>,
    stop: Arc<AtomicBool>,
}

/// A listening socket of TCP.
#[derive(Debug)]
struct Entrance {
    /// Until its thread has it.
    listener: Option<TcpListener>,
    receiver: u32,
    connections: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Socket {
    socket: Arc<UdpSocket>,
    receiver: u32,
    inherited: bool,
    /// The kernel's drop counter as it was last read.
    drops: Mutex<u32>,
}

/// One listener at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its address, as the system gave it.
    pub address: Endpoint,
    /// UDP: the receive buffer that the kernel granted to each socket, in octets; less than asked for where
    /// net.core.rmem_max is smaller and the program may not pass it.
    pub receive_buffer: Option<u64>,
    /// UDP: what the kernel has dropped on its sockets since they were opened.
    pub kernel_drops: Option<u64>,
    /// TCP: how many connections there are.
    pub connections: Option<u64>,
}

/// Why an address could not be opened.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: Endpoint,
    /// The system's reason.
    pub error: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)?;
        match self.error.kind() {
            io::ErrorKind::PermissionDenied => {
                f.write_str(" (a port below 1024 needs CAP_NET_BIND_SERVICE, or take 1162)")
            }
            io::ErrorKind::AddrInUse => f.write_str(" (is snmptrapd or another Nereus running there?)"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for BindError {}

impl Listeners {
    /// Opens every listener with its number of receivers; datagrams wait in the kernel until
    /// [`Listeners::start`].
    ///
    /// # Errors
    /// The first address that cannot be had; the others are closed again.
    pub fn bind(listeners: &[Listener]) -> Result<Self, BindError> {
        Self::bind_with(listeners, Inherited::default())
    }

    /// As [`Listeners::bind`], but what is bound already is taken from `inherited`.
    ///
    /// # Errors
    /// As [`Listeners::bind`].
    pub fn bind_with(listeners: &[Listener], inherited: Inherited) -> Result<Self, BindError> {
        let new = Self {
            inherited,
            groups: Mutex::default(),
            wiring: OnceLock::new(),
            next_receiver: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
            reloads: ReloadCounter::default(),
        };
        let groups = listeners.iter().map(|listener| new.open(listener)).collect::<Result<_, _>>()?;
        *new.groups.lock() = groups;
        for address in new.inherited.rest() {
            tracing::warn!(
                component = "listener",
                address,
                "A socket was passed to this program whose address is in no listener: nobody reads it"
            );
        }
        Ok(new)
    }

    /// Starts a thread for each socket that holds what comes in, 64 MiB over all of them, until
    /// [`Listeners::start`]. What there is no room for is counted as `hold_full`.
    ///
    /// # Errors
    /// When the system refuses a thread; [`Listeners::stop`] ends those that started.
    pub fn hold(&self, metrics: &Arc<Metrics>) -> io::Result<()> {
        let octets = Arc::default();
        self.groups.lock().iter_mut().try_for_each(|group| group.hold(metrics, &octets))
    }

    /// Lets a thread for each socket decide on what comes in; first on what was held.
    ///
    /// # Errors
    /// When the system refuses a thread; [`Listeners::stop`] ends those that started.
    pub fn start(&self, wiring: Wiring) -> io::Result<()> {
        let wiring = self.wiring.get_or_init(|| wiring);
        let mut gates = Vec::new();
        for group in &mut *self.groups.lock() {
            group.spawn(wiring, &mut gates)?;
        }
        open_all(gates);
        Ok(())
    }

    fn open(&self, listener: &Listener) -> Result<Group, BindError> {
        match listener.address.transport {
            Transport::Udp => self.open_udp(listener),
            Transport::Tcp => self.open_tcp(listener),
        }
    }

    fn open_tcp(&self, listener: &Listener) -> Result<Group, BindError> {
        let failed = |error| BindError { address: listener.address, error };
        let entrance = match self.inherited.take_those(listener.address).pop() {
            Some(socket) => tcp::adopt(socket),
            None => tcp::bind(listener.address.address),
        };
        let entrance = entrance.map_err(failed)?;
        let local = entrance.local_addr().map_err(failed)?;
        Ok(Group {
            address: listener.address,
            local: Endpoint { transport: Transport::Tcp, address: local },
            cores: Arc::clone(&listener.cores),
            sockets: Vec::new(),
            entrance: Some(Entrance {
                listener: Some(entrance),
                receiver: self.next_receiver.fetch_add(1, Ordering::Relaxed),
                connections: Arc::default(),
            }),
            threads: Vec::new(),
            holding: Vec::new(),
            stop: Arc::default(),
        })
    }

    fn open_udp(&self, listener: &Listener) -> Result<Group, BindError> {
        let mut address = listener.address.address;
        let failed = |error| BindError { address: listener.address, error };
        let mut sockets = Vec::new();
        for inherited in self.inherited.take_those(listener.address) {
            let socket = batch::adopt(inherited, address, listener.receive_buffer, TICK).map_err(failed)?;
            sockets.push(self.socket(socket, true));
        }
        if sockets.is_empty() {
            self.bind_udp(listener, &mut address, &mut sockets).map_err(failed)?;
        } else if let Some(wanted) = listener.receivers
            && usize::from(wanted) != sockets.len()
        {
            tracing::warn!(
                component = "listener", listener = %listener.address, receivers = sockets.len(), wanted,
                "There is a receiver for each socket that was passed to this program"
            );
        }
        if sockets.len() > 1
            && let Err(error) = batch::steer_by_source(&sockets[0].socket, address, sockets.len())
        {
            tracing::warn!(
                component = "listener", listener = %listener.address, error = %error,
                "Receivers cannot be steered by source address: what a device sends from several ports may be decided in another order"
            );
        }
        tell_buffer(listener, &sockets);
        Ok(Group {
            address: listener.address,
            local: Endpoint::udp(address),
            cores: Arc::clone(&listener.cores),
            sockets,
            entrance: None,
            threads: Vec::new(),
            holding: Vec::new(),
            stop: Arc::default(),
        })
    }

    /// The sockets of an address that nobody has bound yet; a port 0 gets its number.
    fn bind_udp(
        &self,
        listener: &Listener,
        address: &mut SocketAddr,
        sockets: &mut Vec<Socket>,
    ) -> io::Result<()> {
        // SO_REUSEPORT would let a second Nereus of the same user share the address in silence, and
        // each would get half of the traps.
        batch::refuse_taken(*address)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..listener.receivers.map_or(cores, usize::from).max(1) {
            let socket = batch::bind(*address, listener.receive_buffer, TICK)?;
            // With port 0 the first socket chooses, and the others join its group.
            *address = socket.local_addr()?;
            sockets.push(self.socket(socket, false));
        }
        Ok(())
    }

    fn socket(&self, socket: UdpSocket, inherited: bool) -> Socket {
        let receiver = self.next_receiver.fetch_add(1, Ordering::Relaxed);
        Socket { socket: Arc::new(socket), receiver, inherited, drops: Mutex::new(0) }
    }

    /// The addresses that are listened on, as the system gave them (a port 0 has its number).
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoints().into_iter().map(|endpoint| endpoint.address).collect()
    }

    /// The same, with their transports.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.groups.lock().iter().map(|group| group.local).collect()
    }

    /// The numbers of the receivers that run.
    #[must_use]
    pub fn receivers(&self) -> Vec<u32> {
        let groups = self.groups.lock();
        let udp = groups.iter().flat_map(|group| &group.sockets).map(|socket| socket.receiver);
        udp.chain(groups.iter().filter_map(|group| Some(group.entrance.as_ref()?.receiver))).collect()
    }

    /// Adds what the kernel dropped since the last call to the metrics, and returns what it has dropped altogether,
    /// also on addresses that are listened on no longer. Cheap: a system call a socket.
    pub fn count_kernel_drops(&self, metrics: &Metrics) -> u64 {
        for group in &*self.groups.lock() {
            let listener = group.local.to_string();
            if let Some(entrance) = &group.entrance {
                let gauge = metrics.connections.with_label_values(&[&listener]);
                gauge.set(entrance.connections.load(Ordering::Relaxed) as i64);
                continue;
            }
            self.dropped.fetch_add(group.count_kernel_drops(metrics), Ordering::Relaxed);
            let buffer = metrics.receive_buffer_bytes.with_label_values(&[&listener]);
            buffer.set(granted(&group.sockets).and_then(|octets| i64::try_from(octets).ok()).unwrap_or(0));
        }
        self.dropped.load(Ordering::Relaxed)
    }

    /// What each listener is like at the moment. A system call or two a socket.
    #[must_use]
    pub fn status(&self) -> Vec<ListenerStatus> {
        let status = |group: &Group| ListenerStatus {
            address: group.local,
            receive_buffer: granted(&group.sockets),
            kernel_drops: group.entrance.is_none().then(|| {
                let drops =
                    group.sockets.iter().filter_map(|socket| batch::kernel_drops(&socket.socket).ok());
                drops.map(u64::from).sum()
            }),
            connections: group.entrance.as_ref().map(|own| own.connections.load(Ordering::Relaxed) as u64),
        };
        self.groups.lock().iter().map(status).collect()
    }

    /// Lets nothing more in, lets each receiver take what its socket still holds, and waits for all.
    pub fn stop(&self) {
        let mut groups = std::mem::take(&mut *self.groups.lock());
        for group in &groups {
            group.close_entrance(true);
            group.stop.store(true, Ordering::Release);
        }
        groups.iter_mut().for_each(Group::join);
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Group {
    /// Starts threads that hold what comes in.
    fn hold(&mut self, metrics: &Arc<Metrics>, octets: &Arc<AtomicUsize>) -> io::Result<()> {
        for (at, socket) in self.sockets.iter().enumerate() {
            let pin = self.pin(at);
            let (next, opened) = sync_channel::<Receiver>(1);
            let mut held = Held::new(Arc::clone(octets), hold::LIMIT);
            let counters = Counters::new(metrics);
            let (udp, stop) = (Arc::clone(&socket.socket), Arc::clone(&self.stop));
            let thread = thread::Builder::new()
                .name(format!("receiver-{}", socket.receiver))
                .stack_size(512 << 10)
                .spawn(move || {
                    pin();
                    if let Some(receiver) = held.fill(&udp, &counters, &opened, &stop) {
                        receiver.run(held);
                    }
                })?;
            self.threads.push(thread);
            self.holding.push(next);
        }
        Ok(())
    }

    /// What the thread of the socket at this place begins with: it goes where the settings want it.
    fn pin(&self, at: usize) -> impl FnOnce() + Send + 'static {
        let core = self.cores.get(at % self.cores.len().max(1)).copied();
        let listener = self.address;
        move || {
            let Some(core) = core else { return };
            let mut cores = rustix::thread::CpuSet::new();
            cores.set(usize::from(core));
            if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
                tracing::warn!(component = "listener", %listener, core, %error, "A receiver cannot be pinned to its processor");
            }
        }
    }

    fn receiver(&self, socket: &Socket, wiring: &Wiring) -> Receiver {
        Receiver {
            number: socket.receiver,
            listener: self.address,
            socket: Arc::clone(&socket.socket),
            snapshot: wiring.snapshot.reader(),
            handoff: Arc::clone(&wiring.handoff),
            samples: Arc::clone(&wiring.samples),
            usm: Arc::clone(&wiring.usm),
            refusals: Arc::clone(&wiring.refusals),
            counters: Counters::new(&wiring.metrics),
            stop: Arc::clone(&self.stop),
            inherited: socket.inherited,
        }
    }

    /// Starts its threads behind gates; those that hold what comes in go on with it.
    fn spawn(&mut self, wiring: &Wiring, gates: &mut Vec<SyncSender<()>>) -> io::Result<()> {
        if !self.holding.is_empty() {
            for (socket, next) in self.sockets.iter().zip(std::mem::take(&mut self.holding)) {
                // The thread waits on the other side: this cannot block, and fails only if it has ended.
                let _ = next.send(self.receiver(socket, wiring));
            }
            return Ok(());
        }
        for (at, socket) in self.sockets.iter().enumerate() {
            let (pin, receiver) = (self.pin(at), self.receiver(socket, wiring));
            let work = move || {
                pin();
                receiver.run(Held::none());
            };
            self.threads.push(behind_gate(socket.receiver, gates, work)?);
        }
        let pin = self.pin(0);
        if let Some(entrance) = &mut self.entrance
            && let Some(listener) = entrance.listener.take()
        {
            let stop = Arc::clone(&self.stop);
            let connections = Arc::clone(&entrance.connections);
            let receiver =
                TcpReceiver::new(entrance.receiver, self.address, listener, wiring, stop, connections);
            let work = move || {
                pin();
                receiver.run();
            };
            self.threads.push(behind_gate(entrance.receiver, gates, work)?);
        }
        Ok(())
    }

    /// Adds what the kernel dropped since the last call to the metrics, and returns it.
    fn count_kernel_drops(&self, metrics: &Metrics) -> u64 {
        let counter = metrics.kernel_drops.with_label_values(&[&self.local.to_string()]);
        let mut more = 0;
        for socket in &self.sockets {
            let mut last = socket.drops.lock();
            if let Ok(now) = batch::kernel_drops(&socket.socket) {
                more += u64::from(now.wrapping_sub(*last));
                *last = now;
            }
        }
        counter.inc_by(more);
        more
    }

    /// From here on the sockets only hold what had arrived, so that their receivers find an end.
    /// At a stop a socket that another program keeps open goes on taking what comes, for the next run.
    fn close_entrance(&self, stop: bool) {
        for socket in self.sockets.iter().filter(|socket| !(stop && socket.inherited)) {
            // Without the filter the receivers end all the same, once a bounded drain is over.
            if let Err(error) = batch::let_nothing_in(&socket.socket) {
                tracing::warn!(component = "listener", listener = %self.local, error = %error, "An address that ends cannot be filtered");
            }
        }
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(component = "listener", listener = %self.local, "A receiver thread has panicked");
            }
        }
    }
}

/// A receiver's thread, which begins once its gate is opened; a gate that is dropped unopened ends it: the reload was
/// rejected.
fn behind_gate(
    number: u32,
    gates: &mut Vec<SyncSender<()>>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (gate, opened) = sync_channel(1);
    let thread = thread::Builder::new()
        .name(format!("receiver-{number}"))
        .stack_size(512 << 10)
        .spawn(move || opened.recv().map_or((), |()| work()))?;
    gates.push(gate);
    Ok(thread)
}

fn open_all(gates: Vec<SyncSender<()>>) {
    for gate in gates {
        // The thread waits on the other side: this cannot block, and fails only if it has ended.
        let _ = gate.send(());
    }
}

/// The smallest receive buffer that the kernel granted.
fn granted(sockets: &[Socket]) -> Option<u64> {
    sockets.iter().filter_map(|socket| batch::receive_buffer(&socket.socket).ok()).min()
}

fn tell_buffer(listener: &Listener, sockets: &[Socket]) {
    if let Some(granted) = granted(sockets)
        && granted < listener.receive_buffer
    {
        tracing::warn!(
            component = "listener", listener = %listener.address, asked = listener.receive_buffer, granted,
            "The receive buffer is smaller than asked for; raise net.core.rmem_max"
        );
    }
}

/// What a reload has made ready: bound addresses whose threads wait.
struct PreparedListeners {
    listeners: Arc<Listeners>,
    added: Vec<Group>,
    gates: Vec<SyncSender<()>>,
    removed: Vec<Endpoint>,
    resized: Vec<Listener>,
    version: u64,
}

impl ComponentReloader for Arc<Listeners> {
    fn prepare(&self, old: &Snapshot, new: &Snapshot) -> Result<Option<Box<dyn Prepared>>, PrepareError> {
        let (old, settings) = (&old.settings().listeners, &new.settings().listeners);
        if Arc::ptr_eq(old, settings) {
            return Ok(None);
        }
        let known = |address: Endpoint| old.iter().find(|listener| listener.address == address);
        let mut added = Vec::new();
        let mut gates = Vec::new();
        for listener in settings.iter().filter(|listener| known(listener.address).is_none()) {
            let mut group = self.open(listener).map_err(|error| PrepareError {
                message: error.to_string(),
                transient: error.error.kind() == io::ErrorKind::AddrInUse,
            })?;
            if let Some(wiring) = self.wiring.get() {
                group.spawn(wiring, &mut gates).map_err(|error| PrepareError::lasting(error.to_string()))?;
            }
            added.push(group);
        }
        let removed = old
            .iter()
            .map(|listener| listener.address)
            .filter(|address| settings.iter().all(|listener| listener.address != *address))
            .collect();
        let resized = settings
            .iter()
            .filter(|new| known(new.address).is_some_and(|old| old.receive_buffer != new.receive_buffer))
            .cloned()
            .collect();
        let version = new.generation().0;
        Ok(Some(Box::new(PreparedListeners {
            listeners: Self::clone(self),
            added,
            gates,
            removed,
            resized,
            version,
        })))
    }

    fn reload_stats(&self) -> ReloadStats {
        self.reloads.stats()
    }
}

impl Prepared for PreparedListeners {
    fn commit(self: Box<Self>) {
        let mut groups = self.listeners.groups.lock();
        open_all(self.gates);
        for group in groups.extract_if(.., |group| self.removed.contains(&group.address)) {
            if let Some(wiring) = self.listeners.wiring.get() {
                // Now or never; and before the filter, since the kernel counts what that refuses too.
                let more = group.count_kernel_drops(&wiring.metrics);
                self.listeners.dropped.fetch_add(more, Ordering::Relaxed);
                let local = group.local.to_string();
                let _ = wiring.metrics.receive_buffer_bytes.remove_label_values(&[&local]);
                let _ = wiring.metrics.connections.remove_label_values(&[&local]);
            }
            group.close_entrance(false);
            // The threads end by themselves and close the sockets: nobody waits for them here.
            drop(group);
        }
        groups.extend(self.added);
        for listener in &self.resized {
            for group in groups.iter().filter(|group| group.address == listener.address) {
                for socket in &group.sockets {
                    let _ = batch::set_receive_buffer(&socket.socket, listener.receive_buffer);
                }
                tell_buffer(listener, &group.sockets);
            }
        }
        self.listeners.reloads.record(self.version);
    }
}
