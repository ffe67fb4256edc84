//! The codec: datagrams to notifications, and back.
//!
//! * [`decode`] takes a datagram apart without copying or allocating: [`Message`] borrows it.
//! * [`Notification`] is what SNMPv1 and SNMPv2c traps and informs have in common once RFC 3584
//!   section 3.1 has mapped the first to the second. Its varbinds were checked, so that walking
//!   them cannot fail.
//! * [`decode_pdu`] reads a PDU again that was kept from a message ([`CommunityMessage::pdu`]).
//! * [`encode_v1`], [`encode_v2c`] and [`encode_response`] are the way back; [`decode_response`] is for who asks.
//! * [`encode_as_received`] and [`encode_translated`] send on to another receiver what was kept.
//! * [`V3Header`] is the outer structure of an SNMPv3 message; [`usm`] has its keys, digests and ciphers,
//!   and [`encode_v3`] the way back.
//!
//! Every input is refused with a [`DecodeError`] or walks to its end: nothing panics, recurses, or
//! grows with what a packet says.

mod ber;
mod encode;
mod error;
mod forward;
mod message;
mod pdu;
mod response;
pub mod usm;
mod varbind;

pub use crate::version::Version;
pub use encode::{OutgoingVarbind, V1Trap, V2Notification, encode_response, encode_v1, encode_v2c};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use forward::{Forwarded, encode_as_received, encode_translated};
pub use message::{CommunityMessage, Message, decode};
pub use pdu::{Kind, Notification, TrapOid, decode_pdu};
pub use response::{ReplyPdu, Response, decode_reply_pdu, decode_response};
pub use usm::{ScopedData, ScopedPdu, UsmParameters, V3Flags, V3Header, encode_v3};
pub use varbind::{Iter, Varbind, Varbinds, names};

/// The largest message that is decoded or made, in octets: what a UDP datagram can hold at most.
pub const MAX_MESSAGE_SIZE: usize = 65_535;

/// The most varbinds of one notification. A datagram has room for some 9,000 of the smallest; real
/// notifications hold fewer than a hundred, and each varbind becomes a hundred octets of JSON later.
pub const MAX_VARBINDS: usize = 4_096;
