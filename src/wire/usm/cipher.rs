//! Privacy: CBC-DES (RFC 3414 section 8), CBC-3DES-EDE, CFB128-AES (RFC 3826). Encryption adds nothing that
//! tells a wrong key: the digest, verified before, does that for the sender, and the structure of what comes
//! out for the key.

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::array::Array;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use des::{Des, TdesEde3};

use super::key::PrivacyKey;
use crate::security::PrivacyProtocol;

/// msgPrivacyParameters of every protocol here.
pub(super) const SALT_OCTETS: usize = 8;
const DES_BLOCK: usize = 8;

/// msgPrivacyParameters of another length than eight, or octets that no CBC makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecryptError;

impl PrivacyKey {
    /// Decrypts `data` into `out`, which is emptied before and not allocated anew once it is large enough.
    /// `salt` is msgPrivacyParameters, `boots` and `time` are those of the message.
    ///
    /// # Errors
    /// [`DecryptError`]. A wrong key is none: it gives other octets, which are hardly a scoped PDU.
    pub fn decrypt(
        &self,
        boots: u32,
        time: u32,
        salt: &[u8],
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), DecryptError> {
        out.clear();
        let salt: [u8; SALT_OCTETS] = salt.try_into().map_err(|_| DecryptError)?;
        out.extend_from_slice(data);
        let (key, iv) = self.key_and_iv(boots, time, salt);
        let iv = &iv[..];
        let done = match self.protocol() {
            PrivacyProtocol::Des => cbc_decrypt::<cbc::Decryptor<Des>>(key, &iv[..DES_BLOCK], out),
            PrivacyProtocol::TripleDes => cbc_decrypt::<cbc::Decryptor<TdesEde3>>(key, &iv[..DES_BLOCK], out),
            PrivacyProtocol::Aes128 => {
                cfb_mode::Decryptor::<Aes128>::new_from_slices(key, iv).map(|mode| mode.decrypt(out)).is_ok()
            }
            PrivacyProtocol::Aes192 | PrivacyProtocol::Aes192C => {
                cfb_mode::Decryptor::<Aes192>::new_from_slices(key, iv).map(|mode| mode.decrypt(out)).is_ok()
            }
            PrivacyProtocol::Aes256 | PrivacyProtocol::Aes256C => {
                cfb_mode::Decryptor::<Aes256>::new_from_slices(key, iv).map(|mode| mode.decrypt(out)).is_ok()
            }
        };
        if done { Ok(()) } else { Err(DecryptError) }
    }

    /// Encrypts `data` where it lies, padded for CBC, and gives msgPrivacyParameters. `salt` must not come
    /// twice under one key; for DES and 3DES its lower half alone is used, behind the boots.
    pub(super) fn encrypt(&self, boots: u32, time: u32, salt: u64, data: &mut Vec<u8>) -> [u8; SALT_OCTETS] {
        let salt = match self.protocol() {
            PrivacyProtocol::Des | PrivacyProtocol::TripleDes => {
                u64::from(boots) << 32 | (salt & u64::from(u32::MAX))
            }
            _ => salt,
        };
        let salt = salt.to_be_bytes();
        let (key, iv) = self.key_and_iv(boots, time, salt);
        let iv = &iv[..];
        // Key and IV have the lengths that the protocol wants: none of these fails.
        let done = match self.protocol() {
            PrivacyProtocol::Des => cbc_encrypt::<cbc::Encryptor<Des>>(key, &iv[..DES_BLOCK], data),
            PrivacyProtocol::TripleDes => {
                cbc_encrypt::<cbc::Encryptor<TdesEde3>>(key, &iv[..DES_BLOCK], data)
            }
            PrivacyProtocol::Aes128 => {
                cfb_mode::Encryptor::<Aes128>::new_from_slices(key, iv).map(|mode| mode.encrypt(data)).is_ok()
            }
            PrivacyProtocol::Aes192 | PrivacyProtocol::Aes192C => {
                cfb_mode::Encryptor::<Aes192>::new_from_slices(key, iv).map(|mode| mode.encrypt(data)).is_ok()
            }
            PrivacyProtocol::Aes256 | PrivacyProtocol::Aes256C => {
                cfb_mode::Encryptor::<Aes256>::new_from_slices(key, iv).map(|mode| mode.encrypt(data)).is_ok()
            }
        };
        // Better nothing than octets in the clear.
        if !done {
            data.clear();
        }
        salt
    }

