//! The golden requests of `requests.txt`, for the golden tests and as seeds of the fuzz targets.

#![allow(unreachable_pub, reason = "the fuzz targets share this module, and there it is public")]

/// A request that somebody's software sends, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Who sends it.
    pub name: &'static str,
    /// The name of the reason for silence; none where it is answered.
    pub drop: Option<&'static str>,
    /// The port it comes from.
    pub source_port: u16,
    /// The UDP payload.
    pub message: Vec<u8>,
}

/// Every request of the file.
pub fn requests() -> Vec<Golden> {
    include_str!("requests.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let [name, outcome, source_port, octets] = line.split('|').map(str::trim).collect::<Vec<_>>()[..]
            else {
                panic!("four columns: {line}");
            };
            Golden {
                name,
                drop: (outcome != "answer").then_some(outcome),
                source_port: source_port.parse().expect(line),
                message: octets.split_whitespace().flat_map(octets_of).collect(),
            }
        })
        .collect()
}

/// `1b0000` or `00*40`: octets in hexadecimal, the group repeated.
fn octets_of(group: &str) -> Vec<u8> {
    let (digits, times) = group.split_once('*').unwrap_or((group, "1"));
    let octet = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect(group);
    let octets: Vec<u8> = (0..digits.len()).step_by(2).map(octet).collect();
    octets.repeat(times.parse().expect(group))
}
