//! An HTTP endpoint that behaves as badly as it is told to, on threads of its own.
#![allow(dead_code, reason = "each test uses some of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// What it does with a post.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Answers with this status.
    Status(u16),
    /// 503 to every third post.
    EveryThirdFails,
    /// Says nothing.
    Hang,
    /// An answer that never gets anywhere.
    OneOctetASecond,
    /// 429 with `Retry-After: 1`.
    TooManyRequests,
    /// 307 to another URL.
    Redirect(String),
    /// 500 and less than was promised.
    CutBody,
    /// 500 and no end.
    EndlessBody,
    /// 403 and what it was sent, headers and all.
    Echo,
}

/// The endpoint. Its threads end with the process.
pub(crate) struct Endpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Posts that came.
    pub(crate) posts: Arc<AtomicUsize>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    taken: Mutex<Vec<Value>>,
}

impl Endpoint {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { behaviour: Mutex::new(behaviour), taken: Mutex::default() });
        let posts = Arc::new(AtomicUsize::new(0));
        let (of, count) = (Arc::clone(&shared), Arc::clone(&posts));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, count) = (Arc::clone(&of), Arc::clone(&count));
                thread::spawn(move || serve(&stream, &shared, &count));
            }
        });
        Self { address, shared, posts }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// The alerts of the posts that were taken (2xx), in their order.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.shared.taken.lock().unwrap().clear();
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn serve(stream: &TcpStream, shared: &Shared, count: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let number = count.fetch_add(1, Ordering::SeqCst);
        let behaviour = shared.behaviour.lock().unwrap().clone();
        answer(stream, shared, &behaviour, number, &head, &body)?;
    }
}

fn answer(
    mut stream: &TcpStream,
    shared: &Shared,
    behaviour: &Behaviour,
    number: usize,
    head: &str,
    body: &[u8],
) -> Option<()> {
    let mut say = |text: &str| stream.write_all(text.as_bytes()).ok();
    let status = match behaviour {
        Behaviour::EveryThirdFails if number % 3 == 2 => 503,
        Behaviour::EveryThirdFails => 200,
        Behaviour::Status(status) => *status,
        Behaviour::Hang => {
            thread::sleep(Duration::from_secs(60));
            return None;
        }
        Behaviour::OneOctetASecond => {
            for octet in "HTTP/1.1 200 OK\r\nx: ".chars().chain(std::iter::repeat_n('y', 60)) {
                say(&octet.to_string())?;
                thread::sleep(Duration::from_secs(1));
            }
            return None;
        }
        Behaviour::TooManyRequests => {
            return say("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
        }
        Behaviour::Redirect(to) => {
            return say(&format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
            ));
        }
        Behaviour::CutBody => {
            say("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 100\r\n\r\nhalf")?;
            return None;
        }
        Behaviour::EndlessBody => {
            say("HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                say("1000\r\n")?;
                say(&"x".repeat(0x1000))?;
                say("\r\n")?;
            }
        }
        Behaviour::Echo => {
            let text = format!("you sent {head}");
            return say(&format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
        }
    };
    if (200..300).contains(&status)
        && let Ok(Value::Object(mut body)) = serde_json::from_slice(body)
        && let Some(Value::Array(alerts)) = body.remove("alerts")
    {
        shared.taken.lock().unwrap().extend(alerts);
    }
    say(&format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n\r\n"))
}
