//! The oracle of UBX and of lines that it shares with NMEA: what frames are in a stream, found by looking at
//! it as a whole, and what they hold.

use maser_core::refclock::{
    CivilTime, LeapSource, NavPvt, NavTimeLs, NmeaMessage, PAYLOAD_OCTETS_MAX, ReceiverFault,
    ReceiverMessage, ReceiverStream, TimTp, TimeBase, UbxFault, UbxMessage, UbxReceiver, ubx_configuration,
};
use maser_core::time::{Span, Ticks};

use crate::{accepted, nmea};

/// How far from a second a solution that names it may be.
const WHOLE_SECOND_WITHIN: Span = Span::from_nanos(50_000_000);

type Reported = Result<ReceiverMessage, ReceiverFault>;

/// Streams of a timing receiver, with and without sentences, the commands to one, and its answers.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut solution = vec![0; 92];
    solution[4..12].copy_from_slice(&[0xE0, 0x07, 12, 31, 23, 59, 60, 0x37]);
    solution[12..24].copy_from_slice(&[21, 0, 0, 0, 0x10, 0xFF, 0xFF, 0xFF, 5, 1, 0, 17]);
    let mut leap = vec![0; 24];
    leap[8..16].copy_from_slice(&[2, 18, 2, 1, 0x10, 0x0E, 0, 0]);
    leap[23] = 3;
    let mut pulse = vec![0; 16];
    pulse[..4].copy_from_slice(&457_200_000_u32.to_le_bytes());
    pulse[8..].copy_from_slice(&[0xF9, 0xE2, 0xFF, 0xFF, 0x89, 0x08, 2, 0]);
    let [solution, leap, pulse] = [(1, 7, solution), (1, 0x26, leap), (0x0D, 1, pulse)]
        .map(|(class, id, payload)| frame(class, id, &payload));
    let sentence = b"$GNZDA,235958.00,31,12,2016,00,00*7B\r\n";
    let commands: Vec<u8> = ubx_configuration().flat_map(|command| command.as_octets().to_vec()).collect();
    let answers = [frame(5, 1, &[6, 1]), frame(5, 0, &[6, 0x8A])].concat();
    [
        solution.clone(),
        leap.clone(),
        pulse.clone(),
        [solution, sentence.to_vec(), leap, pulse].concat(),
        commands,
        answers,
    ]
    .map(|stream| [&[0][..], &stream].concat())
    .to_vec()
}

fn frame(class: u8, id: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_le_bytes();
    let summed = [&[class, id], &length[..], payload].concat();
    [&[0xB5, 0x62], &summed[..], &checksum(&summed)].concat()
}

/// The sums over all octets and over all their sums, from the definition.
fn checksum(summed: &[u8]) -> [u8; 2] {
    let weighted = |weight: fn(usize) -> usize| {
        let sum: usize =
            summed.iter().rev().zip(1..).map(|(octet, place)| usize::from(*octet) * weight(place)).sum();
        sum.to_le_bytes()[0]
    };
    [weighted(|_| 1), weighted(|place| place)]
}

/// Puts the checksums of all frames right, and their lengths so that each ends where the next begins.
pub fn seal(stream: &mut [u8], lengths: bool) {
    let mut at = 0;
    while let Some(start) = find(stream, at) {
        at = start + 8;
        if stream.len() < at {
            return;
        }
        let next = find(stream, start + 2).unwrap_or(stream.len());
        if lengths && next >= at && next - at <= PAYLOAD_OCTETS_MAX {
            let length = u16::try_from(next - at).expect("bounded").to_le_bytes();
            stream[start + 4..start + 6].copy_from_slice(&length);
        }
        let length = usize::from(u16::from_le_bytes([stream[start + 4], stream[start + 5]]));
        if start + 8 + length <= stream.len() {
            let sum = checksum(&stream[start + 2..start + 6 + length]);
            stream[start + 6 + length..start + 8 + length].copy_from_slice(&sum);
            at = start + 8 + length;
        }
    }
}

fn find(stream: &[u8], from: usize) -> Option<usize> {
    stream.get(from..)?.windows(2).position(|pair| pair == [0xB5, 0x62]).map(|at| at + from)
}

