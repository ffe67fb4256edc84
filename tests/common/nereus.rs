//! A Nereus that runs as its user runs it: the built binary, its own folder, its own ports.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    reason = "each test file uses a part; a failed one shows the log"
)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running Nereus. Dropped, it is killed.
pub struct Nereus {
    child: Child,
    lines: Receiver<String>,
    /// Everything that it has logged and that was read.
    pub log: Vec<String>,
    /// Where traps go.
    pub traps: SocketAddr,
    /// The admin address.
    pub admin: SocketAddr,
}

impl Nereus {
    /// Starts in `folder` with a configuration file `nereus.yaml` of `rules` behind addresses with free
    /// ports and a data directory in the folder. Waits until it is ready.
    pub fn start(folder: &Path, settings: &str) -> Self {
        let file = Self::configure(folder, settings);
        Self::run(folder, &["-c".to_owned(), file.display().to_string()])
    }

    /// Writes the configuration without starting anything.
    pub fn configure(folder: &Path, settings: &str) -> PathBuf {
        let mut text = String::new();
        if !settings.contains("listener:") {
            text.push_str("listener:\n  - address: 127.0.0.1:0\n    receivers: 2\n");
        }
        if !settings.contains("admin:") {
            text.push_str("admin: {address: 127.0.0.1:0}\n");
        }
        if !settings.contains("storage:") {
            let _ = writeln!(text, "storage: {{path: {}}}", folder.join("data").display());
        }
        text.push_str(settings);
        let file = folder.join("nereus.yaml");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Starts with these arguments behind `run`.
    pub fn run(folder: &Path, arguments: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nereus"));
        command.arg("run").args(arguments);
        Self::run_command(folder, command)
    }

    /// Starts what `command` says, which becomes a Nereus that runs.
    pub fn run_command(folder: &Path, mut command: Command) -> Self {
        let mut child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut nereus = Self { child, lines, log: Vec::new(), traps: unknown, admin: unknown };
        let ready = nereus.wait_for_log("Nereus is ready");
        nereus.admin = ready["admin"].as_str().unwrap().parse().unwrap();
        let listeners = ready["listeners"].as_str().unwrap();
        nereus.traps = listeners.split(", ").next().unwrap().parse().unwrap();
        nereus
    }

    /// Waits for a log line with this `msg`, and gives it.
    pub fn wait_for_log(&mut self, message: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if let Ok(value) = serde_json::from_str::<Value>(&line)
                        && value["msg"] == message
                    {
                        return value;
                    }
                }
                Err(error @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!("no line {message:?} ({error}); the log was:\n{}", self.log.join("\n"))
                }
            }
        }
    }

    /// Takes the log lines that are there.
    pub fn read_log(&mut self) {
        self.log.extend(self.lines.try_iter());
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// GET on the admin address: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        http(self.admin, "GET", path, "")
    }

    /// GET, as JSON.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// The sum over all children of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        metric_sum(&text, name)
    }

    /// Asks until `done` holds.
    pub fn wait<T>(&self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(Instant::now() < until, "{what} did not happen");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it did not stop");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL: what kill -9 does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Nereus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.read_log();
            eprintln!("--- the log of Nereus:\n{}", self.log.join("\n"));
        }
    }
}

/// Sends a signal by name to a process that this test started.
pub fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(done.success());
}

/// The sum over all children of a metric in Prometheus' text.
pub fn metric_sum(text: &str, name: &str) -> f64 {
    text.lines()
        .filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// One HTTP request with an own connection: status and body.
pub fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (status, if head.to_ascii_lowercase().contains("chunked") { unchunk(body) } else { body.to_owned() })
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest.get(size + 2..).unwrap_or("");
    }
    whole
}
