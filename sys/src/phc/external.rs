//! Stamps of external signals: a pin, the channel that it leads to, and who hears of it.

use super::layout::{Pin, StampsRequest};
use super::{PhcError, TYPE, call, capabilities, open, tell};
use crate::pps::Edge;
use libc::{Ioctl, c_uint};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

const STAMPS: Ioctl = libc::_IOW::<StampsRequest>(TYPE, 2);
const STAMPS_STRICT: Ioctl = libc::_IOW::<StampsRequest>(TYPE, 11);
const GET_PIN: Ioctl = libc::_IOWR::<Pin>(TYPE, 6);
const SET_PIN: Ioctl = libc::_IOW::<Pin>(TYPE, 7);
const HEAR_NOTHING: Ioctl = libc::_IO(TYPE, 19);
const HEAR_ONE: Ioctl = libc::_IOW::<c_uint>(TYPE, 20);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const _: () = {
    assert!(STAMPS == 0x4010_3d02 && STAMPS_STRICT == 0x4010_3d0b);
    assert!(GET_PIN == 0xc060_3d06 && SET_PIN == 0x4060_3d07);
    assert!(HEAR_NOTHING == 0x3d13 && HEAR_ONE == 0x4004_3d14);
};

/// `PTP_ENABLE_FEATURE`, `PTP_RISING_EDGE`, `PTP_FALLING_EDGE`, `PTP_STRICT_FLAGS`.
const ENABLE: c_uint = 1;
const RISING: c_uint = 1 << 1;
const FALLING: c_uint = 1 << 2;
const STRICT: c_uint = 1 << 3;

/// `PTP_PF_EXTTS`.
const STAMPS_FUNCTION: c_uint = 1;

/// More pins than any device has.
const PINS_MAX: u32 = 64;

/// A channel of a clock, and how a signal gets to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channel {
    /// From 0.
    pub number: u32,
    /// The pin that is to lead there, by its name or its number; none for one that does, or that can't be programmed.
    pub pin: Option<String>,
    /// The edge that is to be stamped.
    pub edge: Edge,
}

/// A channel that stamps, and a pin that leads to it, until this is dropped: then pins are as before, and the channel is off.
#[derive(Debug)]
pub struct ExternalStamps {
    file: File,
    channel: u32,
    /// As they were, if they had to be changed: the one that leads there now first, then those that did.
    pins: Vec<Pin>,
    is_both_edges: bool,
}

impl ExternalStamps {
    /// Sees to it that edges of a channel are stamped.
    ///
    /// # Errors
    /// What keeps it from being.
    pub fn switch_on(path: &Path, channel: &Channel) -> Result<Self, PhcError> {
        let file = open(path, OpenOptions::new().read(true).write(true)).map_err(|error| match error {
            PhcError::NotPermitted if File::open(path).is_ok() => PhcError::MayNotSwitchOn,
            other @ (PhcError::NotPermitted
            | PhcError::NoDevice
            | PhcError::MayNotSwitchOn
            | PhcError::NotPhc
            | PhcError::NoSuchChannel { .. }
            | PhcError::NoSuchPin { .. }
            | PhcError::NoPinLeadsThere { .. }
            | PhcError::Failed { .. }) => other,
        })?;
        let has = capabilities(&file)?;
        if channel.number >= has.channels {
            return Err(PhcError::NoSuchChannel { channels: has.channels });
        }
        let pins = pins(&file, has.pins)?;
        let changed = pins_to_change(&pins, channel)?;
        // From here on, dropping it puts back what was changed; nothing was before.
        let mut stamps = Self { file, channel: channel.number, pins: changed, is_both_edges: false };
        if let Some(pin) = stamps.pins.first() {
            stamps.set_pin(pin.with(STAMPS_FUNCTION, channel.number))?;
        }
        stamps.is_both_edges = stamps.enable(channel.edge)?;
        Ok(stamps)
    }

    /// Whether the device stamps the other edge, too.
    #[must_use]
    pub const fn is_both_edges(&self) -> bool {
        self.is_both_edges
    }

    /// Some devices stamp both edges and no single one: then they are asked for both, and which is which is for those who
    /// read. Drivers older than the strict request do what they can, without saying what.
    fn enable(&self, edge: Edge) -> Result<bool, PhcError> {
        let one = match edge {
            Edge::Assert => RISING,
            Edge::Clear => FALLING,
        };
        let requests = [
            (STAMPS_STRICT, one | STRICT, false),
            (STAMPS_STRICT, RISING | FALLING | STRICT, true),
            (STAMPS, one, true),
        ];
        let mut failed = None;
        for (request, flags, is_both) in requests {
            match self.request(request, flags | ENABLE) {
                Ok(()) => return Ok(is_both),
                Err(error) => failed = Some(error),
            }
        }
        let error = failed.unwrap_or_else(super::unsupported);
        Err(Self::refused("PTP_EXTTS_REQUEST", error))
    }

    fn request(&self, request: Ioctl, flags: c_uint) -> io::Result<()> {
        call(&self.file, request, &mut StampsRequest { channel: self.channel, flags, reserved: [0; 2] })
    }

