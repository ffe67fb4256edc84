//! What has to be true of any message that its user's key signed, whatever is in it. Used by `tests/usm_any.rs` and by
//! the fuzz target `usm`.
//!
//! A fuzzer cannot make a digest: the message is made of its octets here, encrypted or not, and signed.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use nereus::config;
use nereus::event::{Timestamp, Verdict};
use nereus::metrics::{DropReason, Metrics};
use nereus::mib::Mib;
use nereus::pipeline::{Datagram, Engines, LocalEngine, ReplyKind, Scratch, Usm, process, settle};
use nereus::security::{AuthProtocol, EngineId, PrivacyProtocol};
use nereus::snapshot::{self, Publisher, Snapshot};
use nereus::wire::usm::MasterKey;
use nereus::wire::{self, Kind, Message, ScopedPdu, Version};

/// The engines of what is made: a device's, and the own one.
const DEVICE: &[u8] = &[0x80, 0, 0, 0, 9, 9];
const OWN: &[u8] = &[0x80, 0, 0, 0, 5, 1, 2, 3];
const BOOTS: u32 = 7;

struct Bed {
    snapshot: Arc<Snapshot>,
    own: EngineId,
    masters: Vec<MasterKey>,
}

fn name(auth: AuthProtocol, privacy: Option<PrivacyProtocol>) -> String {
    format!("{auth}-{}", privacy.map_or("none", PrivacyProtocol::as_str))
}

fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(|| {
        let mut text = "unmatched: store\naccess:\n  users:\n".to_owned();
        for auth in AuthProtocol::ALL {
            for privacy in std::iter::once(None).chain(PrivacyProtocol::ALL.map(Some)) {
                let user = name(auth, privacy);
                text +=
                    &format!("    - {{name: {user}, auth: {{protocol: {auth}, passphrase: authentication}}");
                if let Some(privacy) = privacy {
                    text += &format!(", privacy: {{protocol: {privacy}, passphrase: authentication}}");
                }
                text += "}\n";
            }
        }
        let loaded = config::parse("any.yaml", text.as_bytes(), &config::System)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let candidate = snapshot::build(loaded.settings, Mib::builtin(), None)
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        Bed {
            snapshot: Arc::clone(Publisher::new(candidate, 1).expect("a thread").current()),
            own: EngineId::new(OWN).expect("an engine ID"),
            masters: AuthProtocol::ALL
                .map(|protocol| MasterKey::from_passphrase(protocol, b"authentication"))
                .into(),
        }
    })
}

/// Minimal BER, sharing nothing with `wire::encode`.
pub(crate) fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let length = contents.len();
    let mut out = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length / 256) as u8, (length % 256) as u8],
    };
    out.extend(contents);
    out
}

/// The digest of `message` at `at`, by trying what the library verifies: it has no way to sign but to write whole
/// messages, so HMAC stands here by its definition (RFC 2104).
fn hmac(protocol: AuthProtocol, key: &[u8], message: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    fn run<D: Digest>(block: usize, key: &[u8], message: &[u8]) -> Vec<u8> {
        let mut padded = key.to_vec();
        padded.resize(block, 0);
        let pad = |with: u8| padded.iter().map(|octet| octet ^ with).collect::<Vec<u8>>();
        let inner = D::new().chain_update(pad(0x36)).chain_update(message).finalize();
        D::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
    }
    match protocol {
        AuthProtocol::Md5 => run::<md5::Md5>(64, key, message),
        AuthProtocol::Sha1 => run::<sha1::Sha1>(64, key, message),
        AuthProtocol::Sha224 => run::<sha2::Sha224>(64, key, message),
        AuthProtocol::Sha256 => run::<sha2::Sha256>(64, key, message),
        AuthProtocol::Sha384 => run::<sha2::Sha384>(128, key, message),
        AuthProtocol::Sha512 => run::<sha2::Sha512>(128, key, message),
    }
}