    /// The cipher's own key, and its IV in the first octets.
    fn key_and_iv(&self, boots: u32, time: u32, salt: [u8; SALT_OCTETS]) -> (&[u8], [u8; 16]) {
        let mut iv = [0; 16];
        let (key, pre_iv) = match self.protocol() {
            PrivacyProtocol::Des => self.expose().split_at(DES_BLOCK),
            PrivacyProtocol::TripleDes => self.expose().split_at(3 * DES_BLOCK),
            _ => {
                iv[..4].copy_from_slice(&boots.to_be_bytes());
                iv[4..8].copy_from_slice(&time.to_be_bytes());
                iv[8..].copy_from_slice(&salt);
                return (self.expose(), iv);
            }
        };
        for ((octet, pre_iv), salt) in iv.iter_mut().zip(pre_iv).zip(salt) {
            *octet = pre_iv ^ salt;
        }
        (key, iv)
    }
}

fn cbc_decrypt<M: BlockModeDecrypt + KeyIvInit>(key: &[u8], iv: &[u8], octets: &mut [u8]) -> bool {
    let Ok(mut mode) = M::new_from_slices(key, iv) else { return false };
    let (blocks, rest) = Array::slice_as_chunks_mut(octets);
    mode.decrypt_blocks(blocks);
    rest.is_empty() && !blocks.is_empty()
}

fn cbc_encrypt<M: BlockModeEncrypt + KeyIvInit>(key: &[u8], iv: &[u8], octets: &mut Vec<u8>) -> bool {
    let Ok(mut mode) = M::new_from_slices(key, iv) else { return false };
    octets.resize(octets.len().next_multiple_of(DES_BLOCK), 0);
    let (blocks, rest) = Array::slice_as_chunks_mut(octets);
    mode.encrypt_blocks(blocks);
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_is_decrypted_again() {
        for protocol in PrivacyProtocol::ALL {
            let octets: Vec<u8> = (1..=protocol.key_octets() as u8).collect();
            let key = PrivacyKey::from_octets(protocol, &octets).unwrap();
            for length in [1, 7, 8, 9, 15, 16, 17, 100, 1_000] {
                let plain: Vec<u8> = (0..length).map(|at| at as u8).collect();
                let mut data = plain.clone();
                let salt = key.encrypt(7, 1_234, u64::MAX - 5, &mut data);
                assert_ne!(data[..length], plain, "{protocol}");
                let mut out = Vec::new();
                key.decrypt(7, 1_234, &salt, &data, &mut out).unwrap();
                assert_eq!(out[..length], plain, "{protocol}");
                // CBC alone pads; of AES, boots and time are part of the IV.
                let cbc = matches!(protocol, PrivacyProtocol::Des | PrivacyProtocol::TripleDes);
                assert_eq!(out.len(), if cbc { length.next_multiple_of(8) } else { length });
                key.decrypt(7, 1_235, &salt, &data, &mut out).unwrap();
                assert_eq!(out[..length] == plain, cbc);
                assert_eq!(key.decrypt(7, 1_234, &salt[1..], &data, &mut out), Err(DecryptError));
                assert_eq!(
                    key.decrypt(7, 1_234, &[salt.as_slice(), &[0]].concat(), &data, &mut out),
                    Err(DecryptError)
                );
                if cbc {
                    assert_eq!(key.decrypt(7, 1_234, &salt, &data[1..], &mut out), Err(DecryptError));
                    assert_eq!(key.decrypt(7, 1_234, &salt, &[], &mut out), Err(DecryptError));
                }
            }
        }
    }
}
