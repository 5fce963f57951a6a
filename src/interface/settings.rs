//! What busy polling wants of an interface: the driver's interrupts put off while somebody polls.
//!
//! With `napi_defer_hard_irqs` and `gro_flush_timeout` set, the interrupt stays off after a poll that found packets, and a
//! timer stands in for it should nobody poll (Linux, `Documentation/networking/napi.rst`, "IRQ mitigation"). These are the
//! interface's own, and outlive us: what was there before is recorded first, kept by the caller where it survives us, and put
//! back from the record by whoever comes after. Putting back twice is no harm, nor is it when the interface is gone or
//! somebody has set something else since.

use maser_sys::netlink::Link;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

use super::sysfs::Directory;

const DEFER_HARD_IRQS: &str = "napi_defer_hard_irqs";
const FLUSH_TIMEOUT_NS: &str = "gro_flush_timeout";

/// The settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// How many polls in a row may find nothing before the interrupt is switched on again.
    pub defer_hard_irqs: u32,
    /// After how long without a poll the timer polls, ns; 0 for never.
    pub flush_timeout_ns: u64,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { defer_hard_irqs, flush_timeout_ns } = self;
        write!(f, "{DEFER_HARD_IRQS} {defer_hard_irqs} and {FLUSH_TIMEOUT_NS} {flush_timeout_ns} ns")
    }
}

/// What an interface was set to, and what to instead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name at the time, for people.
    pub interface: String,
    /// The kernel's number of it.
    pub index: u32,
    /// Its MAC address.
    pub hardware_address: Option<[u8; 6]>,
    /// As it was.
    pub before: Settings,
    /// As we set it.
    pub ours: Settings,
}

/// Why a setting can't be read or written.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// sysfs shows another network namespace, or none.
    #[error(
        "{0}: /sys doesn't show this network namespace, so its settings can't be changed; mount sysfs anew there \
         (`ip netns exec` does), or do without busy polling"
    )]
    NotShown(String),
    /// The kernel refused it.
    #[error("{path}: {error}; writing it takes root, and Linux 5.10")]
    Refused {
        /// The setting.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// What putting back has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restored {
    /// It is as it was before us, as far as it was still as we had set it.
    Done,
    /// The interface isn't there any more, nor its settings.
    Gone,
}

impl Settings {
    /// For queues that a worker polls all the time: two polls in a row without a packet leave the interrupt off, which is what
    /// the kernel's document begins with, and where nobody polls, since the server is being started again, a packet waits
    /// 200 us at most.
    pub const POLLED: Self = Self { defer_hard_irqs: 2, flush_timeout_ns: 200_000 };

    /// Takes down what is there. Keep the record before [`Record::apply`].
    ///
    /// # Errors
    /// What is in the way.
    pub fn record(self, link: &Link) -> Result<Record, SettingsError> {
        let directory = Directory::of(link).ok_or_else(|| SettingsError::NotShown(link.name.clone()))?;
        Ok(Record {
            interface: link.name.clone(),
            index: link.index,
            hardware_address: link.hardware_address,
            before: Self::read(&directory)?,
            ours: self,
        })
    }

    fn read(directory: &Directory) -> Result<Self, SettingsError> {
        Ok(Self {
            defer_hard_irqs: number(directory, DEFER_HARD_IRQS)?,
            flush_timeout_ns: number(directory, FLUSH_TIMEOUT_NS)?,
        })
    }
}

impl Record {
    /// Sets what is ours.
    ///
    /// # Errors
    /// What is in the way; some of it may be set then.
    pub fn apply(&self) -> Result<(), SettingsError> {
        let directory = self.directory()?.ok_or_else(|| SettingsError::NotShown(self.interface.clone()))?;
        write(&directory, FLUSH_TIMEOUT_NS, self.ours.flush_timeout_ns)?;
        write(&directory, DEFER_HARD_IRQS, self.ours.defer_hard_irqs.into())
    }

    /// Puts back what was there before, where it is still as we had set it.
    ///
    /// # Errors
    /// What is in the way; all that can be put back is.
    pub fn restore(&self) -> Result<Restored, SettingsError> {
        let Some(directory) = self.directory()? else { return Ok(Restored::Gone) };
        let Self { before, ours, .. } = self;
        let now = Settings::read(&directory)?;
        let put_back = |attribute, now: u64, ours: u64, before: u64| {
            if now == ours && now != before { write(&directory, attribute, before) } else { Ok(()) }
        };
        // The interrupt first: once it is deferred by nothing the timer doesn't matter.
        let irqs = put_back(
            DEFER_HARD_IRQS,
            now.defer_hard_irqs.into(),
            ours.defer_hard_irqs.into(),
            before.defer_hard_irqs.into(),
        );
        let timeout =
            put_back(FLUSH_TIMEOUT_NS, now.flush_timeout_ns, ours.flush_timeout_ns, before.flush_timeout_ns);
        irqs.and(timeout).map(|()| Restored::Done)
    }

    /// The interface's directory, whatever its name is now.
    fn directory(&self) -> Result<Option<Directory>, SettingsError> {
        Directory::find(self.index, self.hardware_address)
            .map_err(|error| SettingsError::Refused { path: "/sys/class/net".into(), error })
    }
}

fn refused(directory: &Directory, attribute: &str) -> impl FnOnce(io::Error) -> SettingsError {
    let path = directory.path(attribute);
    move |error| SettingsError::Refused { path, error }
}

fn number<T: std::str::FromStr>(directory: &Directory, attribute: &str) -> Result<T, SettingsError> {
    let text = directory.read(attribute).map_err(refused(directory, attribute))?;
    let number = text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a number"));
    number.map_err(refused(directory, attribute))
}

fn write(directory: &Directory, attribute: &str, value: u64) -> Result<(), SettingsError> {
    directory.write(attribute, value).map_err(refused(directory, attribute))
}