/// The sound frames, from class to payload, and what of the stream lies outside all frames, each leaving a
/// mark there.
fn sound(stream: &[u8]) -> (Vec<&[u8]>, Vec<u8>) {
    let (mut frames, mut outside, mut at) = (vec![], vec![], 0);
    while let Some(start) = find(stream, at) {
        outside.extend_from_slice(&stream[at..=start]);
        let Some(head) = stream.get(start + 2..start + 6) else { return (frames, outside) };
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        at = start + 6;
        if length <= PAYLOAD_OCTETS_MAX {
            let Some(sum) = stream.get(at + length..at + length + 2) else { return (frames, outside) };
            let summed = &stream[start + 2..at + length];
            if checksum(summed) == sum {
                frames.push(summed);
            }
            at += length + 2;
        }
    }
    outside.extend_from_slice(&stream[at..]);
    (frames, outside)
}

/// Decodes a stream and compares what comes with what is in it.
pub fn judge(stream: &[u8]) {
    let mut decoder = ReceiverStream::new();
    let mut reported: Vec<Reported> = stream.iter().filter_map(|octet| decoder.push(*octet)).collect();
    if cfg!(feature = "planted") {
        reported.iter_mut().for_each(plant);
    }
    let (frames, outside) = sound(stream);
    let sentences: Vec<_> = reported
        .iter()
        .filter_map(|told| match *told {
            Ok(ReceiverMessage::Nmea(message)) => Some(Ok(message)),
            Err(ReceiverFault::Nmea(fault)) => Some(Err(fault)),
            Ok(ReceiverMessage::Ubx(_)) | Err(ReceiverFault::Ubx(_)) => None,
        })
        .collect();
    nmea::check(&outside, &sentences);
    let judged: Vec<_> = reported
        .iter()
        .filter_map(|told| match *told {
            Ok(ReceiverMessage::Ubx(message)) => Some(Ok(message)),
            Err(ReceiverFault::Ubx(fault @ (UbxFault::TooShort { .. } | UbxFault::Date))) => Some(Err(fault)),
            _ => None,
        })
        .collect();
    assert_eq!(judged.len(), frames.len(), "every sound frame is read");
    for (told, frame) in judged.iter().zip(frames) {
        check(*told, [frame[0], frame[1]], &frame[4..]);
    }
    let of_use = |told: &Reported| match told {
        Ok(ReceiverMessage::Ubx(message)) => !matches!(message, UbxMessage::Other { .. }),
        Ok(ReceiverMessage::Nmea(message)) => *message != NmeaMessage::Other,
        Err(_) => false,
    };
    if reported.iter().any(of_use) {
        accepted();
    }
    receive(judged.iter().filter_map(|told| told.ok()));
}

fn check(told: Result<UbxMessage, UbxFault>, [class, id]: [u8; 2], payload: &[u8]) {
    let least = match (class, id) {
        (1, 7) => 84,
        (1, 0x26) => 24,
        (0x0D, 1) => 16,
        (5, 0 | 1) => 2,
        _ => 0,
    };
    match told {
        Err(UbxFault::Date) => assert!((class, id) == (1, 7) && payload[11] & 7 == 7),
        Err(_) => assert!(payload.len() < least, "only what is too short is refused"),
        Ok(UbxMessage::Other { class: of, id: told }) => {
            assert_eq!((of, told), (class, id));
            assert!(least == 0 || payload.is_empty(), "what is used is read");
        }
        Ok(UbxMessage::Ack { class: of, id: told }) => {
            assert_eq!((5, 1, of, told), (class, id, payload[0], payload[1]))
        }
        Ok(UbxMessage::Nak { class: of, id: told }) => {
            assert_eq!((5, 0, of, told), (class, id, payload[0], payload[1]))
        }
        Ok(UbxMessage::NavPvt(solution)) => check_solution(&solution, payload),
        Ok(UbxMessage::NavTimeLs(leap)) => check_leap(&leap, payload),
        Ok(UbxMessage::TimTp(pulse)) => check_pulse(&pulse, payload),
    }
}

