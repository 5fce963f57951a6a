//! The words that `send` makes a frame of: a template taken apart, and the sums of what never changes in it.
//!
//! The program adds to these what differs between requests, so that no octet of a used page is ever read.

use super::{LiveError, LiveSetting};

/// How many variants there may be.
pub const VARIANTS_MAX: usize = 64;

const ETHERNET_LENGTH: usize = 14;
const UDP_LENGTH: usize = 8;
const NTP_LENGTH: usize = 48;
pub(super) const HEAD_WORDS: usize = 8;
pub(super) const VARIANT_LENGTH: usize = 40;
const VARIANT_WORDS: usize = VARIANT_LENGTH / 8 + 1;
/// The words of `send_setting`.
const WORDS: usize = HEAD_WORDS + 7 + VARIANTS_MAX * VARIANT_WORDS;

/// A template's parts by their places.
pub(super) struct Template<'a> {
    pub(super) is_ip6: bool,
    /// Up to the end of the UDP header.
    pub(super) head: &'a [u8],
    pub(super) ip: &'a [u8],
    pub(super) udp: &'a [u8],
    /// The addresses but for the low 32 bits of the source's.
    fixed_addresses: [&'a [u8]; 2],
    /// The low 32 bits of the source address.
    client: [u8; 4],
    /// NTP up to the transmit timestamp.
    variant: [u8; VARIANT_LENGTH],
}

impl<'a> Template<'a> {
    pub(super) fn new(frame: &'a [u8]) -> Option<Self> {
        let is_ip6 = match frame.get(12..16)? {
            [0x08, 0x00, 0x45, _] => false,
            [0x86, 0xDD, first, _] if first >> 4 == 6 => true,
            _ => return None,
        };
        let ip_length = if is_ip6 { 40 } else { 20 };
        let udp_at = ETHERNET_LENGTH + ip_length;
        let (head, ntp) = frame.split_at_checked(udp_at + UDP_LENGTH)?;
        let (ip, udp) = (&head[ETHERNET_LENGTH..udp_at], &head[udp_at..]);
        let udp_length = u16::from_be_bytes([udp[4], udp[5]]);
        let (protocol, length, client_at) =
            if is_ip6 { (ip[6], [ip[4], ip[5]], 20) } else { (ip[9], [ip[2], ip[3]], 12) };
        let whole = UDP_LENGTH + NTP_LENGTH + if is_ip6 { 0 } else { ip_length };
        let fits = ntp.len() == NTP_LENGTH
            && usize::from(udp_length) == UDP_LENGTH + NTP_LENGTH
            && usize::from(u16::from_be_bytes(length)) == whole
            && protocol == 17
            // A fragment has more to it than this.
            && (is_ip6 || (ip[6] & 0x3F, ip[7]) == (0, 0));
        fits.then_some(())?;
        let before_client = if is_ip6 { &ip[8..client_at] } else { &[] };
        Some(Self {
            is_ip6,
            head,
            ip,
            udp,
            fixed_addresses: [before_client, &ip[client_at + 4..]],
            client: *ip[client_at..].first_chunk()?,
            variant: *ntp.first_chunk()?,
        })
    }

    /// The IPv4 header's sum without its checksum and its source address.
    fn ip_sum(&self) -> u64 {
        if self.is_ip6 { 0 } else { sum_of(&self.ip[..10]) + sum_of(&self.ip[16..]) }
    }

    /// The sum of the pseudo-header and of the destination port and length, without the client's part.
    fn udp_sum(&self) -> u64 {
        let protocol = sum_of(&[0, 17]);
        let length = sum_of(&self.udp[4..6]);
        let addresses: u64 = self.fixed_addresses.iter().map(|octets| sum_of(octets)).sum();
        addresses + protocol + length + sum_of(&self.udp[2..6])
    }
}

/// A sum of 16-bit words as they lie in memory; such sums may be taken in any order of octets (RFC 1071 §2).
pub(super) fn sum_of(octets: &[u8]) -> u64 {
    octets.as_chunks().0.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum()
}

pub(super) fn words_of_padded(octets: &[u8]) -> impl Iterator<Item = u64> {
    octets.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}

/// `send_setting`.
pub(super) fn setting_words(setting: &LiveSetting<'_>) -> Result<Vec<u64>, LiveError> {
    let template = Template::new(setting.frame).ok_or(LiveError::Frame)?;
    if setting.clients == 0 {
        return Err(LiveError::Clients);
    }
    if setting.variants.len() > VARIANTS_MAX {
        return Err(LiveError::Variants);
    }
    let own = [template.variant];
    let variants = if setting.variants.is_empty() { &own } else { setting.variants };
    let mut words: Vec<u64> = words_of_padded(template.head).collect();
    words.resize(HEAD_WORDS, 0);
    words.extend([
        u64::from(template.is_ip6),
        setting.key,
        template.ip_sum(),
        template.udp_sum(),
        u64::from(u32::from_be_bytes(template.client)),
        u64::from(setting.clients),
        variants.len() as u64,
    ]);
    for variant in variants {
        words.extend(words_of_padded(variant));
        words.push(sum_of(variant));
    }
    words.resize(WORDS, 0);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Vec<u8> {
        let mut frame = vec![0; 90];
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        frame[17] = 76;
        frame[23] = 17;
        frame[39] = 56;
        frame
    }

    fn error_of(frame: &[u8], clients: u32, variants: &[[u8; 40]]) -> Option<LiveError> {
        setting_words(&LiveSetting { interface: 1, frame, clients, variants, key: 0 }).err()
    }

    #[test]
    fn a_template_that_the_program_does_not_know_is_refused() {
        assert_eq!(error_of(&frame(), 1, &[]), None);
        for (at, value) in [(12, 9), (14, 0x46), (17, 77), (20, 0x20), (23, 6), (39, 57)] {
            let mut frame = frame();
            frame[at] = value;
            assert_eq!(error_of(&frame, 1, &[]), Some(LiveError::Frame), "octet {at}");
        }
        for length in [0, 15, 40, 89] {
            assert_eq!(error_of(&frame()[..length], 1, &[]), Some(LiveError::Frame), "{length} octets");
        }
        assert_eq!(error_of(&frame(), 0, &[]), Some(LiveError::Clients));
        assert_eq!(error_of(&frame(), 1, &[[0; 40]; VARIANTS_MAX + 1]), Some(LiveError::Variants));
    }
}
