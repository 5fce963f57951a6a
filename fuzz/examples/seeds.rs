//! Writes the golden inputs as a seed corpus: `seeds DIRECTORY` fills `DIRECTORY/TARGET` for each target.

use std::path::Path;
use std::{env, fs, io};

use maser_fuzz::corpus::{Golden, requests};
use maser_fuzz::oracle::frame::{Wrapping, wrap};
use maser_fuzz::{gpsd, leap_file, nmea, ubx, upstream};

/// A control octet of 0 (checksums made right; an ordinary peer) and a transmit timestamp.
const HEAD: [u8; 9] = [0, 0xE6, 0xA1, 0xB2, 0xC3, 0x44, 0x44, 0x44, 0x44];

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: seeds DIRECTORY"))?;
    let targets = [
        ("frame", packets(frames)),
        ("datagram", packets(datagrams)),
        ("nmea", nmea::seeds()),
        ("ubx", ubx::seeds()),
        ("gpsd", gpsd::seeds()),
        ("leap_file", leap_file::seeds()),
        ("upstream", upstream::seeds()),
    ];
    for (target, inputs) in targets {
        let directory = Path::new(&directory).join(target);
        fs::create_dir_all(&directory)?;
        for (at, input) in inputs.iter().enumerate() {
            fs::write(directory.join(format!("golden-{at:03}")), input)?;
        }
    }
    Ok(())
}

/// The golden requests in one form, each with its head.
fn packets(form: fn(&Golden) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    requests().iter().flat_map(form).map(|packet| [&HEAD[..], &packet].concat()).collect()
}

fn datagrams(golden: &Golden) -> Vec<Vec<u8>> {
    vec![golden.message.clone()]
}

fn frames(golden: &Golden) -> Vec<Vec<u8>> {
    let ipv4 = Wrapping {
        tags: vec![],
        source: vec![192, 0, 2, 7],
        destination: vec![198, 51, 100, 1],
        source_port: golden.source_port,
        padding: 0,
        udp_checksum: true,
    };
    let ipv6 = Wrapping {
        tags: vec![[0x88, 0xA8, 0, 9], [0x81, 0, 0xB0, 0x0A]],
        source: b"\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x07".to_vec(),
        destination: b"\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01".to_vec(),
        padding: 3,
        ..ipv4.clone()
    };
    [ipv4, ipv6].iter().map(|wrapping| wrap(&golden.message, wrapping)).collect()
}
