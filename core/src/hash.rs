//! What tables of clients find their places by.

/// Steele, Lea and Flood's SplitMix64 finaliser: one to one, every bit of its outcome hangs on every bit given.
#[inline]
#[must_use]
pub const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The network and the host of an IPv6 address.
#[inline]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "each half is what is meant")]
pub const fn halves(address: u128) -> (u64, u64) {
    ((address >> 64) as u64, address as u64)
}
