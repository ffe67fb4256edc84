//! SNMPv3 messages and the user-based security model (RFC 3412, 3414, 3826, 7860).
//!
//! * `header.rs`: the outer structure of a message, read without any key.
//! * `key.rs`: from a passphrase to the keys of one engine.
//! * `digest.rs`: authentication. `cipher.rs`: privacy.
//! * `outgoing.rs`: whole messages, written, encrypted and signed.
//!
//! Everything here is a pure function of its arguments. Who is believed, which engine is asked and what is
//! too old is decided above.

mod cipher;
mod digest;
mod header;
mod key;
mod outgoing;

pub use cipher::DecryptError;
pub use header::{ScopedData, ScopedPdu, UsmParameters, V3Flags, V3Header};
#[cfg(test)]
pub(crate) use key::derived;
pub use key::{AuthKey, LocalizedKeys, MasterKey, PrivacyKey};
pub use outgoing::{Protection, V3Outgoing, V3Pdu, encode_v3};
