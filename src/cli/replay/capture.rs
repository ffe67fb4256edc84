//! From a capture file to the UDP datagrams in it: pcap and pcapng, the usual link types, VLAN tags, IPv4 and IPv6,
//! fragments put together.

use std::collections::HashMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use etherparse::defrag::IpDefragPool;
use etherparse::{EtherType, IpNumber, Ipv6ExtensionSlice, NetSlice, SlicedPacket, TransportSlice, UdpSlice};
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};
use serde::Serialize;

use crate::event::Timestamp;

/// How far the buffer for one block grows: no sane capture has larger ones.
const MAX_BLOCK: usize = 16 << 20;
/// A datagram whose last fragment has not come within so many packets stays incomplete.
const FRAGMENTS_WITHIN: u64 = 4_096;

/// One UDP datagram of a capture.
#[derive(Debug)]
pub(super) struct Captured<'a> {
    /// The number of its (last) packet, from 1, as Wireshark shows it.
    pub(super) packet: u64,
    pub(super) time: Timestamp,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) octets: &'a [u8],
}

/// What of the file could not be read as a datagram.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Skipped {
    /// Neither UDP nor a fragment of it.
    pub(super) other: u64,
    /// TCP segments: connections are not put together.
    pub(super) tcp: u64,
    /// Packets that are damaged.
    pub(super) damaged: u64,
    /// Packets of which the capture holds the beginning alone.
    pub(super) cut: u64,
    /// Packets of a link type that is not read.
    pub(super) link_type: u64,
    /// Fragments of datagrams that are not whole in the capture.
    pub(super) incomplete: u64,
}

/// A packet that is not read, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) packet: u64,
    pub(super) problem: String,
}

/// Where packets come from within a file.
struct Interface {
    link: Linktype,
    /// Ticks a second, and the seconds that the clock began at; of pcapng.
    resolution: u64,
    offset: i64,
}

/// Reads the file and gives each datagram to `take`, and each packet that could have been one to `problem`.
///
/// # Errors
/// One sentence: the file cannot be read, is no capture, or breaks off in the middle of a block.
pub(super) fn read<E>(
    path: &Path,
    mut take: impl FnMut(&Captured<'_>) -> Result<(), E>,
    mut problem: impl FnMut(Problem) -> Result<(), E>,
) -> Result<Result<(u64, Skipped), E>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut reader = match create_reader(1 << 16, file) {
        Ok(reader) => reader,
        Err(PcapError::Eof) => return Err("it is empty".to_owned()),
        Err(_) => return Err("it is neither pcap nor pcapng".to_owned()),
    };
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut nanoseconds = false;
    let mut packets = Packets::default();
    let mut last_refill = (0u64, 0usize);
    loop {
        match reader.next() {
            Ok((length, block)) => {
                let done = match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        nanoseconds = header.is_nanosecond_precision();
                        interfaces =
                            vec![Interface { link: header.network, resolution: 1_000_000, offset: 0 }];
                        Ok(())
                    }
                    PcapBlockOwned::Legacy(block) => {
                        let below = if nanoseconds { block.ts_usec / 1_000 } else { block.ts_usec };
                        let time = Timestamp(i64::from(block.ts_sec) * 1_000_000 + i64::from(below));
                        let cut = block.data.len() < block.origlen as usize;
                        packets.packet(interfaces.first(), time, block.data, cut, &mut take, &mut problem)
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                        interfaces.clear();
                        Ok(())
                    }
                    PcapBlockOwned::NG(Block::InterfaceDescription(own)) => {
                        interfaces.push(Interface {
                            link: own.linktype,
                            resolution: own.ts_resolution().unwrap_or(1_000_000),
                            offset: own.ts_offset(),
                        });
                        Ok(())
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                        let own = interfaces.get(block.if_id as usize);
                        let ticks = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                        let time = own.map_or(Timestamp(0), |own| own.time(ticks));
                        let data = block.packet_data();
                        let cut = data.len() < block.origlen as usize;
                        packets.packet(own, time, data, cut, &mut take, &mut problem)
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(block)) => {
                        let data = block.packet_data();
                        let cut = data.len() < block.origlen as usize;
                        packets.packet(interfaces.first(), Timestamp(0), data, cut, &mut take, &mut problem)
                    }
                    PcapBlockOwned::NG(_) => Ok(()),
                };
                reader.consume(length);
                if let Err(error) = done {
                    return Ok(Err(error));
                }
            }
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => {
                // Nothing more came since the last time: the file ends here.
                let now = (packets.number, reader.data().len());
                if now == last_refill {
                    return Err(format!("it breaks off behind packet {}", packets.number));
                }
                last_refill = now;
                match reader.refill() {
                    Ok(()) => {}
                    Err(PcapError::BufferTooSmall) => grow(&mut *reader)?,
                    Err(_) => return Err("reading it failed".to_owned()),
                }
            }
            Err(PcapError::BufferTooSmall) => grow(&mut *reader)?,
            Err(PcapError::UnexpectedEof) => {
                return Err(format!("it breaks off behind packet {}", packets.number));
            }
            Err(_) => return Err(format!("it is damaged behind packet {}", packets.number)),
        }
    }
    Ok(packets.end(&mut problem))
}