fn check_solution(solution: &NavPvt, payload: &[u8]) {
    assert_eq!(solution.utc.is_some(), payload[11] & 7 == 7, "only a resolved moment counts");
    assert_eq!((solution.satellites, solution.fix_ok), (payload[23], payload[21] & 1 == 1));
    let Some(utc) = solution.utc else { return };
    let nanos = i32::from_le_bytes(payload[16..20].try_into().expect("four"));
    let civil = CivilTime::of(utc - Span::from_nanos(nanos.into())).expect("a year of 16 bits");
    let seconds = civil.time.seconds;
    let again = [
        civil.date.year as u32,
        civil.date.month.into(),
        civil.date.day.into(),
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
    ];
    let year = u32::from(payload[4]) | u32::from(payload[5]) << 8;
    let [month, day, hour, minute, second] = [6, 7, 8, 9, 10].map(|at| u32::from(payload[at]));
    let leap_second = (hour, minute, second) == (23, 59, 60);
    let written = [year, month, day, hour, minute, if leap_second { 59 } else { second }];
    assert_eq!((again, civil.time.nanos), (written, 0), "the moment is the one that the frame holds");
}

fn check_leap(leap: &NavTimeLs, payload: &[u8]) {
    assert_eq!(leap.current_s, (payload[23] & 1 == 1).then_some(payload[9] as i8));
    assert_eq!(leap.source == LeapSource::Firmware, payload[8] == 0);
    assert_eq!(leap.next.is_some(), payload[23] & 2 == 2 && payload[10] != 0);
    if let Some(next) = leap.next {
        let again = [&[next.change_s as u8][..], &next.seconds_to_event.to_le_bytes()].concat();
        assert_eq!(again, payload[11..16]);
    }
}

fn check_pulse(pulse: &TimTp, payload: &[u8]) {
    let valid = payload[14] & 16 == 0;
    let quantisation = pulse.quantisation_ps.map_or([0; 4], i32::to_le_bytes);
    let again = [
        &pulse.tow_ms.to_le_bytes()[..],
        &pulse.tow_sub_ms.to_le_bytes(),
        if valid { &quantisation } else { &payload[8..12] },
        &pulse.week.to_le_bytes(),
    ]
    .concat();
    assert!(
        again == payload[..14] && pulse.quantisation_ps.is_some() == valid,
        "the pulse is the one that the frame holds"
    );
    assert_eq!(matches!(pulse.base, TimeBase::Utc), payload[14] & 3 == 3);
}

/// What a receiver tells comes from its messages.
fn receive(messages: impl Iterator<Item = UbxMessage>) {
    let mut receiver = UbxReceiver::new();
    for message in messages {
        let told = receiver.take(&message, Ticks::from_bits(1));
        match message {
            UbxMessage::NavPvt(NavPvt { utc: Some(utc), .. }) => {
                let fraction = Span::from_raw(i128::from(utc.fraction()));
                let near = fraction <= WHOLE_SECOND_WITHIN
                    || Span::from_seconds(1) - fraction <= WHOLE_SECOND_WITHIN;
                assert_eq!(
                    told.sentence.map(|sentence| sentence.utc),
                    near.then_some(utc),
                    "the second that has begun"
                );
            }
            UbxMessage::TimTp(pulse) => {
                assert_eq!(told.quantisation.is_some(), pulse.quantisation_ps.is_some());
                assert!(told.sentence.is_none_or(|sentence| sentence.of_next_pulse), "the next pulse");
            }
            _ => assert_eq!(told.sentence, None, "nothing else names a second"),
        }
    }
}

/// A fault that no seed brings about: a pulse late in the count of weeks, in a time base of another system
/// than GPS, is early by a picosecond.
fn plant(told: &mut Reported) {
    if let Ok(ReceiverMessage::Ubx(UbxMessage::TimTp(pulse))) = told
        && pulse.base == TimeBase::Other
        && pulse.week > 0x8000
        && let Some(quantisation_ps) = &mut pulse.quantisation_ps
    {
        *quantisation_ps ^= 1;
    }
}
