//! Programs that tests talk to. A test whose peer is missing says so on standard error and passes; under
//! `NEREUS_REQUIRE_PEERS=1` it fails.
#![allow(dead_code, reason = "each test uses some of them")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a peer may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first of `names` on the path. `None`, said on standard error, if there is none.
///
/// # Panics
/// If there is none and `NEREUS_REQUIRE_PEERS=1`.
pub(crate) fn find(names: &[&str]) -> Option<PathBuf> {
    let found = look(names);
    if found.is_none() {
        assert!(!required(), "NEREUS_REQUIRE_PEERS=1, and there is no {}", names.join(" or "));
        skipped(&format!("there is no {} on the path", names.join(" or ")));
    }
    found
}

/// Whether a missing peer is a failure.
pub(crate) fn required() -> bool {
    std::env::var_os("NEREUS_REQUIRE_PEERS").is_some_and(|value| value == "1")
}

/// Says why a test passes without having tested anything.
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// The first of `names` on the path: tools that not every machine has. `None`, said on standard error, if there is none.
pub(crate) fn find_tool(names: &[&str]) -> Option<PathBuf> {
    let found = look(names);
    if found.is_none() {
        eprintln!("skipped: there is no {} on the path", names.join(" or "));
    }
    found
}

fn look(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|file| file.is_file())
}

/// Waits for `condition`, and fails by `what` if it does not come.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An address where nobody listens at the moment.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// `GET path`: status and body. HTTP/1.0, so that the answer ends with the connection and is not chunked.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(io::Error::other(format!("no HTTP answer: {answer:?}"))),
    }
}

/// A real Alertmanager with an empty state; it ends when dropped.
pub(crate) struct Alertmanager {
    program: PathBuf,
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts one and waits until it is ready. `None` if it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let program = find(&["prometheus-alertmanager", "alertmanager"])?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").expect("written");
        // Somebody else may take the port before it does: then it ends, and another port is tried.
        for _ in 0..10 {
            let address = free_address();
            let mut child = Self::spawn(&program, folder.path(), address);
            if Self::becomes_ready(&mut child, address) {
                return Some(Self { program, child, address, _folder: folder });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("Alertmanager does not become ready");
    }

    /// Ends it, and starts it at the same address: it has forgotten every alert, as a real one does.
    pub(crate) fn begin_anew(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let end = Instant::now() + PATIENCE;
        // Another program may have the port for a moment.
        while Instant::now() < end {
            self.child = Self::spawn(&self.program, self._folder.path(), self.address);
            if Self::becomes_ready(&mut self.child, self.address) {
                return;
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        panic!("Alertmanager does not become ready again");
    }

    fn spawn(program: &Path, folder: &Path, address: SocketAddr) -> Child {
        Command::new(program)
            .arg(format!("--config.file={}", folder.join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Alertmanager starts")
    }

    fn becomes_ready(child: &mut Child, address: SocketAddr) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
            if http_get(address, "/-/ready").is_ok_and(|(status, _)| status == 200) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Where alerts are posted.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v2/alerts", self.address)
    }

    /// The alerts that are open, as `GET /api/v2/alerts` shows them.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        let (status, body) = http_get(self.address, "/api/v2/alerts").expect("an answer");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("an array of alerts")
    }

    /// Waits until the open alerts are as `condition` wants them, and returns them.
    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
        let mut alerts = Vec::new();
        until(what, || {
            alerts = self.alerts();
            condition(&alerts)
        });
        alerts
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
