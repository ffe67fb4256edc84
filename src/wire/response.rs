//! The Response to an inform, as its sender reads it (RFC 3416 section 4.2.7).

use super::ber::{self, Reader};
use super::error::{DecodeError, DecodeErrorKind as Kind};
use crate::oid::EncodedOid;
use crate::version::Version;

/// A Response in an SNMPv2c message. Which varbinds it repeats is of no interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// The request-id of what it answers.
    pub request_id: i32,
    /// 0 is noError; RFC 3416 section 3 has the others.
    pub error_status: i32,
    /// Which varbind an error is about, from 1.
    pub error_index: i32,
}

/// Decodes an SNMPv2c message that holds a Response.
///
/// # Errors
/// [`Kind::UnsupportedVersion`] for anything but SNMPv2c, [`Kind::UnexpectedTag`] for any other PDU, and whatever is
/// wrong with the encoding of the header. The varbinds are not looked into.
pub fn decode_response(datagram: &[u8]) -> Result<Response, DecodeError> {
    let mut reader = Reader::new(datagram)?.read_as(ber::SEQUENCE)?.reader();
    let version = reader.read_as(ber::INTEGER)?;
    if version.signed()? != Version::V2c as i32 {
        return Err(version.fail(Kind::UnsupportedVersion));
    }
    reader.read_as(ber::OCTET_STRING)?;
    let mut pdu = reader.read_as(ber::pdu::RESPONSE)?.reader();
    Ok(Response { request_id: pdu.integer()?, error_status: pdu.integer()?, error_index: pdu.integer()? })
}

/// A PDU that comes back to the sender of an SNMPv3 inform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyPdu<'a> {
    /// The Response.
    Response(Response),
    /// A Report, and the name of its first varbind: the counter that says what is wrong.
    Report(EncodedOid<'a>),
}

/// Decodes the PDU of a scoped PDU ([`super::ScopedPdu::pdu`]) that holds a Response or a Report.
///
/// # Errors
/// [`Kind::UnexpectedTag`] for any other PDU, and whatever is wrong with the encoding of what is looked into.
pub fn decode_reply_pdu(pdu: &[u8]) -> Result<ReplyPdu<'_>, DecodeError> {
    let element = Reader::new(pdu)?.read()?;
    let mut reader = element.reader();
    match element.tag {
        ber::pdu::RESPONSE => Ok(ReplyPdu::Response(Response {
            request_id: reader.integer()?,
            error_status: reader.integer()?,
            error_index: reader.integer()?,
        })),
        ber::pdu::REPORT => {
            for _ in 0..3 {
                reader.integer()?;
            }
            let mut list = reader.read_as(ber::SEQUENCE)?.reader();
            let mut varbind = list.read_as(ber::SEQUENCE)?.reader();
            Ok(ReplyPdu::Report(varbind.read_as(ber::OBJECT_IDENTIFIER)?.oid()?))
        }
        _ => Err(element.fail(Kind::UnexpectedTag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oid::OidRef;
    use crate::wire::{Kind as PduKind, Message, V2Notification, decode, encode_response, encode_v2c};

    #[test]
    fn what_encode_response_makes_is_read_and_nothing_else_is() {
        let mut inform = Vec::new();
        let notification = V2Notification {
            community: b"public",
            kind: PduKind::Inform,
            request_id: -7,
            uptime: 1,
            trap_oid: OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 1]),
            varbinds: &[],
        };
        encode_v2c(&notification, &mut inform).unwrap();
        let Ok(Message::Community(message)) = decode(&inform) else { panic!("an inform") };
        let mut answer = Vec::new();
        encode_response(message.version, message.community, &message.notification, &mut answer).unwrap();
        let expected = Response { request_id: -7, error_status: 0, error_index: 0 };
        assert_eq!(decode_response(&answer), Ok(expected));
        assert_eq!(decode_response(&inform).unwrap_err().kind, Kind::UnexpectedTag);
        for cut in 0..answer.len() {
            assert!(decode_response(&answer[..cut]).is_err());
        }
    }
}
