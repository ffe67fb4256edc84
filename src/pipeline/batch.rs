//! The one audited socket module: `recvmmsg`, `sendmsg` from a chosen address, and the socket options that no
//! safe crate offers.
//!
//! Message headers, addresses, vectors and control buffers are made anew for every call, on the stack: the kernel
//! writes lengths and flags into them, and a header used twice would lose what it wrote over
//! (nix#2813). No raw pointer outlives the call.
#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmsg with IP_PKTINFO, SO_RCVBUFFORCE, SO_MEMINFO, classic BPF, adopted descriptors, mallopt and malloc_trim have no safe wrapper; each block says why it is sound"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::event::Timestamp;

/// How many datagrams one system call reads at most.
const SLOTS: usize = 64;
/// A slot holds the largest UDP datagram. Untouched pages of a slot cost nothing.
const SLOT: usize = 65_536;

/// Room for what the kernel says beside a datagram: where it was sent to (IP_PKTINFO 16 octets, IPV6_PKTINFO 20)
/// and when it came (16), each with a header of 16.
const CONTROL: usize = 128;

/// Aligned as its headers are.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Where a datagram came from, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// Who sent it.
    pub(super) peer: SocketAddr,
    /// The own address that it was sent to, from which it is to be answered. `None` where the kernel did not say.
    pub(super) local: Option<IpAddr>,
    /// The interface that it came in by; a link-local peer is answered through it. 0 is not known.
    pub(super) interface: u32,
    /// When the kernel took it, by SO_TIMESTAMPNS. `None` where it did not say.
    pub(super) arrived: Option<Timestamp>,
}

impl Origin {
    /// A peer of which no more is known.
    pub(super) fn of(peer: SocketAddr) -> Self {
        Self { peer, local: None, interface: 0, arrived: None }
    }
}

/// The receive buffers of one thread, used for every call.
#[derive(Debug)]
pub(super) struct Batch {
    octets: Vec<u8>,
    lengths: [usize; SLOTS],
    origins: [Origin; SLOTS],
    /// The slots in the order of arrival.
    order: [u8; SLOTS],
    filled: usize,
}

/// No slot's number is cut off.
const _: () = assert!(SLOTS <= u8::MAX as usize + 1);

/// Datagrams further apart than this are in the socket's order: it is the clock that was set.
const OUT_OF_ORDER: i64 = 1_000_000_000;

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            octets: vec![0; SLOTS * SLOT],
            lengths: [0; SLOTS],
            origins: [Origin::of(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)); SLOTS],
            order: [0; SLOTS],
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
        let mut controls = [Control([0; CONTROL]); SLOTS];
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SLOTS];
        for (vector, slot) in vectors.iter_mut().zip(self.octets.chunks_exact_mut(SLOT)) {
            *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        }
        // SAFETY: mmsghdr is plain old data for which all zeroes is a valid value.
        let mut headers: [libc::mmsghdr; SLOTS] = unsafe { MaybeUninit::zeroed().assume_init() };
        let places = addresses.iter_mut().zip(&mut controls);
        for ((header, vector), (address, control)) in headers.iter_mut().zip(&mut vectors).zip(places) {
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_name = address.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points at a vector, an address and a control buffer of this frame and at a slot of
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
        let mut stamps = [0i64; SLOTS];
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?.min(SLOTS);
        for (at, (header, address)) in headers.iter().zip(&addresses).take(read).enumerate() {
            // Cut off by the kernel: kept as one octet more than SNMP takes, so that decoding refuses it.
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            self.lengths[at] = if cut { SLOT } else { (header.msg_len as usize).min(SLOT) };
            // SAFETY: zeroed before the call, and all zeroes is a valid sockaddr_storage.
            let peer = address_of(unsafe { address.assume_init_ref() });
            self.origins[at] = Origin::of(peer);
            stamps[at] = read_control(&header.msg_hdr, &mut self.origins[at]);
        }
        put_in_order(&stamps[..read], &mut self.order[..read]);
        self.filled = read;
        Ok(read)
    }

    /// What the last [`Batch::receive`] read, in the order of arrival.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], Origin)> {
        self.order[..self.filled].iter().map(|&at| {
            let at = usize::from(at);
            (&self.octets[at * SLOT..at * SLOT + self.lengths[at]], self.origins[at])
        })
    }
}

