//! What receivers send, made by the test: sentences and frames of any second.

/// A sentence with its checksum and its line's end.
pub(crate) fn sentence(body: &str) -> String {
    let checksum = body.bytes().fold(0, |sum, octet| sum ^ octet);
    format!("${body}*{checksum:02X}\r\n")
}

/// RMC and GGA of a second since 1970.
pub(crate) fn burst(unix_s: i64) -> String {
    burst_of(&Civil::of(unix_s))
}

/// The same of the leap second that is inserted after the last second of a day.
#[allow(dead_code, reason = "not every test goes through one")]
pub(crate) fn burst_inserted(unix_s: i64) -> String {
    burst_of(&Civil { second: 60, ..Civil::of(unix_s) })
}

fn burst_of(civil: &Civil) -> String {
    let Civil { year, month, day, hour, minute, second } = *civil;
    let time = format!("{hour:02}{minute:02}{second:02}.00");
    let short_year = year % 100;
    let place = "4807.038,N,01131.000,E";
    sentence(&format!("GPRMC,{time},A,{place},000.0,000.0,{day:02}{month:02}{short_year:02},,,A"))
        + &sentence(&format!("GPGGA,{time},{place},1,08,0.9,545.4,M,46.9,M,,"))
}

/// UBX-NAV-PVT of a second since 1970, valid.
pub(crate) fn nav_pvt(unix_s: i64) -> Vec<u8> {
    let civil = Civil::of(unix_s);
    let mut payload = [0; 92];
    payload[4..6].copy_from_slice(&u16::try_from(civil.year).unwrap().to_le_bytes());
    let parts = [civil.month, civil.day, civil.hour, civil.minute, civil.second];
    for (place, part) in payload[6..11].iter_mut().zip(parts) {
        *place = u8::try_from(part).unwrap();
    }
    // Date and time valid and fully resolved; an accuracy of 25 ns; a 3-D fix with twelve satellites.
    payload[11] = 0x07;
    payload[12] = 25;
    (payload[20], payload[21], payload[23]) = (3, 1, 12);
    frame([0x01, 0x07], &payload)
}

fn frame(class_and_id: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xB5, 0x62];
    frame.extend(class_and_id);
    frame.extend(u16::try_from(payload.len()).unwrap().to_le_bytes());
    frame.extend(payload);
    let (mut a, mut b) = (0_u8, 0_u8);
    for octet in &frame[2..] {
        a = a.wrapping_add(*octet);
        b = b.wrapping_add(a);
    }
    frame.extend([a, b]);
    frame
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    /// Counts years and months up from 1970: slow, and easily seen to be right.
    fn of(unix_s: i64) -> Self {
        let (mut days, seconds) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
        let is_leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut year = 1970;
        while days >= 365 + i64::from(is_leap(year)) {
            days -= 365 + i64::from(is_leap(year));
            year += 1;
        }
        let february = 28 + i64::from(is_leap(year));
        let mut month = 1;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        Self { year, month, day: days + 1, hour, minute, second }
    }
}
