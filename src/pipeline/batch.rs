//! The one audited socket module: `recvmmsg`, and the socket options that no safe crate offers.
//!
//! Message headers, addresses and vectors are made anew for every call, on the stack: the kernel
//! writes lengths and flags into them, and a header used twice would lose what it wrote over
//! (nix#2813). No raw pointer outlives the call.
#![allow(
    unsafe_code,
    reason = "recvmmsg, SO_RCVBUFFORCE, SO_MEMINFO, mallopt and malloc_trim have no safe wrapper; each block says why it is sound"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// How many datagrams one system call reads at most.
const SLOTS: usize = 64;
/// A slot holds the largest UDP datagram. Untouched pages of a slot cost nothing.
const SLOT: usize = 65_536;

/// The receive buffers of one thread, used for every call.
#[derive(Debug)]
pub(super) struct Batch {
    octets: Vec<u8>,
    lengths: [usize; SLOTS],
    peers: [SocketAddr; SLOTS],
    filled: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            octets: vec![0; SLOTS * SLOT],
            lengths: [0; SLOTS],
            peers: [SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0); SLOTS],
            filled: 0,
        }
    }

    /// Waits for a datagram (up to the socket's read timeout) and takes all that are there, at most
    /// [`SLOTS`]. One system call.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when the timeout ran out.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.filled = 0;
        let mut addresses = [MaybeUninit::<libc::sockaddr_storage>::zeroed(); SLOTS];
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SLOTS];
        for (vector, slot) in vectors.iter_mut().zip(self.octets.chunks_exact_mut(SLOT)) {
            *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        }
        // SAFETY: mmsghdr is plain old data for which all zeroes is a valid value.
        let mut headers: [libc::mmsghdr; SLOTS] = unsafe { MaybeUninit::zeroed().assume_init() };
        for ((header, vector), address) in headers.iter_mut().zip(&mut vectors).zip(&mut addresses) {
            header.msg_hdr.msg_name = address.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points at a vector and an address of this frame and at a slot of
        // `octets`, all alive and exclusively borrowed for the call; the counts are those of the arrays.
        let read = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                SLOTS as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?.min(SLOTS);
        for (at, (header, address)) in headers.iter().zip(&addresses).take(read).enumerate() {
            // Cut off by the kernel: kept as one octet more than SNMP takes, so that decoding refuses it.
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            self.lengths[at] = if cut { SLOT } else { (header.msg_len as usize).min(SLOT) };
            // SAFETY: zeroed before the call, and all zeroes is a valid sockaddr_storage.
            self.peers[at] = address_of(unsafe { address.assume_init_ref() });
        }
        self.filled = read;
        Ok(read)
    }

    /// What the last [`Batch::receive`] read, in the order of arrival.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        (0..self.filled).map(|at| (&self.octets[at * SLOT..at * SLOT + self.lengths[at]], self.peers[at]))
    }
}

fn address_of(storage: &libc::sockaddr_storage) -> SocketAddr {
    let base: *const libc::sockaddr_storage = storage;
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: sockaddr_storage is large and aligned enough for every address family, and the
            // kernel says that it wrote this one.
            let v4 = unsafe { &*base.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*base.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            SocketAddr::new(IpAddr::V6(ip), u16::from_be(v6.sin6_port))
        }
        // Neither: it cannot be answered and matches no network.
        _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    }
}

/// Opens one UDP socket of a `SO_REUSEPORT` group. An IPv6 socket takes IPv6 alone, so that
/// `0.0.0.0:1162` and `[::]:1162` stand side by side.
///
/// # Errors
/// The system's: a port below 1024 without the right to it, an address in use or not of this machine.
pub(super) fn bind(address: SocketAddr, receive_buffer: u64, tick: Duration) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_read_timeout(Some(tick))?;
    let socket = {
        set_buffer(&socket, receive_buffer)?;
        socket.bind(&address.into())?;
        UdpSocket::from(socket)
    };
    Ok(socket)
}

/// Asks for another receive buffer on an open socket.
///
/// # Errors
/// The system's.
pub(super) fn set_receive_buffer(socket: &UdpSocket, receive_buffer: u64) -> io::Result<()> {
    set_buffer(socket, receive_buffer)
}

/// Past net.core.rmem_max only with CAP_NET_ADMIN; else as much as the kernel grants.
fn set_buffer(socket: &impl AsRawFd, receive_buffer: u64) -> io::Result<()> {
    let wanted = libc::c_int::try_from(receive_buffer).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::SO_RCVBUFFORCE, &wanted)
        .or_else(|_| set_option(socket, libc::SO_RCVBUF, &wanted))
}

