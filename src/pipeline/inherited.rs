//! Socket activation: sockets that another program has bound for this one, so that a port below 1024 needs no privilege
//! here, and what arrives between two runs waits in them.

use std::io;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use socket2::{SockRef, Type};

use super::batch;
use crate::config::settings::{Endpoint, Transport};

/// Sockets that were passed to this program and have no listener yet.
#[derive(Debug, Default)]
pub struct Inherited(Mutex<Vec<(Option<Endpoint>, OwnedFd)>>);

impl Inherited {
    /// Takes those that `LISTEN_FDS` tells of, if `LISTEN_PID` is this process. Nothing the second time.
    ///
    /// # Errors
    /// Variables that make no sense, or a descriptor that is not open.
    pub fn take() -> io::Result<Self> {
        let sockets = batch::inherited()?.into_iter().map(|socket| (endpoint(&socket), socket));
        Ok(Self(Mutex::new(sockets.collect())))
    }

    /// Those with this address; they are its listener's from here on.
    pub(super) fn take_those(&self, address: Endpoint) -> Vec<OwnedFd> {
        self.0.lock().extract_if(.., |(own, _)| *own == Some(address)).map(|(_, socket)| socket).collect()
    }

    /// The addresses that no listener has taken.
    pub(super) fn rest(&self) -> Vec<String> {
        let name = |endpoint: &Option<Endpoint>| {
            endpoint.map_or_else(|| "neither UDP nor listening TCP".to_owned(), |known| known.to_string())
        };
        self.0.lock().iter().map(|(endpoint, _)| name(endpoint)).collect()
    }
}

fn endpoint(socket: &OwnedFd) -> Option<Endpoint> {
    let socket = SockRef::from(socket);
    let address = socket.local_addr().ok()?.as_socket()?;
    match socket.r#type().ok()? {
        Type::DGRAM => Some(Endpoint::udp(address)),
        Type::STREAM if socket.is_listener().ok()? => Some(Endpoint { transport: Transport::Tcp, address }),
        _ => None,
    }
}