/// The places of `stamps` (nanoseconds; 0 is not known) in the order of time. Processors that queue at the same moment
/// may do it in another order than that in which they took the datagrams.
fn put_in_order(stamps: &[i64], order: &mut [u8]) {
    order.iter_mut().zip(0..).for_each(|(place, at)| *place = at);
    if stamps.is_sorted() {
        return;
    }
    let (first, last) = stamps.iter().fold((i64::MAX, 0), |(low, high), &at| (low.min(at), high.max(at)));
    if last - first < OUT_OF_ORDER {
        // Stable, so that what has the same stamp keeps its order; of so few, it allocates nothing.
        for at in 1..order.len() {
            let moved = order[at];
            let stamp = stamps[usize::from(moved)];
            let mut to = at;
            while to > 0 && stamps[usize::from(order[to - 1])] > stamp {
                order[to] = order[to - 1];
                to -= 1;
            }
            order[to] = moved;
        }
    }
}

/// Reads what the kernel says beside a datagram; gives when it came, in nanoseconds since the epoch, or 0.
fn read_control(header: &libc::msghdr, origin: &mut Origin) -> i64 {
    let mut arrived = 0;
    // SAFETY: the header is one that recvmmsg has just filled in, whose control buffer is alive and aligned, and
    // whose msg_controllen says what of it was written: the CMSG macros stay within that.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, hence a whole header within the control buffer.
        let control = unsafe { &*next };
        // SAFETY: as above; only pointer arithmetic.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: only arithmetic.
        let has = |size: usize| control.cmsg_len as usize >= unsafe { libc::CMSG_LEN(size as u32) } as usize;
        match (control.cmsg_level, control.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if has(size_of::<libc::in_pktinfo>()) => {
                // SAFETY: the message says that it holds so many octets; they need not be aligned.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                // The address to answer from: the interface's own, where the datagram was a broadcast.
                origin.local = Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
                origin.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if has(size_of::<libc::in6_pktinfo>()) => {
                // SAFETY: as above.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                let own = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                // Nobody sends from a group's address.
                origin.local = (!own.is_multicast()).then_some(own.into());
                origin.interface = info.ipi6_ifindex;
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if has(size_of::<libc::timespec>()) => {
                // SAFETY: as above.
                let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
                arrived = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
                origin.arrived = Some(Timestamp(arrived / 1_000));
            }
            _ => {}
        }
        // SAFETY: as for CMSG_FIRSTHDR; `next` is a header of this buffer.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    arrived
}

/// Sends `octets` to where a datagram came from, from the address and the port that it was sent to. Never waits:
/// `WouldBlock` where the send buffer is full.
///
/// # Errors
/// The system's.
pub(super) fn answer(socket: &UdpSocket, octets: &[u8], to: &Origin) -> io::Result<()> {
    let mut peer = to.peer;
    if let SocketAddr::V6(v6) = &mut peer
        && v6.ip().is_unicast_link_local()
    {
        v6.set_scope_id(to.interface);
    }
    let peer = socket2::SockAddr::from(peer);
    let mut control = Control([0; CONTROL]);
    let mut vector = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
    // SAFETY: msghdr is plain old data for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = peer.as_ptr().cast_mut().cast();
    header.msg_namelen = peer.len();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    match to.local {
        Some(IpAddr::V4(own)) => {
            let own = libc::in_addr { s_addr: u32::from(own).to_be() };
            // No interface: the way back is the routing table's to find.
            let any = libc::in_addr { s_addr: 0 };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: own, ipi_addr: any };
            write_control(&mut header, &mut control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(own)) => {
            let interface = if own.is_unicast_link_local() { to.interface } else { 0 };
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: own.octets() },
                ipi6_ifindex: interface,
            };
            write_control(&mut header, &mut control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        None => {}
    }
    // SAFETY: the header points at the peer's address, at a vector over `octets` and at a control buffer, all alive
    // for the call; the kernel only reads them.
    let sent = unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes `value` the one control message of `header`, in `control`.
fn write_control<T: Copy>(
    header: &mut libc::msghdr,
    control: &mut Control,
    level: libc::c_int,
    kind: libc::c_int,
    value: T,
) {
    // SAFETY: only arithmetic.
    let (space, length) =
        unsafe { (libc::CMSG_SPACE(size_of::<T>() as u32), libc::CMSG_LEN(size_of::<T>() as u32)) };
    assert!(space as usize <= CONTROL, "two structures are written, both shorter");
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = space as _;
    // SAFETY: the control buffer has room for a header and `T`, as was just seen, and is aligned for the header;
    // the value is written as octets.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = length as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
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
    equip(&socket, address, receive_buffer, tick)?;
    socket.bind(&address.into())?;
    Ok(UdpSocket::from(socket))
}

/// Makes one of our sockets of one that was bound by another program.
///
/// # Errors
/// The system's.
pub(super) fn adopt(
    socket: OwnedFd,
    address: SocketAddr,
    receive_buffer: u64,
    tick: Duration,
) -> io::Result<UdpSocket> {
    let socket = Socket::from(socket);
    socket.set_nonblocking(false)?;
    // The run before may have left one. Without any it is an error.
    let _ = set_option(&socket, libc::SO_DETACH_FILTER, &0);
    equip(&socket, address, receive_buffer, tick)?;
    Ok(UdpSocket::from(socket))
}

/// The sockets that whoever started the program has bound for it (`LISTEN_FDS` of systemd). None at the second call.
///
/// # Errors
/// Variables that make no sense, or a descriptor that is not open.
pub(super) fn inherited() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let descriptors = sd_notify::listen_fds()?;
    // SAFETY: LISTEN_PID says that these descriptors were passed to this very process, so that nothing of it opened
    // them, and `listen_fds` has found each open. They are taken once.
    Ok(descriptors.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }).collect())
}