/// Lets no further datagram into the socket; what it holds stays.
///
/// # Errors
/// The system's.
pub(super) fn let_nothing_in(socket: &UdpSocket) -> io::Result<()> {
    // One instruction of classic BPF: return 0 octets of the datagram, which is to drop it.
    let mut nothing = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    // The kernel copies the program during the call.
    set_option(socket, libc::SO_ATTACH_FILTER, &program)
}

/// Refuses an address that somebody else has, whether or not they share it.
///
/// # Errors
/// `AddrInUse`, as any other error that a plain bind meets.
pub(super) fn refuse_taken(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

/// The receive buffer that the kernel granted, in octets (it counts its own overhead too).
pub(super) fn receive_buffer(socket: &UdpSocket) -> io::Result<usize> {
    socket2::SockRef::from(socket).recv_buffer_size()
}

fn set_option<T>(socket: &impl AsRawFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer is to `value`, alive for the call, with its own size; what a `sock_fprog` points
    // at is alive in the caller's frame.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives what is free in the allocator back to the system. Walks all free memory: milliseconds to tens of
/// them for a large heap, during which an allocation of another thread may wait. Nothing where the
/// allocator cannot be asked. It stands here since this is where unsafe calls are audited.
#[cfg(target_env = "gnu")]
pub(crate) fn give_back_memory() {
    // SAFETY: takes a number and touches free chunks alone, under the allocator's own locks; any thread
    // may call it at any time.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back_memory() {}

/// Makes the allocator give the end of each heap back as soon as 128 KiB of it are free.
///
/// By itself glibc raises that bound to twice the largest block that was ever freed, which a burst makes tens of MiB.
/// And it keeps small blocks apart when they are freed (fastbins): [`give_back_memory`] joins those, but what they then
/// add to the end of any heap but the first stays. Without fastbins each free joins its neighbours at once.
pub(crate) fn bound_kept_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers each; callable at any time, from any thread.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_MXFAST, 0);
    };
}

/// `SO_MEMINFO`'s array (linux/sock_diag.h) and the place of the drop counter in it.
const MEMINFO_VARS: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// How many datagrams the kernel has dropped on this socket since it was opened; it wraps at 2^32.
///
/// # Errors
/// The system's, from kernels before 4.12.
pub(super) fn kernel_drops(socket: &UdpSocket) -> io::Result<u32> {
    let mut info = [0u32; MEMINFO_VARS];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the pointers are to `info` and `length`, alive for the call, and `length` says `info`'s size.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(info[MEMINFO_DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// asm-generic/socket.h; the libc crate does not name it on every target.
const SO_MEMINFO: libc::c_int = 55;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_what_was_sent_in_order_and_headers_are_fresh_each_time() {
        let socket = bind("127.0.0.1:0".parse().unwrap(), 1 << 20, Duration::from_secs(10)).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let mut batch = Batch::new();
        // Long datagrams first: a stale length or address length would show in the second round.
        for size in [60_000usize, 3, 0, 65_507] {
            for mark in 0..3u8 {
                sender.send_to(&vec![mark; size], to).unwrap();
            }
            let mut seen = 0;
            while seen < 3 {
                batch.receive(&socket).unwrap();
                for (octets, peer) in batch.datagrams() {
                    assert_eq!(octets.len(), size);
                    assert!(octets.iter().all(|&octet| octet == seen));
                    assert_eq!(peer, sender.local_addr().unwrap());
                    seen += 1;
                }
            }
        }
    }

    #[test]
    fn an_idle_socket_ticks() {
        let socket = bind("[::1]:0".parse().unwrap(), 1 << 16, Duration::from_millis(10)).unwrap();
        assert_eq!(Batch::new().receive(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_filtered_socket_gives_what_it_holds_and_takes_nothing_more() {
        let socket = bind("127.0.0.1:0".parse().unwrap(), 1 << 20, Duration::from_millis(10)).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        sender.send_to(b"before", to).unwrap();
        let_nothing_in(&socket).unwrap();
        sender.send_to(b"after", to).unwrap();
        let mut batch = Batch::new();
        assert_eq!(batch.receive(&socket).unwrap(), 1);
        assert_eq!(batch.datagrams().next().unwrap().0, b"before");
        assert_eq!(batch.receive(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_kernel_counts_what_it_drops() {
        let socket = bind("127.0.0.1:0".parse().unwrap(), 4096, Duration::from_millis(10)).unwrap();
        assert_eq!(kernel_drops(&socket).unwrap(), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..200 {
            sender.send_to(&[0; 1400], socket.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::new();
        let mut read = 0;
        while let Ok(more) = batch.receive(&socket) {
            read += more;
        }
        assert_eq!(kernel_drops(&socket).unwrap() as usize + read, 200);
    }
}
