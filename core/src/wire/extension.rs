//! NTPv4 extension fields (RFC 7822).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Field Type           |        Field Length           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                  Value, padded to 4 octets …                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! The length counts the whole field. It is a multiple of 4 and at least 16 (§7.5.1.1); and since 24 octets at the
//! end of a packet are a MAC, a last field without a MAC behind it is at least 28 octets long (§7.5.1.4).

use super::DropReason;

/// The shortest field.
pub const LENGTH_MIN: usize = 16;

/// A field whose length is one that RFC 7822 allows. Its value isn't kept, since nobody here reads one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtensionField {
    field_type: u16,
}

impl ExtensionField {
    /// The first of the fields in `octets`, and what follows it.
    ///
    /// # Errors
    /// [`DropReason::BadExtensionField`].
    #[inline]
    pub fn split(octets: &[u8]) -> Result<(Self, &[u8]), DropReason> {
        let [type0, type1, length0, length1, ..] = *octets else {
            return Err(DropReason::BadExtensionField);
        };
        let length = usize::from(u16::from_be_bytes([length0, length1]));
        if length < LENGTH_MIN || !length.is_multiple_of(4) {
            return Err(DropReason::BadExtensionField);
        }
        let (_field, rest) = octets.split_at_checked(length).ok_or(DropReason::BadExtensionField)?;
        Ok((Self { field_type: u16::from_be_bytes([type0, type1]) }, rest))
    }

    /// Whether it belongs to Network Time Security: unique identifier, cookie, placeholder, authenticator
    /// (RFC 8915 §5.3 to §5.6).
    #[inline]
    #[must_use]
    pub const fn is_nts(self) -> bool {
        matches!(self.field_type, 0x0104 | 0x0204 | 0x0304 | 0x0404)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(length: u8, octets: usize) -> Result<usize, DropReason> {
        let mut fields = std::vec![0; octets];
        fields.splice(..4, [0x01, 0x04, 0, length]);
        ExtensionField::split(&fields).map(|(field, rest)| {
            assert!(field.is_nts());
            rest.len()
        })
    }

    #[test]
    fn a_field_is_as_long_as_it_says() {
        assert_eq!(split(16, 16), Ok(0));
        assert_eq!(split(28, 100), Ok(72));
    }

    #[test]
    fn lengths_that_rfc_7822_rules_out_are_refused() {
        for (length, octets) in [(0, 28), (4, 28), (12, 28), (17, 28), (30, 40), (32, 28)] {
            assert_eq!(split(length, octets), Err(DropReason::BadExtensionField), "{length} of {octets}");
        }
        assert_eq!(ExtensionField::split(&[1, 4, 0]), Err(DropReason::BadExtensionField));
    }
}
