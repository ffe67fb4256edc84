//! The hot path: sockets, receiver threads, and the pure processing of one datagram.
//!
//! [`Sockets::bind`] opens every address before anything else is read; [`Sockets::start`] lets one thread a socket
//! run `process` on what comes in. Sockets and threads outlive generations.

mod batch;
mod process;
mod receiver;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

pub use process::{Datagram, Scratch, process};

use crate::config::settings::Listener;
use crate::event::{Handed, Queue};
use crate::metrics::Metrics;
use crate::snapshot::SnapshotHandle;
use receiver::{Counters, Receiver};

/// How long an idle receiver waits before it looks at the Snapshot and at whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// The open sockets, and how to count what the kernel dropped on them.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<Opened>,
}

#[derive(Debug)]
struct Opened {
    listener: SocketAddr,
    local: SocketAddr,
    socket: Arc<UdpSocket>,
    /// The kernel's counter as it was last read.
    drops: Mutex<u32>,
}

/// Why an address could not be opened.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The system's reason.
    pub error: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on udp {}: {}", self.address, self.error)?;
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

impl Sockets {
    /// Opens every listener with its number of receivers.
    ///
    /// # Errors
    /// The first address that cannot be had; the others are closed again.
    pub fn bind(listeners: &[Listener]) -> Result<Self, BindError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut sockets = Vec::new();
        for listener in listeners {
            let mut address = listener.address;
            // SO_REUSEPORT would let a second Nereus of the same user share the address in silence, and
            // each would get half of the traps.
            batch::refuse_taken(address).map_err(|error| BindError { address, error })?;
            for _ in 0..listener.receivers.map_or(cores, usize::from).max(1) {
                let failed = |error| BindError { address: listener.address, error };
                let socket = batch::bind(address, listener.receive_buffer, TICK).map_err(failed)?;
                let local = socket.local_addr().map_err(failed)?;
                // With port 0 the first socket chooses, and the others join its group.
                address = local;
                if let Ok(granted) = batch::receive_buffer(&socket)
                    && (granted as u64) < listener.receive_buffer
                {
                    tracing::warn!(
                        component = "listener", listener = %local, asked = listener.receive_buffer, granted,
                        "The receive buffer is smaller than asked for; raise net.core.rmem_max"
                    );
                }
                let socket = Arc::new(socket);
                sockets.push(Opened { listener: listener.address, local, socket, drops: Mutex::new(0) });
            }
        }
        Ok(Self { sockets })
    }

    /// The addresses that are listened on, each once, as the system gave them (a port 0 has its number).
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self.sockets.iter().map(|opened| opened.local).collect();
        addresses.dedup();
        addresses
    }

    /// Adds what the kernel dropped since the last call to the metrics. Cheap: a system call a socket.
    pub fn count_kernel_drops(&self, metrics: &Metrics) {
        for opened in &self.sockets {
            let counter = metrics.kernel_drops.with_label_values(&[&opened.local.to_string()]);
            let mut last = opened.drops.lock();
            if let Ok(now) = batch::kernel_drops(&opened.socket) {
                counter.inc_by(u64::from(now.wrapping_sub(*last)));
                *last = now;
            }
        }
    }

    /// Starts a thread for each socket.
    ///
    /// # Errors
    /// When the system refuses a thread; those that started are stopped again.
    pub fn start(
        &self,
        snapshot: &SnapshotHandle,
        handoff: &Arc<Queue<Handed>>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Receivers> {
        let mut receivers = Receivers { stop: Arc::default(), threads: Vec::new() };
        for (number, opened) in self.sockets.iter().enumerate() {
            let receiver = Receiver {
                number: number as u32,
                listener: opened.listener,
                socket: Arc::clone(&opened.socket),
                snapshot: snapshot.reader(),
                handoff: Arc::clone(handoff),
                counters: Counters::new(metrics),
                stop: Arc::clone(&receivers.stop),
            };
            let thread = thread::Builder::new()
                .name(format!("receiver-{number}"))
                .stack_size(512 << 10)
                .spawn(move || receiver.run())?;
            receivers.threads.push(thread);
        }
        Ok(receivers)
    }
}

/// The running receiver threads.
#[derive(Debug)]
pub struct Receivers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Receivers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Lets each take what its socket still holds, and waits for all.
    pub fn stop(mut self) {
        self.stop_all();
    }

    fn stop_all(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(component = "listener", "A receiver thread has panicked");
            }
        }
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.stop_all();
    }
}
