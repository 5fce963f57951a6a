//! Symmetric keys and their MACs: MD5 and SHA-1 over key and message, as NTP has had them since version 3
//! (RFC 5905 §7.3), and AES-128-CMAC (RFC 8573).
//!
//! The digests come from `RustCrypto`'s crates. A key's octets are kept only inside its prepared digest, and
//! are never shown.

use aes::Aes128;
use cmac::digest::Digest;
use cmac::{Cmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use std::fmt;
use std::str::FromStr;

/// Octets of the key identifier.
const ID_LENGTH: usize = 4;
/// The longest digest, SHA-1's, in octets.
const DIGEST_LENGTH_MAX: usize = 20;
/// Octets of an AES-128 key.
const AES128_KEY_LENGTH: usize = 16;
/// No server takes longer keys than these many octets.
const KEY_LENGTH_MAX: usize = 64;

/// A key with its number and its kind, prepared for signing.
#[derive(Clone)]
pub struct Key {
    id: u32,
    digest: Prepared,
}

/// A digest that has taken in its key.
#[derive(Clone)]
enum Prepared {
    Md5(Md5),
    Sha1(Sha1),
    Aes128(Box<Cmac<Aes128>>),
}

/// Why a text is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Not three parts.
    #[error("a key is ID:TYPE:HEX, as in 7:SHA1:0123456789abcdef")]
    Form,
    /// No number, or 0.
    #[error("a key's ID is a number from 1 to 4294967295 (0 says that authentication failed)")]
    Id,
    /// Another digest.
    #[error("a key's TYPE is MD5, SHA1 or AES128")]
    Type,
    /// No hexadecimal octets.
    #[error("a key's HEX is 1 to 64 octets, each as two hexadecimal digits")]
    Hex,
    /// AES-128 has one length.
    #[error("an AES128 key has 16 octets (32 hexadecimal digits), and this one has {0}")]
    Aes128Length(usize),
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.split(':');
        let (Some(id), Some(kind), Some(hex), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyError::Form);
        };
        let id = id.parse().ok().filter(|id| *id != 0).ok_or(KeyError::Id)?;
        let octets = octets(hex).ok_or(KeyError::Hex)?;
        let digest = match kind.to_ascii_uppercase().as_str() {
            "MD5" => Prepared::Md5(Md5::new_with_prefix(&octets)),
            "SHA1" => Prepared::Sha1(Sha1::new_with_prefix(&octets)),
            "AES128" => {
                let octets: [u8; AES128_KEY_LENGTH] =
                    octets.as_slice().try_into().map_err(|_| KeyError::Aes128Length(octets.len()))?;
                Prepared::Aes128(Box::new(Cmac::new(&octets.into())))
            }
            _ => return Err(KeyError::Type),
        };
        Ok(Self { id, digest })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    /// Signs the first `length` octets of `packet`, puts key identifier and digest behind them, and says how
    /// long the whole is.
    ///
    /// # Panics
    /// If there is no room for them.
    #[inline]
    pub fn sign(&self, packet: &mut [u8], length: usize) -> usize {
        let (message, rest) = packet.split_at_mut(length);
        let mut digest = [0; DIGEST_LENGTH_MAX];
        let digest = self.digest(message, &mut digest);
        rest[..ID_LENGTH].copy_from_slice(&self.id.to_be_bytes());
        rest[ID_LENGTH..ID_LENGTH + digest.len()].copy_from_slice(digest);
        length + ID_LENGTH + digest.len()
    }

    /// Whether `packet` ends in this key's identifier and the right digest of what stands before them.
    #[inline]
    #[must_use]
    pub fn verify(&self, packet: &[u8]) -> bool {
        let Some((message, rest)) = packet
            .len()
            .checked_sub(ID_LENGTH + self.digest_length())
            .and_then(|length| packet.split_at_checked(length))
        else {
            return false;
        };
        let (id, theirs) = rest.split_at(ID_LENGTH);
        let mut ours = [0; DIGEST_LENGTH_MAX];
        id == self.id.to_be_bytes() && theirs == self.digest(message, &mut ours)
    }

    const fn digest_length(&self) -> usize {
        match self.digest {
            Prepared::Md5(_) | Prepared::Aes128(_) => 16,
            Prepared::Sha1(_) => 20,
        }
    }

    /// The digest of `message`, at the front of `into`.
    fn digest<'a>(&self, message: &[u8], into: &'a mut [u8; DIGEST_LENGTH_MAX]) -> &'a [u8] {
        let into = &mut into[..self.digest_length()];
        match &self.digest {
            Prepared::Md5(prepared) => {
                into.copy_from_slice(&prepared.clone().chain_update(message).finalize())
            }
            Prepared::Sha1(prepared) => {
                into.copy_from_slice(&prepared.clone().chain_update(message).finalize())
            }
            Prepared::Aes128(prepared) => {
                let mut mac = Cmac::clone(prepared);
                mac.update(message);
                into.copy_from_slice(&mac.finalize().into_bytes());
            }
        }
        into
    }
}

