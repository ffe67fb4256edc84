//! What comes in before there is a Snapshot to decide on it: held as it came, by octets, and handed to the receiver
//! with its place in line kept.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::batch::{Batch, Origin};
use super::intake::Counters;
use super::receiver::is_idle;
use crate::event::Timestamp;
use crate::metrics::DropReason;

/// What all sockets together hold at most, with what keeping it takes.
pub(super) const LIMIT: usize = 64 << 20;

/// One reading's datagrams.
pub(super) struct Part {
    octets: Vec<u8>,
    /// Where each ends, and where it came from.
    datagrams: Vec<(u32, Origin)>,
    received: Timestamp,
}

impl Part {
    pub(super) fn len(&self) -> usize {
        self.datagrams.len()
    }

    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], Origin)> {
        let mut start = 0;
        self.datagrams.iter().map(move |&(end, origin)| {
            let octets = self.octets.get(start..end as usize).unwrap_or_default();
            start = end as usize;
            (octets, origin)
        })
    }

    /// When they were read.
    pub(super) fn received(&self) -> Timestamp {
        self.received
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.octets.capacity() + self.datagrams.capacity() * size_of::<(u32, Origin)>()
    }
}

/// What one socket's datagrams wait in, first in, first out. Its octets count for all sockets together.
pub(super) struct Held {
    parts: VecDeque<Part>,
    octets: Arc<AtomicUsize>,
    limit: usize,
}

impl Held {
    /// Empty, for receivers that have not waited for anything.
    pub(super) fn none() -> Self {
        Self::new(Arc::default(), 0)
    }

    pub(super) fn new(octets: Arc<AtomicUsize>, limit: usize) -> Self {
        Self { parts: VecDeque::new(), octets, limit }
    }

    /// Receives until `opened` brings what goes on with it. `None` if nothing ever will.
    pub(super) fn fill<T>(
        &mut self,
        socket: &UdpSocket,
        counters: &Counters,
        opened: &Receiver<T>,
        stop: &AtomicBool,
    ) -> Option<T> {
        let mut batch = Batch::new();
        loop {
            self.receive(socket, &mut batch, counters);
            match opened.try_recv() {
                Ok(next) => return Some(next),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if stop.load(Ordering::Acquire) => return None,
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// Takes what is there, or waits a tick for it. What there is no room for is counted, and gone.
    pub(super) fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch, counters: &Counters) {
        match batch.receive(socket) {
            Ok(0) => {}
            Ok(_) => {
                if let Err(refused) = self.push(batch) {
                    counters.unread(DropReason::HoldFull, refused);
                }
            }
            Err(error) if is_idle(&error) => {}
            // Told once the receiver runs, if it lasts.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }

    fn push(&mut self, batch: &Batch) -> Result<(), u64> {
        let octets = batch.datagrams().map(|(octets, _)| octets.len()).sum();
        let count = batch.datagrams().count();
        let mut part = Part {
            octets: Vec::with_capacity(octets),
            datagrams: Vec::with_capacity(count),
            received: Timestamp::now(),
        };
        let size = part.size();
        if self.octets.fetch_add(size, Ordering::Relaxed) + size > self.limit {
            self.octets.fetch_sub(size, Ordering::Relaxed);
            return Err(count as u64);
        }
        for (octets, origin) in batch.datagrams() {
            part.octets.extend_from_slice(octets);
            part.datagrams.push((part.octets.len() as u32, origin));
        }
        self.parts.push_back(part);
        Ok(())
    }

    /// The oldest.
    pub(super) fn pop(&mut self) -> Option<Part> {
        let part = self.parts.pop_front()?;
        self.octets.fetch_sub(part.size(), Ordering::Relaxed);
        if self.parts.is_empty() {
            self.parts = VecDeque::new();
        }
        Some(part)
    }

    /// How many datagrams wait.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }
}
