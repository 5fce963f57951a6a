//! The server's side of what the XDP programs drop by: the table, the lists and the limits of each interface.

use super::HandedInterface;
use crate::worker::Limits;
use maser_core::limit::Shape;
use maser_core::limit::access::{Prefix, Standing};
use maser_sys::access_tries::AccessTries;
use maser_sys::driver_limits::{DriverLimits, DriverRate, DriverSettings};
use maser_sys::limit_table::SharedTable;
use std::net::IpAddr;
use tracing::warn;

/// What is in front of the workers.
#[derive(Debug, Default)]
pub struct DriverSide {
    /// The sets of the limiter's table, which the programs look into; none without interfaces.
    shape: Option<Shape>,
    /// The lists of sources; none without interfaces.
    sources: Option<AccessTries>,
    limits: Vec<DriverLimits>,
    /// What the programs drop by; none for nothing.
    settings: Option<DriverSettings>,
}

impl DriverSide {
    /// Of what was handed over. The programs go on dropping by what a server before this one has left.
    #[must_use]
    pub fn new(
        sources: Option<AccessTries>,
        table: Option<&SharedTable>,
        interfaces: &[HandedInterface],
    ) -> Self {
        let shape = table.filter(|_| sources.is_some()).and_then(|table| Shape::of(table.len()));
        let limits = interfaces.iter().map(|interface| interface.limits.clone()).collect();
        Self { shape, sources, limits, settings: None }
    }

    /// From now on nothing is dropped, whatever a server before this one has left.
    pub fn clear(&self) {
        for own in &self.limits {
            own.set(None);
            own.clear_floors();
        }
    }

    /// Whether what the lists say is told to the programs by system calls.
    #[must_use]
    pub const fn has_lists(&self) -> bool {
        self.sources.is_some()
    }

    /// From now on the programs drop by these limits, if any, and by these lists.
    pub fn begin(&mut self, limits: Option<&Limits>, prefixes: &[(Prefix, Standing)]) {
        let Some(shape) = &self.shape else { return };
        let rate = limits.map(|limits| DriverRate {
            interval: limits.rules.address.interval_units(),
            burst: limits.rules.address.full_units(),
        });
        let key = limits.map_or([0; 2], |limits| [limits.key.k0, limits.key.k1]);
        self.settings = Some(DriverSettings { key, address_sets: shape.address_sets, rate, lists: false });
        self.turn_to(prefixes);
    }

    /// From now on the programs drop by these lists, or by none if they can't take them: the workers do it then.
    pub fn turn_to(&mut self, prefixes: &[(Prefix, Standing)]) {
        let (Some(sources), Some(settings)) = (&mut self.sources, &mut self.settings) else { return };
        let all: Vec<_> = prefixes.iter().map(as_told).collect();
        let told = sources.replace(&all).or_else(|error| {
            warn!("the XDP program doesn't drop by the access lists, the server does: {error}");
            // Whom it knows to be exempt it leaves alone all the same.
            let exempt: Vec<_> =
                all.iter().filter(|(.., standing)| *standing == Standing::Exempt).copied().collect();
            sources.replace(&exempt)
        });
        settings.lists = told.is_ok();
        self.limits.iter().for_each(|own| own.set(Some(settings)));
    }
}

/// A prefix as the programs are told of it. By a wire this machine's own addresses are nobody's.
fn as_told((prefix, standing): &(Prefix, Standing)) -> (IpAddr, u8, Standing) {
    let standing = if prefix.address().is_loopback() { Standing::Bogon } else { *standing };
    (prefix.address(), prefix.length(), standing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_a_wire_loopback_is_nobodys() {
        let told = |text: &str| as_told(&(text.parse().unwrap(), Standing::Exempt)).2;
        assert_eq!(["127.0.0.0/8", "127.0.0.1", "::1"].map(told), [Standing::Bogon; 3]);
        assert_eq!(["10.0.0.0/8", "2001:db8::1"].map(told), [Standing::Exempt; 2]);
    }
}