fn grow(reader: &mut dyn pcap_parser::traits::PcapReaderIterator) -> Result<(), String> {
    let size = 2 * reader.data().len().max(1 << 16);
    if size > MAX_BLOCK || !reader.grow(size) {
        return Err(format!("it has a block above {MAX_BLOCK} octets"));
    }
    Ok(())
}

impl Interface {
    fn time(&self, ticks: u64) -> Timestamp {
        let resolution = self.resolution.max(1);
        let seconds = i64::try_from(ticks / resolution).unwrap_or(0).saturating_add(self.offset);
        let micros = u128::from(ticks % resolution) * 1_000_000 / u128::from(resolution);
        Timestamp(seconds.saturating_mul(1_000_000).saturating_add(micros as i64))
    }
}

/// The packets of a file, one after the other.
#[derive(Default)]
struct Packets {
    number: u64,
    skipped: Skipped,
    pool: Option<IpDefragPool<u64, ()>>,
    /// The datagrams that are not whole yet: their last packet, and how many fragments there were.
    partial: HashMap<FragmentsOf, (u64, u64)>,
}

/// What fragments of one datagram have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FragmentsOf {
    from: IpAddr,
    to: IpAddr,
    identification: u32,
}

impl Packets {
    fn packet<E>(
        &mut self,
        interface: Option<&Interface>,
        time: Timestamp,
        data: &[u8],
        cut: bool,
        take: &mut impl FnMut(&Captured<'_>) -> Result<(), E>,
        problem: &mut impl FnMut(Problem) -> Result<(), E>,
    ) -> Result<(), E> {
        self.number += 1;
        let number = self.number;
        let mut tell = |text: String| problem(Problem { packet: number, problem: text });
        let Some(interface) = interface else {
            self.skipped.damaged += 1;
            return tell("it names an interface that the file does not describe".to_owned());
        };
        let sliced = match slice(interface.link, data) {
            Ok(Some(sliced)) => sliced,
            Ok(None) => {
                self.skipped.link_type += 1;
                return tell(format!("the link type {} is not read", interface.link.0));
            }
            Err(_) if cut => {
                self.skipped.cut += 1;
                return tell("the capture holds its beginning alone; capture with -s 0".to_owned());
            }
            Err(error) => {
                self.skipped.damaged += 1;
                return tell(error);
            }
        };
        let Some((from, to)) = addresses(&sliced) else {
            self.skipped.other += 1;
            return Ok(());
        };
        if sliced.is_ip_payload_fragmented() {
            return match self.fragment(&sliced, from, to) {
                Ok(Some(whole)) => self.datagram(&whole, (from, to), time, take, problem),
                Ok(None) => Ok(()),
                Err(text) => tell(text),
            };
        }
        match &sliced.transport {
            Some(TransportSlice::Udp(udp)) => take(&Captured {
                packet: number,
                time,
                from: (from, udp.source_port()).into(),
                to: (to, udp.destination_port()).into(),
                octets: udp.payload(),
            }),
            Some(TransportSlice::Tcp(_)) => {
                self.skipped.tcp += 1;
                Ok(())
            }
            _ => {
                self.skipped.other += 1;
                Ok(())
            }
        }
    }

    /// Adds a fragment; gives the UDP datagram that it makes whole.
    fn fragment(
        &mut self,
        sliced: &SlicedPacket<'_>,
        from: IpAddr,
        to: IpAddr,
    ) -> Result<Option<Vec<u8>>, String> {
        let Some((identification, protocol)) = fragment_of(sliced) else {
            self.skipped.damaged += 1;
            return Err("a fragment without its header".to_owned());
        };
        if protocol != IpNumber::UDP {
            self.skipped.other += 1;
            return Ok(None);
        }
        let of = FragmentsOf { from, to, identification };
        let number = self.number;
        let pool = self.pool.get_or_insert_with(IpDefragPool::new);
        let partial = self.partial.entry(of).or_insert((number, 0));
        *partial = (number, partial.1 + 1);
        match pool.process_sliced_packet(sliced, number, ()) {
            Ok(Some(whole)) => {
                self.partial.remove(&of);
                Ok(Some(whole.payload))
            }
            Ok(None) => {
                if number.is_multiple_of(FRAGMENTS_WITHIN) {
                    pool.retain(|last| last + FRAGMENTS_WITHIN > number);
                }
                Ok(None)
            }
            Err(error) => {
                self.skipped.damaged += 1;
                Err(format!("a fragment that does not fit: {error}"))
            }
        }
    }

    /// The payload of IP that fragments have made.
    fn datagram<E>(
        &mut self,
        payload: &[u8],
        (from, to): (IpAddr, IpAddr),
        time: Timestamp,
        take: &mut impl FnMut(&Captured<'_>) -> Result<(), E>,
        problem: &mut impl FnMut(Problem) -> Result<(), E>,
    ) -> Result<(), E> {
        match UdpSlice::from_slice(payload) {
            Ok(udp) => take(&Captured {
                packet: self.number,
                time,
                from: (from, udp.source_port()).into(),
                to: (to, udp.destination_port()).into(),
                octets: udp.payload(),
            }),
            Err(error) => {
                self.skipped.damaged += 1;
                problem(Problem { packet: self.number, problem: error.to_string() })
            }
        }
    }

    fn end<E>(mut self, problem: &mut impl FnMut(Problem) -> Result<(), E>) -> Result<(u64, Skipped), E> {
        let mut left: Vec<_> = self.partial.into_iter().collect();
        left.sort_by_key(|(_, (packet, _))| *packet);
        for (of, (packet, fragments)) in left {
            self.skipped.incomplete += fragments;
            let FragmentsOf { from, to, .. } = of;
            let problem_text =
                format!("a datagram from {from} to {to} is not whole: {fragments} fragments of it are here");
            problem(Problem { packet, problem: problem_text })?;
        }
        Ok((self.number, self.skipped))
    }
}

/// The packet from its link layer on; `None` for a link type that is not read.
fn slice(link: Linktype, data: &[u8]) -> Result<Option<SlicedPacket<'_>>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let ip = |data| SlicedPacket::from_ip(data).map(Some).map_err(|error| text(&error));
    match link {
        Linktype::ETHERNET => SlicedPacket::from_ethernet(data).map(Some).map_err(|error| text(&error)),
        Linktype::LINUX_SLL => SlicedPacket::from_linux_sll(data).map(Some).map_err(|error| text(&error)),
        // The protocol first, the payload behind 20 octets.
        Linktype::LINUX_SLL2 => match (data.get(..2), data.get(20..)) {
            (Some(&[high, low]), Some(rest)) => {
                let protocol = EtherType(u16::from_be_bytes([high, low]));
                SlicedPacket::from_ether_type(protocol, rest).map(Some).map_err(|error| text(&error))
            }
            _ => Err("shorter than its link layer's header".to_owned()),
        },
        // The address family first, in whatever order of octets: the IP version says it again.
        Linktype::NULL | Linktype::LOOP => match data.get(4..) {
            Some(rest) => ip(rest),
            None => Err("shorter than its link layer's header".to_owned()),
        },
        // 12 and 14 are what systems call raw IP in their own files.
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => ip(data),
        _ => Ok(None),
    }
}

fn addresses(sliced: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        Some(NetSlice::Ipv6(ip)) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        _ => None,
    }
}

/// The identification of a fragment, and what the whole is.
fn fragment_of(sliced: &SlicedPacket<'_>) -> Option<(u32, IpNumber)> {
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => Some((ip.header().identification().into(), ip.payload().ip_number)),
        Some(NetSlice::Ipv6(ip)) => {
            ip.extensions().clone().into_iter().find_map(|extension| match extension {
                Ipv6ExtensionSlice::Fragment(fragment) => {
                    Some((fragment.to_header().identification, ip.payload().ip_number))
                }
                _ => None,
            })
        }
        _ => None,
    }
}