    fn set_pin(&self, mut pin: Pin) -> Result<(), PhcError> {
        call(&self.file, SET_PIN, &mut pin).map_err(|error| Self::refused("PTP_PIN_SETFUNC", error))
    }

    fn refused(call: &'static str, error: io::Error) -> PhcError {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => PhcError::MayNotSwitchOn,
            _ => PhcError::Failed { call, error },
        }
    }
}

impl Drop for ExternalStamps {
    fn drop(&mut self) {
        // Nobody is left to tell that the device is gone.
        let _ = self.request(STAMPS, 0);
        for &pin in &self.pins {
            let _ = self.set_pin(pin);
        }
    }
}

/// From now on `reader` hears of this channel alone. False before Linux 6.7, where all readers of a clock share one queue, and
/// each edge is heard by one of them.
///
/// # Errors
/// When the device is gone.
pub fn hear_only(reader: &File, channel: u32) -> Result<bool, PhcError> {
    if tell(reader, HEAR_NOTHING).is_err() {
        return Ok(false);
    }
    let mut channel = channel;
    call(reader, HEAR_ONE, &mut channel)
        .map_err(|error| PhcError::Failed { call: "PTP_MASK_EN_SINGLE", error })?;
    Ok(true)
}

fn pins(file: &File, count: u32) -> Result<Vec<Pin>, PhcError> {
    let pin = |index| {
        let mut pin = Pin::new(index);
        call(file, GET_PIN, &mut pin).map_err(|error| PhcError::Failed { call: "PTP_PIN_GETFUNC", error })?;
        Ok(pin)
    };
    (0..count.min(PINS_MAX)).map(pin).collect()
}

/// The pins that programming the one that is wanted changes, as they are, that one first; none if nothing has to be programmed.
/// The kernel lets one pin alone lead to a channel, and takes any other off it.
fn pins_to_change(pins: &[Pin], channel: &Channel) -> Result<Vec<Pin>, PhcError> {
    let leads_there = |pin: &&Pin| pin.function == STAMPS_FUNCTION && pin.channel == channel.number;
    let names = || pins.iter().map(Pin::name).collect::<Vec<_>>().join(", ");
    match &channel.pin {
        Some(wanted) => {
            let is_wanted = |pin: &&Pin| pin.name() == *wanted || wanted.parse() == Ok(pin.index);
            let pin = pins.iter().find(is_wanted).ok_or_else(|| PhcError::NoSuchPin { pins: names() })?;
            if leads_there(&pin) {
                return Ok(Vec::new());
            }
            Ok([pin].into_iter().chain(pins.iter().filter(leads_there)).copied().collect())
        }
        None if pins.is_empty() || pins.iter().any(|pin| leads_there(&pin)) => Ok(Vec::new()),
        None => Err(PhcError::NoPinLeadsThere { pins: names() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pin of a number that is called so.
    fn pin(index: u32, name: &str, function: c_uint, channel: u32) -> Pin {
        Pin::named(index, name).with(function, channel)
    }

    fn wanted(number: u32, pin: Option<&str>) -> Channel {
        Channel { number, pin: pin.map(str::to_owned), edge: Edge::Assert }
    }

    #[test]
    fn a_pin_is_programmed_where_none_leads_there() {
        let pins = [pin(0, "SDP0", 0, 0), pin(1, "SDP1", STAMPS_FUNCTION, 1), pin(2, "SDP2", 2, 1)];
        let set = |number, pin| {
            let changed = pins_to_change(&pins, &wanted(number, pin));
            changed.map(|pins| pins.iter().map(|pin| pin.index).collect::<Vec<_>>())
        };
        assert_eq!(set(0, Some("SDP0")).unwrap(), [0]);
        assert_eq!(set(0, Some("2")).unwrap(), [2], "by its number");
        assert!(set(1, Some("SDP1")).unwrap().is_empty(), "it does already");
        assert!(set(1, None).unwrap().is_empty(), "one does already");
        assert_eq!(set(0, Some("SDP1")).unwrap(), [1], "it leads elsewhere");
        assert_eq!(set(1, Some("SDP2")).unwrap(), [2, 1], "it does something else, and another led there");
        let told = |number, pin| set(number, pin).unwrap_err().to_string();
        assert_eq!(told(0, Some("SDP9")), "no such pin; the device has SDP0, SDP1, SDP2");
        assert!(told(0, None).starts_with("no pin leads to the channel; name the one"));
        let none = |pin| pins_to_change(&[], &wanted(0, pin));
        assert!(none(None).unwrap().is_empty());
        assert!(none(Some("SDP0")).unwrap_err().to_string().contains("leave out `pin`"));
    }

    #[test]
    fn what_is_no_clock_is_told() {
        let why = |path: &str| {
            ExternalStamps::switch_on(Path::new(path), &wanted(0, None)).unwrap_err().to_string()
        };
        assert!(why("/dev/no-such-ptp").starts_with("no such device; `ethtool -T"));
        assert!(why("/dev/null").starts_with("not a NIC's clock; name one of /dev/ptp*"));
    }
}
