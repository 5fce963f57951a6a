//! Which packets an interface is told to stamp with its own clock, and how that is put back.
//!
//! The setting is shared with every other program that uses the NIC's stamps, and outlives us. What is set already and
//! covers our packets is left alone; what another program has set is widened if the driver can cover both, and never
//! narrowed. As in [`settings`](super::settings), what was there before is recorded before it is changed.

use maser_sys::ethtool::Ethtool;
use maser_sys::hwtstamp::{HwtstampError, Offered, ReceiveFilter, Stamping, TransmitType};
use maser_sys::netlink::{Link, Tables};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use thiserror::Error;

use super::settings::Restored;

/// What an interface stamps, as it is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stamped {
    /// `HWTSTAMP_TX_…`, of what leaves.
    pub transmit_type: u32,
    /// `HWTSTAMP_FILTER_…`, of what comes.
    pub receive_filter: u32,
}

impl From<Stamping> for Stamped {
    fn from(Stamping { transmit, receive }: Stamping) -> Self {
        Self { transmit_type: transmit.0, receive_filter: receive.0 }
    }
}

impl From<Stamped> for Stamping {
    fn from(Stamped { transmit_type, receive_filter }: Stamped) -> Self {
        Self { transmit: TransmitType(transmit_type), receive: ReceiveFilter(receive_filter) }
    }
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stamping { transmit, receive } = (*self).into();
        write!(f, "stamping on transmission {transmit} and on receipt {receive}")
    }
}

/// What an interface stamped, and what it was told to instead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name at the time, for people.
    pub interface: String,
    /// The kernel's number of it.
    pub index: u32,
    /// Its MAC address.
    pub hardware_address: Option<[u8; 6]>,
    /// As it was.
    pub before: Stamped,
    /// As we set it.
    pub ours: Stamped,
}

/// Why an interface's stamping isn't changed.
#[derive(Debug, Error)]
pub enum StampingError {
    /// The driver refuses.
    #[error("{interface}: {error}")]
    Refused {
        /// Which interface's.
        interface: String,
        /// Why.
        error: HwtstampError,
    },
    /// The kernel's tables can't be had.
    #[error("the kernel's interfaces can't be asked for: {0}")]
    Tables(#[from] io::Error),
}

/// What is to be done about an interface's stamping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// What to set; none if that is there already.
    pub set: Option<Stamping>,
    /// What isn't had, in words; empty if all is.
    pub lacks: String,
}

/// Whether packets that come are stamped under this filter.
#[must_use]
pub fn covers_ntp(filter: ReceiveFilter) -> bool {
    filter == ReceiveFilter::ALL || filter == ReceiveFilter::NTP_ALL
}

/// Whether packets that leave are stamped, if asked to be: one-step is for PTP's own, and the others are as with `on`.
#[must_use]
pub fn covers_replies(transmit: TransmitType) -> bool {
    transmit != TransmitType::OFF
}

/// From what is offered and what is set to what we want.
#[must_use]
pub fn choose(offered: &Offered, now: Stamping) -> Choice {
    let mut lacks = Vec::new();
    let receive = match now.receive {
        filter if covers_ntp(filter) => filter,
        _ if offered.receives(ReceiveFilter::ALL) => ReceiveFilter::ALL,
        ReceiveFilter::NONE if offered.receives(ReceiveFilter::NTP_ALL) => ReceiveFilter::NTP_ALL,
        ReceiveFilter::NONE => {
            lacks.push("its driver stamps no NTP packets that come (`ethtool -T`)".to_owned());
            ReceiveFilter::NONE
        }
        others => {
            lacks.push(format!(
                "another program has it stamp what comes by the filter {others}, which it can't have together with NTP; \
                 stop that program to have NTP stamped"
            ));
            others
        }
    };
    let transmit = match now.transmit {
        kind if covers_replies(kind) => kind,
        _ if offered.transmits(TransmitType::ON) => TransmitType::ON,
        off => {
            lacks.push("its driver stamps nothing that leaves (`ethtool -T`)".to_owned());
            off
        }
    };
    let wanted = Stamping { transmit, receive };
    Choice { set: (wanted != now).then_some(wanted), lacks: lacks.join("; ") }
}

impl Record {
    /// What is to be kept before `ours` is set on an interface that has `before`.
    #[must_use]
    pub fn of(link: &Link, before: Stamping, ours: Stamping) -> Self {
        Self {
            interface: link.name.clone(),
            index: link.index,
            hardware_address: link.hardware_address,
            before: before.into(),
            ours: ours.into(),
        }
    }

