//! Frames made and taken apart the slow way.

/// A frame's parts; those of a bare message are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts<'a> {
    pub destination_mac: &'a [u8],
    pub source_mac: &'a [u8],
    /// From the first tag or type up to the IP header.
    pub types_and_tags: &'a [u8],
    /// The IP header.
    pub ip: &'a [u8],
    pub source: &'a [u8],
    pub destination: &'a [u8],
    pub source_port: u16,
    pub destination_port: u16,
    pub udp_checksum: u16,
    /// UDP header and message.
    pub datagram: &'a [u8],
    pub message: &'a [u8],
    /// What follows the message: padding.
    pub rest: &'a [u8],
}

impl<'a> Parts<'a> {
    /// A message as a socket gives it.
    pub fn of_message(message: &'a [u8]) -> Self {
        Self { message, ..Self::default() }
    }

    /// Whether one host asks another.
    pub fn is_unicast(&self) -> bool {
        self.destination_mac[0].is_multiple_of(2)
            && self.source_mac[0].is_multiple_of(2)
            && is_host(self.destination)
            && !is_martian(self.source)
            && self.source != self.destination
    }
}

/// Whether an address of 4 or 16 octets can be one host's.
pub fn is_host(address: &[u8]) -> bool {
    if address.len() == 4 {
        address[0] != 0 && !(224..=239).contains(&address[0]) && address != [255; 4]
    } else {
        let mapped = address[..10] == [0; 10] && address[10..12] == [255; 2];
        address[0] != 255 && address != [0; 16] && !mapped
    }
}

/// Whether no wire carries packets from an address of 4 or 16 octets that can be one host's.
fn is_martian(source: &[u8]) -> bool {
    if source.len() == 4 {
        source[0] == 127 || source[0] > 239
    } else {
        source[..15] == [0; 15] && source[15] == 1
    }
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]))
}

/// Where the IP header begins, where at most two tags and IP's type come before it.
fn ip_begins(frame: &[u8]) -> Option<usize> {
    let mut at = 12;
    for _ in 0..3 {
        match word(frame, at)? {
            0x8100 | 0x88A8 => at += 4,
            0x0800 | 0x86DD => return Some(at + 2),
            _ => return None,
        }
    }
    None
}

/// Takes a frame apart; none where its lengths don't fit together.
pub fn dissect(frame: &[u8]) -> Option<Parts<'_>> {
    let ip_at = ip_begins(frame)?;
    let packet = &frame[ip_at..];
    let (header, length, source, destination) = match (word(frame, ip_at - 2)?, packet.first()? / 16) {
        (0x0800, 4) => (20, usize::from(word(packet, 2)?), packet.get(12..16)?, packet.get(16..20)?),
        (0x86DD, 6) => (40, 40 + usize::from(word(packet, 4)?), packet.get(8..24)?, packet.get(24..40)?),
        _ => return None,
    };
    let carried = packet.get(header..length)?;
    let datagram = carried.get(..usize::from(word(carried, 4)?))?;
    Some(Parts {
        destination_mac: &frame[..6],
        source_mac: &frame[6..12],
        types_and_tags: &frame[12..ip_at],
        ip: &packet[..header],
        source,
        destination,
        source_port: word(datagram, 0)?,
        destination_port: word(datagram, 2)?,
        udp_checksum: word(datagram, 6)?,
        datagram,
        message: datagram.get(8..)?,
        rest: &frame[ip_at + header + datagram.len()..],
    })
}

/// The one's complement sum, a word at a time (RFC 1071); every part but the last has an even length.
pub fn slow_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xFFFF {
            sum -= 0xFFFF;
        }
    }
    u16::try_from(sum).expect("kept within 16 bits")
}

fn pseudo_header_tail(datagram: &[u8]) -> [u8; 4] {
    let [high, low] = u16::try_from(datagram.len()).expect("a UDP length").to_be_bytes();
    [0, 17, high, low]
}

/// Whether the UDP checksum is there and right; a bare message has none to be wrong.
pub fn udp_checksum_is_right(parts: &Parts) -> bool {
    let tail = pseudo_header_tail(parts.datagram);
    let sum = slow_sum(&[parts.source, parts.destination, &tail, parts.datagram]);
    parts.ip.is_empty() || (parts.udp_checksum != 0 && sum == 0xFFFF)
}

/// Makes a frame's checksums right, so that what it says is looked at. Without `udp`, the UDP checksum is 0.
pub fn seal(frame: &mut [u8], udp: bool) {
    let Some(ip_at) = ip_begins(frame) else { return };
    if frame[ip_at - 2] == 0x08 && frame.len() >= ip_at + 20 {
        frame[ip_at + 10..ip_at + 12].fill(0);
        let checksum = !slow_sum(&[&frame[ip_at..ip_at + 20]]);
        frame[ip_at + 10..ip_at + 12].copy_from_slice(&checksum.to_be_bytes());
    }
    let Some(parts) = dissect(frame) else { return };
    let checksum_at = ip_at + parts.ip.len() + 6;
    frame[checksum_at..checksum_at + 2].fill(0);
    let Some(parts) = dissect(frame) else { return };
    let tail = pseudo_header_tail(parts.datagram);
    let checksum = match !slow_sum(&[parts.source, parts.destination, &tail, parts.datagram]) {
        _ if !udp => 0,
        0 => 0xFFFF,
        checksum => checksum,
    };
    frame[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Leaves of a frame's UDP checksum what a sender does whose NIC adds the rest: the pseudo-header's sum.
#[allow(dead_code, reason = "a part of the tests that share this file needs it")]
pub fn unfinish(frame: &mut [u8]) {
    let parts = dissect(frame).expect("a frame with a datagram");
    let sum = slow_sum(&[parts.source, parts.destination, &pseudo_header_tail(parts.datagram)]);
    let end = frame.len() - parts.rest.len();
    let checksum_at = end - parts.datagram.len() + 6;
    frame[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What to put around a message.
#[derive(Clone, Debug)]
pub struct Wrapping {
    /// Tags, each with its type.
    pub tags: Vec<[u8; 4]>,
    /// 4 or 16 octets.
    pub source: Vec<u8>,
    /// As many.
    pub destination: Vec<u8>,
    pub source_port: u16,
    /// Octets of rubbish behind the packet.
    pub padding: usize,
    /// Whether UDP has a checksum.
    pub udp_checksum: bool,
}

/// A frame around a message, from an ordinary host to the service.
pub fn wrap(message: &[u8], wrapping: &Wrapping) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    frame.extend(wrapping.tags.iter().flatten());
    let udp_length = u16::try_from(8 + message.len()).expect("a short message");
    if wrapping.source.len() == 4 {
        frame.extend([0x08, 0x00, 0x45, 0xB8]);
        frame.extend((20 + udp_length).to_be_bytes());
        // Identification, "don't fragment" unset, time to live, UDP, no checksum yet.
        frame.extend([0xAB, 0xCD, 0x00, 0x00, 57, 17, 0, 0]);
    } else {
        frame.extend([0x86, 0xDD, 0x6B, 0x81, 0x23, 0x45]);
        frame.extend(udp_length.to_be_bytes());
        frame.extend([17, 57]);
    }
    frame.extend(&wrapping.source);
    frame.extend(&wrapping.destination);
    frame.extend(wrapping.source_port.to_be_bytes());
    frame.extend(super::SERVICE_PORT.to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(message);
    frame.extend(vec![0xEE; wrapping.padding]);
    seal(&mut frame, wrapping.udp_checksum);
    frame
}
