//! Message authentication codes: what follows the header and the extension fields.
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      Key Identifier (32)                      |
//! |               Digest (128: MD5, AES-CMAC; 160: SHA-1)         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! A key identifier of 0 alone is a crypto-NAK (RFC 5905 §7.3). A Windows domain member asks a domain controller
//! for a signature with an empty digest (\[MS-SNTP\] §2.2.1) or the 72 octets of the extended authenticator
//! (§2.2.3): both over version 3.

use super::DropReason;
use super::ntp::Version;

/// Octets of the key identifier.
const KEY_ID_LENGTH: usize = 4;
/// Key identifier and MD5 or AES-CMAC digest.
const LENGTH_128: usize = KEY_ID_LENGTH + 16;
/// Key identifier and SHA-1 digest: the longest over version 4 (RFC 7822 §7.5.1.4).
pub const LENGTH_MAX: usize = KEY_ID_LENGTH + 20;
/// Key identifier, flags, and room for two signatures (\[MS-SNTP\] §2.2.3).
const MSSNTP_EXTENDED_LENGTH: usize = 72;
/// Key identifier, a reserved octet, flags and the hash's identifiers; what follows is empty in a request.
const MSSNTP_EXTENDED_HEAD: usize = 8;

/// What follows a header and is no extension field, told by its length and, for the forms of W32Time, its zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mac {
    /// A key identifier and a digest, neither of them checked.
    Digest,
    /// Authentication failed at the sender's.
    CryptoNak,
    /// W32Time asks for a signature.
    Mssntp,
}

impl Mac {
    /// Tells what `octets` are.
    ///
    /// # Errors
    /// [`DropReason::BadMac`] where they are nothing of that kind.
    pub fn new_checked(octets: &[u8], version: Version) -> Result<Self, DropReason> {
        let [id0, id1, id2, id3, digest @ ..] = octets else {
            return Err(DropReason::BadMac);
        };
        let key_id = u32::from_be_bytes([*id0, *id1, *id2, *id3]);
        // chrony's test for W32Time: version 3, a key identifier, and nothing but zeros for the server to fill.
        let may_be_mssntp = version == Version::V3 && key_id != 0;
        match octets.len() {
            KEY_ID_LENGTH if key_id == 0 => Ok(Self::CryptoNak),
            LENGTH_128 if may_be_mssntp && is_zero(digest) => Ok(Self::Mssntp),
            MSSNTP_EXTENDED_LENGTH
                if may_be_mssntp && octets.get(MSSNTP_EXTENDED_HEAD..).is_some_and(is_zero) =>
            {
                Ok(Self::Mssntp)
            }
            LENGTH_128 | LENGTH_MAX => Ok(Self::Digest),
            _ => Err(DropReason::BadMac),
        }
    }

    /// Why a server without keys and without a signing service is silent.
    #[must_use]
    pub const fn refusal(self) -> DropReason {
        match self {
            Self::Digest => DropReason::UnknownKey,
            Self::CryptoNak => DropReason::CryptoNak,
            Self::Mssntp => DropReason::Mssntp,
        }
    }
}

fn is_zero(octets: &[u8]) -> bool {
    octets.iter().all(|octet| *octet == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(key_id: u8, digest: u8, length: usize, version: Version) -> Result<Mac, DropReason> {
        let mut octets = std::vec![digest; length];
        octets.splice(..length.min(4), [0, 0, 0, key_id].into_iter().take(length));
        Mac::new_checked(&octets, version)
    }

    #[test]
    fn length_zeros_and_version_tell_what_it_is() {
        assert_eq!(mac(7, 0xAA, 20, Version::V4), Ok(Mac::Digest));
        assert_eq!(mac(7, 0xAA, 24, Version::V3), Ok(Mac::Digest));
        assert_eq!(mac(0, 0, 4, Version::V4), Ok(Mac::CryptoNak));
        assert_eq!(mac(7, 0, 20, Version::V3), Ok(Mac::Mssntp));
        assert_eq!(mac(7, 0, 72, Version::V3), Ok(Mac::Mssntp));
        assert_eq!(mac(0, 0, 20, Version::V3), Ok(Mac::Digest));
        assert_eq!(mac(7, 0, 20, Version::V4), Ok(Mac::Digest));
    }

    #[test]
    fn other_lengths_are_no_mac() {
        for length in [0, 3, 4, 8, 16, 28, 68] {
            assert_eq!(mac(7, 0xAA, length, Version::V3), Err(DropReason::BadMac), "{length}");
        }
        assert_eq!(mac(7, 0xAA, 72, Version::V3), Err(DropReason::BadMac));
        assert_eq!(mac(0, 0, 72, Version::V3), Err(DropReason::BadMac));
    }
}