fn equip(socket: &Socket, address: SocketAddr, receive_buffer: u64, tick: Duration) -> io::Result<()> {
    socket.set_read_timeout(Some(tick))?;
    set_buffer(socket, receive_buffer)?;
    // Each datagram says when it came, and which of our addresses it was sent to.
    let on: libc::c_int = 1;
    set_option(socket, libc::SO_TIMESTAMPNS, &on)?;
    match address {
        SocketAddr::V4(_) => set_option_at(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &on),
        SocketAddr::V6(_) => set_option_at(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &on),
    }
}

/// Lets the source address alone choose among the `sockets` of a `SO_REUSEPORT` group, so that what one device sends
/// from whatever ports stays in one queue, in its order. `first` is any of the group; to be called once all are bound.
///
/// # Errors
/// The system's, from kernels before 4.5.
pub(super) fn steer_by_source(first: &UdpSocket, address: SocketAddr, sockets: usize) -> io::Result<()> {
    /// Spreads neighbouring addresses (2^32 divided by the golden ratio, odd).
    const SPREAD: u32 = 0x9e37_79b1;
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The packet begins at the payload; the IP header is found through the network layer's offset.
    let header = |offset: u32| {
        let at = (libc::SKF_NET_OFF as u32).wrapping_add(offset);
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at)
    };
    let mut program = Vec::with_capacity(16);
    match address {
        SocketAddr::V4(_) => program.push(header(12)),
        SocketAddr::V6(_) => {
            program.push(header(8));
            for offset in [12, 16, 20] {
                program.push(step(libc::BPF_MISC | libc::BPF_TAX, 0));
                program.push(header(offset));
                program.push(step(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0));
            }
        }
    }
    program.push(step(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, SPREAD));
    program.push(step(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 16));
    program
        .push(step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, u32::try_from(sockets.max(1)).unwrap_or(1)));
    program.push(step(libc::BPF_RET | libc::BPF_A, 0));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // The kernel copies the program during the call.
    set_option(first, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
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

/// The receive buffer that the kernel granted, in octets, to be compared with what was asked for: the kernel doubles
/// that for its own overhead, which is taken off again here.
pub(super) fn receive_buffer(socket: &UdpSocket) -> io::Result<u64> {
    socket2::SockRef::from(socket).recv_buffer_size().map(|size| size as u64 / 2)
}

fn set_option<T>(socket: &impl AsRawFd, option: libc::c_int, value: &T) -> io::Result<()> {
    set_option_at(socket, libc::SOL_SOCKET, option, value)
}

fn set_option_at<T>(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer is to `value`, alive for the call, with its own size; what a `sock_fprog` points
    // at is alive in the caller's frame.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
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
                for (octets, origin) in batch.datagrams() {
                    assert_eq!(octets.len(), size);
                    assert!(octets.iter().all(|&octet| octet == seen));
                    assert_eq!(origin.peer, sender.local_addr().unwrap());
                    assert_eq!(origin.local, Some("127.0.0.1".parse().unwrap()));
                    seen += 1;
                }
            }
        }
    }

    #[test]
    fn an_answer_leaves_from_the_address_and_port_that_were_asked() {
        // A socket that listens everywhere: the kernel would answer 127.0.0.1 from 127.0.0.1.
        for (any, own) in [("0.0.0.0:0", "127.0.0.77"), ("[::]:0", "::1")] {
            let socket = bind(any.parse().unwrap(), 1 << 20, Duration::from_secs(10)).unwrap();
            let sender = UdpSocket::bind((own.parse::<IpAddr>().unwrap(), 0)).unwrap();
            let asked = SocketAddr::new(own.parse().unwrap(), socket.local_addr().unwrap().port());
            sender.send_to(b"ask", asked).unwrap();
            let mut batch = Batch::new();
            batch.receive(&socket).unwrap();
            let (_, origin) = batch.datagrams().next().unwrap();
            assert_eq!(origin.local, Some(asked.ip()));
            answer(&socket, b"answer", &origin).unwrap();
            sender.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut got = [0; 16];
            let (length, from) = sender.recv_from(&mut got).unwrap();
            assert_eq!((&got[..length], from), (&b"answer"[..], asked));
        }
    }

    #[test]
    fn a_group_is_steered_by_the_source_address_alone() {
        for (any, count) in [("127.0.0.1:0", 4), ("[::1]:0", 4)] {
            let tick = Duration::from_millis(10);
            let first = bind(any.parse().unwrap(), 1 << 20, tick).unwrap();
            let address = first.local_addr().unwrap();
            let mut group = vec![first];
            group.extend((1..count).map(|_| bind(address, 1 << 20, tick).unwrap()));
            steer_by_source(&group[0], address, count).unwrap();
            // Loopback has one address of IPv6, but 2^24 of IPv4.
            let sources: Vec<IpAddr> = match address {
                SocketAddr::V4(_) => (1..=64).map(|last| Ipv4Addr::new(127, 0, 3, last).into()).collect(),
                SocketAddr::V6(_) => vec![Ipv6Addr::LOCALHOST.into()],
            };
            for &source in &sources {
                for _ in 0..20 {
                    // From a port of its own each time: by ports alone it would go to any of them.
                    UdpSocket::bind((source, 0)).unwrap().send_to(b"x", address).unwrap();
                }
            }
            let mut batch = Batch::new();
            let mut home = std::collections::HashMap::new();
            let mut used = std::collections::HashSet::new();
            let mut read = 0;
            for (at, socket) in group.iter().enumerate() {
                while let Ok(more) = batch.receive(socket) {
                    read += more;
                    for (_, origin) in batch.datagrams() {
                        assert_eq!(*home.entry(origin.peer.ip()).or_insert(at), at, "one source, one socket");
                        used.insert(at);
                    }
                }
            }
            assert_eq!(read, sources.len() * 20);
            assert_eq!(used.len(), count.min(sources.len()), "and each socket has its sources");
        }
    }

    #[test]
    fn a_batch_is_put_in_the_order_of_its_stamps() {
        let sorted = |stamps: &[i64]| {
            let mut order = vec![9; stamps.len()];
            put_in_order(stamps, &mut order);
            order
        };
        assert_eq!(sorted(&[5, 6, 6, 7]), [0, 1, 2, 3]);
        assert_eq!(sorted(&[7, 5, 6, 5]), [1, 3, 2, 0]);
        assert_eq!(sorted(&[]), [0; 0]);
        let set_back = [10 * OUT_OF_ORDER, 1, 2];
        assert_eq!(sorted(&set_back), [0, 1, 2], "a clock that is set orders nothing");
        // And the kernel gives stamps.
        let socket = bind("127.0.0.1:0".parse().unwrap(), 1 << 20, Duration::from_secs(10)).unwrap();
        let before = Timestamp::now();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", socket.local_addr().unwrap()).unwrap();
        let mut batch = Batch::new();
        batch.receive(&socket).unwrap();
        let arrived = batch.datagrams().next().unwrap().1.arrived.unwrap();
        // Before its first timestamped socket the kernel stamps at the reading.
        assert!(before <= arrived && arrived <= Timestamp::now(), "{arrived}");
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
