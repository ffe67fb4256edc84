//! The admin address: metrics, health, the API. For this machine's people and programs (see [`auth`]).
//!
//! Connections are bounded in number, in time and in what they may send, so that a crowd of slow
//! clients costs a few kilobytes each and never touches the trap path, which is on threads of its own.

mod api;
mod auth;
mod explain;
mod mutes;
mod operate;
mod refused;
mod reload;
mod routes;
mod stream;
mod webhooks;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::config::settings::AdminSettings;
use crate::delivery::Deliveries;
use crate::event::{Command, Operators, Queue};
use crate::metrics::Metrics;
use crate::pipeline::{ListenerStatus, Refusals, Usm};
use crate::reload::ReloadManager;
use crate::snapshot::SnapshotHandle;
use crate::store::{MuteBook, Reader};

/// Connections at once. One more takes the place of the one that has been without a request for longest.
const CONNECTIONS: usize = 256;
/// How soon it is looked again for a place if every connection has a request.
const CROWDED: Duration = Duration::from_millis(20);
/// A client that has not sent its request's head by then is cut off, an idle one too.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the routes answer from.
pub struct Admin {
    /// The running Snapshot.
    pub snapshot: SnapshotHandle,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The stored events and alerts.
    pub reader: Reader,
    /// Brings gauges up to date that are only known by asking: kernel drops, sizes.
    pub before_scrape: Box<dyn Fn(&Metrics) + Send + Sync>,
    /// The listeners as they are at the moment.
    pub listeners: Box<dyn Fn() -> Vec<ListenerStatus> + Send + Sync>,
    /// A sample of what was refused.
    pub refusals: Arc<Refusals>,
    /// The own SNMPv3 engine, and the others that were heard.
    pub engine: Arc<Usm>,
    /// Whether notifications are received and stored.
    pub ready: Arc<AtomicBool>,
    /// When the program started.
    pub started: Instant,
    /// Reloads.
    pub reloads: ReloadManager,
    /// The webhooks' workers.
    pub deliveries: Arc<Deliveries>,
    /// The way to the writer.
    pub commands: Arc<Queue<Command>>,
    /// What operators ask of the correlator.
    pub operators: Operators,
    /// What operators have muted.
    pub mutes: Arc<MuteBook>,
}

impl Admin {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What Nereus is at: `compiling` while built-in names stand in for those of the MIB directories.
    fn phase(&self) -> &'static str {
        match (self.is_ready(), self.reloads.mibs_pending()) {
            (false, _) => "stopping",
            (true, true) => "compiling",
            (true, false) => "running",
        }
    }
}

/// Opens the address. Port 0 lets the system choose; see the listener's own address.
///
/// # Errors
/// The system's, with the address.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("admin address {address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until `stop` turns true; connections that are open then get a moment to end.
///
/// # Errors
/// When the listener cannot be used by the runtime.
pub async fn serve(
    listener: std::net::TcpListener,
    admin: Arc<Admin>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    serve_router(listener, routes::router(admin), stop).await
}

/// Serves while there is no generation yet: `/health` is answered, `/ready` and everything else with 503 and the
/// phase.
///
/// # Errors
/// When the listener cannot be used by the runtime.
pub async fn serve_starting(
    listener: std::net::TcpListener,
    settings: Arc<AdminSettings>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    serve_router(listener, routes::starting(settings), stop).await
}

async fn serve_router(
    listener: std::net::TcpListener,
    router: axum::Router,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let connections = Arc::new(Connections::default());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or a client that is gone: the next one may do.
                Err(_) => { tokio::time::sleep(Duration::from_millis(50)).await; continue }
            },
            () = stopped(&mut stop) => return Ok(()),
        };
        let place = loop {
            match connections.enter() {
                Some(place) => break place,
                None => tokio::time::sleep(CROWDED).await,
            }
        };
        let (busy, cut) = (Arc::clone(&place.busy), Arc::clone(&place.cut));
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |request| {
            busy.store(true, Ordering::Relaxed);
            let (answer, busy) = (router.call(request), Arc::clone(&busy));
            async move {
                let answer = answer.await;
                busy.store(false, Ordering::Relaxed);
                answer
            }
        });
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let _place = place;
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(32 << 10);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = &mut connection => {}
                // Its place is another one's now.
                () = cut.notified() => {}
                () = stopped(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
                }
            }
        });
    }
}

/// The open connections, oldest first.
#[derive(Default)]
struct Connections {
    open: Mutex<BTreeMap<u64, Open>>,
    next: AtomicU64,
}

#[derive(Clone)]
struct Open {
    /// A request is being answered.
    busy: Arc<AtomicBool>,
    cut: Arc<Notify>,
}

/// One connection's place; dropped, it is free.
struct ConnectionPlace {
    connections: Arc<Connections>,
    number: u64,
    busy: Arc<AtomicBool>,
    cut: Arc<Notify>,
}

impl Connections {
    /// A place, if need be that of the oldest connection without a request; slow clients thus cost each other
    /// their places. `None` if all have one.
    fn enter(self: &Arc<Self>) -> Option<ConnectionPlace> {
        let mut open = self.open.lock();
        if open.len() >= CONNECTIONS {
            let idle = open.iter().find(|(_, open)| !open.busy.load(Ordering::Relaxed));
            let number = idle.map(|(number, _)| *number)?;
            if let Some(oldest) = open.remove(&number) {
                oldest.cut.notify_one();
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Open { busy: Arc::default(), cut: Arc::default() };
        open.insert(number, place.clone());
        Some(ConnectionPlace { connections: Arc::clone(self), number, busy: place.busy, cut: place.cut })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.number);
    }
}

/// Waits for the end, which a sender that is gone means too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
