//! The admin address: metrics, health, the API. For this machine's people and programs (see [`auth`]).
//!
//! Connections are bounded in number, in time and in what they may send, so that a crowd of slow
//! clients costs a few kilobytes each and never touches the trap path, which is on threads of its own.

mod api;
mod auth;
mod reload;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::metrics::Metrics;
use crate::reload::ReloadManager;
use crate::snapshot::SnapshotHandle;
use crate::store::Reader;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
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
    /// The listeners' addresses as the system gave them.
    pub listeners: Box<dyn Fn() -> Vec<SocketAddr> + Send + Sync>,
    /// Whether notifications are received and stored.
    pub ready: Arc<AtomicBool>,
    /// When the program started.
    pub started: Instant,
    /// Reloads.
    pub reloads: ReloadManager,
}

impl Admin {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
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
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let router = routes::router(admin);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or a client that is gone: the next one may do.
                Err(_) => { tokio::time::sleep(Duration::from_millis(50)).await; continue }
            },
            () = stopped(&mut stop) => return Ok(()),
        };
        let service = TowerToHyperService::new(router.clone());
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let _place = place;
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(32 << 10);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = &mut connection => {}
                () = stopped(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
                }
            }
        });
    }
}

/// Waits for the end, which a sender that is gone means too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
