//! The words that `send_parts` makes frames of.

use crate::live_frames::template::{HEAD_WORDS, Template, VARIANT_LENGTH, sum_of, words_of_padded};
use crate::live_frames::{LiveError, VARIANTS_MAX};

use super::{COUNTED_MAX, PARTS, PAYLOAD_MAX};

/// The words of a variant: what stands before the timestamp, behind it, the length, the sum.
const VARIANT_WORDS: usize = VARIANT_LENGTH / 8 + 3;
const PART_WORDS: usize = HEAD_WORDS + 6 + VARIANTS_MAX * VARIANT_WORDS;
const WORDS: usize = 3 + PARTS * PART_WORDS;
/// `sources` is drawn from by 16 bits.
const ROWS_MAX: usize = 1 << 16;

/// A kind of request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttackVariant {
    /// What stands before the transmit timestamp.
    pub head: [u8; 40],
    /// What stands behind it; then come octets of chance.
    pub tail: [u8; 8],
    /// Octets of the UDP payload, at most [`PAYLOAD_MAX`]; what doesn't fit is left out, the timestamp too.
    pub length: u16,
}

/// Clients that come next to each other, each as probable as the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceRow {
    /// The first of them, counted from the part's first client.
    pub first: u32,
    /// How many: at least 1.
    pub count: u32,
}

/// Who sends a part, and what.
#[derive(Clone, Copy, Debug)]
pub struct PartSetting<'a> {
    /// A request of the first client: Ethernet, IPv4 without options or IPv6, UDP and 48 octets of NTP. Checksums don't
    /// matter, the NTP neither.
    pub frame: &'a [u8],
    /// How many clients follow the first without a gap, and itself.
    pub clients: u32,
    /// Rows that are drawn from by chance, one as probable as the other; clients come in turn if there are none.
    pub rows: &'a [SourceRow],
    /// Kinds of requests, taken in turn: 1 to [`VARIANTS_MAX`].
    pub variants: &'a [AttackVariant],
}

/// What to send, and from where. Only the flood's clients may have rows.
#[derive(Clone, Copy, Debug)]
pub struct AttackSetting<'a> {
    /// The interface's index; as for [`LiveSetting`](crate::live_frames::LiveSetting).
    pub interface: u32,
    /// The secret of the cookies.
    pub key: u64,
    /// Honest clients.
    pub honest: PartSetting<'a>,
    /// The flood, of the same address family.
    pub flood: PartSetting<'a>,
    /// So many of the flood's first clients are counted one by one: at most [`COUNTED_MAX`].
    pub counted: u32,
}

impl AttackSetting<'_> {
    /// `parts_setting`.
    pub(super) fn words(&self) -> Result<Vec<u64>, LiveError> {
        let templates =
            [self.honest, self.flood].map(|part| Template::new(part.frame).ok_or(LiveError::Frame));
        let [honest, flood] = templates;
        let (honest, flood) = (honest?, flood?);
        if honest.is_ip6 != flood.is_ip6 {
            return Err(LiveError::Frame);
        }
        if self.counted > COUNTED_MAX || !self.honest.rows.is_empty() {
            return Err(LiveError::Clients);
        }
        let mut words = vec![u64::from(honest.is_ip6), self.key, u64::from(self.counted)];
        push_part(&mut words, &honest, &self.honest)?;
        push_part(&mut words, &flood, &self.flood)?;
        assert_eq!(words.len(), WORDS, "the settings are laid out as the program's");
        Ok(words)
    }
}

fn push_part(words: &mut Vec<u64>, template: &Template<'_>, part: &PartSetting<'_>) -> Result<(), LiveError> {
    let is_outside = |row: &SourceRow| {
        row.count == 0 || u64::from(row.first) + u64::from(row.count) > u64::from(part.clients)
    };
    if part.clients == 0 || part.rows.len() > ROWS_MAX || part.rows.iter().any(is_outside) {
        return Err(LiveError::Clients);
    }
    let lengths = part.variants.iter().all(|variant| variant.length <= PAYLOAD_MAX);
    if part.variants.is_empty() || part.variants.len() > VARIANTS_MAX || !lengths {
        return Err(LiveError::Variants);
    }
    let end = words.len() + PART_WORDS;
    let ip = template.ip;
    words.extend(words_of_padded(template.head));
    words.resize(end - PART_WORDS + HEAD_WORDS, 0);
    // The word at 12 tells clients apart: IPv4's source, and the second of IPv6's source.
    let [a, b, c, d] = *ip[12..].first_chunk().expect("an IP header");
    let between = if template.is_ip6 { &ip[8..12] } else { &[] };
    // Without total length and checksum.
    let ip_sum = if template.is_ip6 { 0 } else { sum_of(&ip[..2]) + sum_of(&ip[4..10]) + sum_of(&ip[16..]) };
    let addresses = sum_of(between) + sum_of(&ip[16..]);
    words.extend([
        ip_sum,
        addresses + sum_of(&[0, 17]) + sum_of(&template.udp[2..4]),
        u64::from(u32::from_be_bytes([a, b, c, d])),
        u64::from(part.clients),
        part.rows.len() as u64,
        part.variants.len() as u64,
    ]);
    for variant in part.variants {
        words.extend(words_of_padded(&variant.head));
        words.push(u64::from_ne_bytes(variant.tail));
        words.push(u64::from(variant.length));
        words.push(sum_of(&variant.head));
    }
    words.resize(end, 0);
    Ok(())
}