/// Signs a message around `octets` and holds what becomes of it against what is promised. Says whether it is an event.
pub(crate) fn check(octets: &[u8]) -> bool {
    let &[choice, flags, salt_octets, time, ref data @ ..] = octets else { return false };
    if data.len() > 40_000 {
        return false;
    }
    let bed = bed();
    let auth = AuthProtocol::ALL[usize::from(choice % 6)];
    let privacy = PrivacyProtocol::ALL.get(usize::from(choice / 6) % 8).copied();
    let ours = flags & 1 != 0;
    let engine = if ours { OWN } else { DEVICE };
    let salt = vec![salt_octets; if salt_octets < 250 { 8 } else { usize::from(salt_octets - 249) }];
    let message_flags = [1 | u8::from(privacy.is_some()) << 1 | (flags & 2) << 1];
    // In the clear the octets are the scoped PDU; encrypted they are the cipher's.
    let body = if privacy.is_some() { element(4, &[data]) } else { data.to_vec() };
    let digest = vec![0; auth.digest_octets()];
    let user = name(auth, privacy);
    let parameters = element(
        0x30,
        &[
            &element(4, &[engine]),
            &element(2, &[&[BOOTS as u8]]),
            &element(2, &[&[time & 0x7f]]),
            &element(4, &[user.as_bytes()]),
            &element(4, &[&digest]),
            &element(4, &[if privacy.is_some() { &salt } else { &[] }]),
        ],
    );
    let global = element(
        0x30,
        &[
            &element(2, &[&[9]]),
            &element(2, &[&[0, 0xff, 0xff]]),
            &element(4, &[&message_flags]),
            &element(2, &[&[3]]),
        ],
    );
    let mut message = element(0x30, &[&element(2, &[&[3]]), &global, &element(4, &[&parameters]), &body]);
    let decoded = wire::decode(&message);
    let at = match &decoded {
        Ok(Message::V3(header)) => header.security.authentication_offset as usize,
        Ok(Message::Community(_)) => panic!("version 3"),
        // What stands in the clear may be anything: then nothing behind the digest is looked at.
        Err(_) => {
            assert!(privacy.is_none(), "the envelope of what is encrypted is well-formed");
            return false;
        }
    };
    let key = bed.masters[usize::from(choice % 6)].localize(engine);
    let tag = hmac(auth, key.expose(), &message);
    message[at..at + digest.len()].copy_from_slice(&tag[..digest.len()]);

    let usm =
        Usm::new(LocalEngine::new(bed.own, BOOTS, Timestamp(0)), Arc::new(Engines::new(64)), &Metrics::new());
    let mut scratch = Scratch::with(Arc::new(usm));
    let peer = SocketAddr::from(([10, 0, 0, 7], 4000));
    let datagram = Datagram { octets: &message, peer, listener: 0, received: Timestamp(1) };
    let verdict = process(&bed.snapshot, &datagram, &mut scratch);
    let verdict = settle(verdict, Timestamp(1), &mut scratch);
    let reply = scratch.reply.kind();
    match verdict {
        Verdict::Accepted(event) => {
            let notification =
                wire::decode_pdu(Version::V3, event.pdu()).expect("what was accepted decodes again");
            assert!(event.datagram.starts_with(&message));
            let inform = notification.kind == Kind::Inform;
            assert!(!inform || ours, "an inform for another engine");
            assert_eq!(reply == ReplyKind::ResponseAfterCommit, inform);
            if inform {
                let Ok(Message::V3(response)) = wire::decode(scratch.reply.octets()) else {
                    panic!("a Response")
                };
                assert!(key.verifies(&response));
            }
            true
        }
        Verdict::Dropped(reason) => {
            assert!(
                !matches!(
                    reason,
                    DropReason::WrongDigests | DropReason::UnknownUserNames | DropReason::BelowMinimumLevel
                ),
                "{reason:?} for a right digest"
            );
            assert!(reply == ReplyKind::None || reply == ReplyKind::Report);
            // Nothing that its sender encrypted as it should is a decryption error.
            if let (Some(privacy), DropReason::DecryptionErrors) = (privacy, reason) {
                let key = bed.masters[usize::from(choice % 6)].localize_privacy(privacy, engine);
                let mut plain = Vec::new();
                let done = key.decrypt(BOOTS, u32::from(time & 0x7f), &salt, data, &mut plain);
                assert!(done.is_err() || ScopedPdu::decrypted(&plain).is_err());
            }
            false
        }
    }
}