/// Two hexadecimal digits an octet.
fn octets(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let fits = !digits.is_empty() && digits.len().is_multiple_of(2) && digits.len() <= 2 * KEY_LENGTH_MAX;
    fits.then(|| {
        digits
            .chunks(2)
            .map(|pair| {
                let digit =
                    |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
                Some(digit(pair[0])? << 4 | digit(pair[1])?)
            })
            .collect()
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key identifier and digest of a message under a key, in hexadecimal.
    fn signed(key: &str, message: &[u8]) -> String {
        let key: Key = key.parse().expect("a key");
        let mut packet = [message, &[0; ID_LENGTH + DIGEST_LENGTH_MAX]].concat();
        let length = key.sign(&mut packet, message.len());
        assert!(key.verify(&packet[..length]) && !key.verify(&packet[..length - 1]));
        packet[message.len()..length].iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        // RFC 1321 §A.5 and RFC 3174 §7.3 have "abc", which here is key and message one after the other.
        assert_eq!(signed("7:MD5:61", b"bc"), "00000007900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(signed("7:SHA1:6162", b"c"), "00000007a9993e364706816aba3e25717850c26c9cd0d89d");
        // RFC 4493 §4, examples 1 and 2.
        let key = "4294967295:AES128:2b7e151628aed2a6abf7158809cf4f3c";
        assert_eq!(signed(key, b""), "ffffffffbb1d6929e95937287fa37d129b756746");
        let message = 0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128.to_be_bytes();
        assert_eq!(signed(key, &message), "ffffffff070a16b46b4d4144f79bdd9dd04a287c");
    }

    #[test]
    fn another_key_or_identifier_does_not_verify() {
        let key = |text: &str| text.parse::<Key>().expect("a key");
        let mut packet = [5; 72];
        let length = key("7:SHA1:0102").sign(&mut packet, 48);
        assert!(key("7:SHA1:0102").verify(&packet[..length]));
        for other in ["8:SHA1:0102", "7:SHA1:0103", "7:MD5:0102"] {
            assert!(!key(other).verify(&packet[..length]), "{other}");
        }
        assert!(!key("7:SHA1:0102").verify(&packet[..3]));
    }

    #[test]
    fn what_is_no_key_says_why() {
        for (text, error) in [
            ("", KeyError::Form),
            ("7:MD5", KeyError::Form),
            ("7:MD5:00:00", KeyError::Form),
            ("0:MD5:00", KeyError::Id),
            ("4294967296:MD5:00", KeyError::Id),
            ("x:MD5:00", KeyError::Id),
            ("7:MD4:00", KeyError::Type),
            ("7:MD5:", KeyError::Hex),
            ("7:MD5:0", KeyError::Hex),
            ("7:MD5:0g", KeyError::Hex),
            ("7:AES128:00", KeyError::Aes128Length(1)),
        ] {
            assert_eq!(text.parse::<Key>().err(), Some(error), "{text}");
        }
        assert_eq!(format!("7:MD5:{}", "00".repeat(65)).parse::<Key>().err(), Some(KeyError::Hex));
        assert!(format!("7:MD5:{}", "00".repeat(64)).parse::<Key>().is_ok());
    }

    #[test]
    fn a_key_does_not_show_its_octets() {
        let key: Key = "7:MD5:c0ffee".parse().expect("a key");
        assert_eq!(format!("{key:?}"), "Key { id: 7, .. }");
    }
}
