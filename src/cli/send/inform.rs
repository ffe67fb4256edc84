//! One inform, sent until it is answered.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::wire::Response;

/// How often, and how long each time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The wait for an answer to each try.
    pub(super) timeout: Duration,
    /// Tries after the first.
    pub(super) retries: u32,
}

/// What came of an inform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Asked<T = Response> {
    /// How often it was sent.
    pub(super) tries: u32,
    /// The answer, and how long after the first try it came. `None` if none came.
    pub(super) answer: Option<(T, Duration)>,
    /// Whether the receiving host said that nothing listens there.
    pub(super) refused: bool,
}

/// Sends `datagram` over a connected socket until `read` knows a datagram that comes back as the answer. Whatever
/// else comes is passed over.
///
/// # Errors
/// The system's, but for a refusal by the receiving host: somebody may listen there at the next try.
pub(super) fn ask<T>(
    socket: &UdpSocket,
    datagram: &[u8],
    patience: Patience,
    read: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Asked<T>> {
    let mut buffer = vec![0; crate::wire::MAX_MESSAGE_SIZE];
    let begun = Instant::now();
    let mut asked = Asked { tries: 0, answer: None, refused: false };
    while asked.tries <= patience.retries {
        asked.tries += 1;
        let until = Instant::now() + patience.timeout;
        match socket.send(datagram) {
            Ok(_) => {}
            // It tells of the try before; reading it has cleared it, and nothing was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                asked.refused = true;
                socket.send(datagram)?;
            }
            Err(error) => return Err(error),
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    if let Some(response) = read(&buffer[..length]) {
                        asked.answer = Some((response, begun.elapsed()));
                        return Ok(asked);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionRefused => asked.refused = true,
                    _ => return Err(error),
                },
            }
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { timeout: Duration::from_millis(60), retries: 2 };

    fn pair() -> (UdpSocket, UdpSocket) {
        let (own, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        own.connect(other.local_addr().unwrap()).unwrap();
        (own, other)
    }

    fn read(octets: &[u8]) -> Option<Response> {
        (octets == b"yes").then_some(Response { request_id: 1, error_status: 0, error_index: 0 })
    }

    #[test]
    fn it_tries_until_the_right_answer_comes() {
        let (own, other) = pair();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 9];
            let (_, from) = other.recv_from(&mut buffer).unwrap();
            other.recv_from(&mut buffer).unwrap();
            other.send_to(b"something else", from).unwrap();
            other.send_to(b"yes", from).unwrap();
        });
        let patience = Patience { timeout: Duration::from_millis(300), retries: 5 };
        let asked = ask(&own, b"inform", patience, read).unwrap();
        assert_eq!((asked.tries, asked.refused), (2, false));
        assert!(asked.answer.unwrap().1 >= patience.timeout);
        thread.join().unwrap();
    }

    #[test]
    fn silence_and_a_closed_port_end_by_patience() {
        let (own, other) = pair();
        let silence = ask(&own, b"inform", PATIENCE, read).unwrap();
        assert_eq!(silence, Asked { tries: 3, answer: None, refused: false });
        drop(other);
        let refused = ask(&own, b"inform", PATIENCE, read).unwrap();
        assert_eq!(refused, Asked { tries: 3, answer: None, refused: true });
    }
}