    /// Sets what is ours; what the driver made of it.
    ///
    /// # Errors
    /// What is in the way.
    pub fn apply(&self) -> Result<Stamping, StampingError> {
        set(&self.interface, self.ours)
    }

    /// Puts back what was there before, where it is still as we had set it.
    ///
    /// # Errors
    /// What is in the way.
    pub fn restore(&self) -> Result<Restored, StampingError> {
        let tables = maser_sys::netlink::dump()?;
        let Some(link) = self.find(&tables) else { return Ok(Restored::Gone) };
        let failed = refused(&link.name);
        let now: Stamped =
            Ethtool::new(&link.name).map_err(StampingError::Tables)?.stamping().map_err(failed)?.into();
        if now == self.ours && now != self.before {
            set(&link.name, self.before)?;
        }
        Ok(Restored::Done)
    }

    /// The interface, whatever its name is now.
    fn find<'a>(&self, tables: &'a Tables) -> Option<&'a Link> {
        tables.link(self.index).filter(|link| link.hardware_address == self.hardware_address)
    }
}

fn set(interface: &str, stamped: Stamped) -> Result<Stamping, StampingError> {
    Ethtool::new(interface)?.set_stamping(stamped.into()).map_err(refused(interface))
}

fn refused(interface: &str) -> impl FnOnce(HwtstampError) -> StampingError {
    move |error| StampingError::Refused { interface: interface.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTP: ReceiveFilter = ReceiveFilter(12);
    const ONE_STEP: TransmitType = TransmitType(2);
    const OFF: Stamping = Stamping { transmit: TransmitType::OFF, receive: ReceiveFilter::NONE };

    fn offered(transmit: &[TransmitType], receive: &[ReceiveFilter]) -> Offered {
        let transmit = transmit.iter().fold(1, |bits, kind| bits | 1 << kind.0);
        Offered::new(Some(0), transmit, receive.iter().fold(1, |bits, filter| bits | 1 << filter.0))
    }

    #[test]
    fn the_widest_filter_is_taken_and_nobody_elses_is_narrowed() {
        const ON: TransmitType = TransmitType::ON;
        const ALL: ReceiveFilter = ReceiveFilter::ALL;
        const NTP: ReceiveFilter = ReceiveFilter::NTP_ALL;
        const NONE: ReceiveFilter = ReceiveFilter::NONE;
        let (everything, ntp_only) = (offered(&[ON], &[ALL, NTP, PTP]), offered(&[ON], &[NTP, PTP]));
        let (ptp_only, nothing) = (offered(&[ON], &[PTP]), offered(&[], &[]));
        let stamping = |transmit, receive| Stamping { transmit, receive };
        for (offered, now, set, lacks) in [
            (everything, OFF, Some(stamping(ON, ALL)), ""),
            (ntp_only, OFF, Some(stamping(ON, NTP)), ""),
            (ptp_only, OFF, Some(stamping(ON, NONE)), "stamps no NTP packets"),
            (
                nothing,
                OFF,
                None,
                "stamps no NTP packets that come (`ethtool -T`); its driver stamps nothing that leaves",
            ),
            // There already.
            (everything, stamping(ON, ALL), None, ""),
            (everything, stamping(ON, NTP), None, ""),
            (everything, stamping(ONE_STEP, ALL), None, ""),
            (everything, stamping(TransmitType::OFF, NTP), Some(stamping(ON, NTP)), ""),
            // Another program's.
            (everything, stamping(ON, PTP), Some(stamping(ON, ALL)), ""),
            (ntp_only, stamping(ON, PTP), None, "by the filter ptpv2-event, which"),
            (ntp_only, stamping(TransmitType::OFF, PTP), Some(stamping(ON, PTP)), "stop that program"),
            (everything, stamping(ONE_STEP, PTP), Some(stamping(ONE_STEP, ALL)), ""),
        ] {
            let choice = choose(&offered, now);
            assert_eq!(choice.set, set, "{offered:?} {now:?}");
            assert!(
                choice.lacks.contains(lacks) && choice.lacks.is_empty() == lacks.is_empty(),
                "{choice:?}"
            );
        }
    }

    #[test]
    fn a_record_says_what_was_there() {
        let stamped = Stamped::from(Stamping { transmit: TransmitType::ON, receive: PTP });
        assert_eq!(stamped.to_string(), "stamping on transmission on and on receipt ptpv2-event");
        assert_eq!(Stamping::from(Stamped::from(OFF)), OFF);
    }
}
