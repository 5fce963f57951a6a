//! The `[limit]` section: how much of anybody's is answered.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use toml::de::DeTable;

use super::keys::{Key, limit as keys};
use super::report::Report;
use super::section::{Field, Section, table};

/// The highest rate that can be asked for, a second: intervals are counted in units of 4 us.
pub const RATE_MAX: u32 = 10_000;
/// The largest burst.
pub const BURST_MAX: u32 = 100_000;
/// What a burst may take to be there again, in seconds.
pub const FILL_SECONDS_MAX: u32 = 500;
/// The lengths that a prefix of IPv4 addresses may have: longer ones are addresses.
pub const PREFIX_IP4: RangeInclusive<u8> = 8..=31;
/// The lengths that a prefix of IPv6 addresses may have: a /64 is one client.
pub const PREFIX_IP6: RangeInclusive<u8> = 16..=63;
/// What the table may take.
pub const MEMORY_OCTETS: RangeInclusive<u64> = 64 << 10..=16 << 30;
/// Fewer kisses than one in so many are none.
pub const KISS_MAX: u32 = 1_000;
/// The most kisses a second.
pub const KISSES_PER_SECOND_MAX: u32 = 10_000;

/// How much of anybody's is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Requests a second of one IPv4 address or IPv6 /64, up to [`RATE_MAX`]; 0 where nothing is limited.
    pub rate: u32,
    /// How many of them at once, up to [`BURST_MAX`].
    pub burst: NonZeroU32,
    /// Requests a second of a prefix, never below `rate`; 0 where prefixes aren't limited.
    pub prefix_rate: u32,
    /// How many of them at once, never below `burst`.
    pub prefix_burst: NonZeroU32,
    /// The bits of an IPv4 prefix, within [`PREFIX_IP4`].
    pub prefix_ip4: u8,
    /// The bits of an IPv6 prefix, within [`PREFIX_IP6`].
    pub prefix_ip6: u8,
    /// What the table takes, within [`MEMORY_OCTETS`].
    pub memory_octets: u64,
    /// At most one kiss in so many requests over the limit, up to [`KISS_MAX`]; 0 for none.
    pub kiss: u32,
    /// Kisses a second of the whole server, up to [`KISSES_PER_SECOND_MAX`].
    pub kisses_per_second: NonZeroU32,
    /// Whether the XDP program drops, too.
    pub driver: bool,
}

/// docs/limits.md has the reasons.
impl Default for Limit {
    fn default() -> Self {
        const fn number(number: u32) -> NonZeroU32 {
            NonZeroU32::new(number).expect("none of the defaults is 0")
        }
        Self {
            rate: 8,
            burst: const { number(32) },
            prefix_rate: 256,
            prefix_burst: const { number(1_024) },
            prefix_ip4: 24,
            prefix_ip6: 48,
            memory_octets: 64 << 20,
            kiss: 4,
            kisses_per_second: const { number(1_000) },
            driver: true,
        }
    }
}

impl Limit {
    /// The word for a rate of 0.
    const OFF: &str = "off";

    /// The same at another rate of an address, with a burst that fills in time. Prefixes whose own is less aren't limited then.
    pub(super) fn at(mut self, rate: u32) -> Self {
        self.rate = rate;
        if let Some(most) = NonZeroU32::new(rate.saturating_mul(FILL_SECONDS_MAX)) {
            self.burst = self.burst.min(most);
        }
        if self.prefix_rate < rate || self.prefix_burst.get() < self.burst.get() {
            self.prefix_rate = 0;
        }
        self
    }
}

/// A rate on the command line.
///
/// # Errors
/// What was expected.
pub fn limit_rate(text: &str) -> Result<u32, String> {
    let rate = if text == Limit::OFF { Some(0) } else { text.parse().ok() };
    let expected = || format!("{text:?} is no rate; expected 0 to {RATE_MAX} a second, or {}", Limit::OFF);
    rate.filter(|rate| *rate <= RATE_MAX).ok_or_else(expected)
}

pub(super) fn read(document: &DeTable<'_>, report: &mut Report<'_>) -> Limit {
    let mut limit = Limit::default();
    let Some(section) = table("limit", document, report) else {
        return limit;
    };
    limit.rate = section.read(&keys::RATE, report, read_rate).unwrap_or(limit.rate);
    limit.burst = read_count(&section, &keys::BURST, BURST_MAX, report).unwrap_or(limit.burst);
    limit.prefix_rate = section.read(&keys::PREFIX_RATE, report, read_rate).unwrap_or(limit.prefix_rate);
    let prefix_burst = read_count(&section, &keys::PREFIX_BURST, BURST_MAX, report);
    limit.prefix_burst = prefix_burst.unwrap_or(limit.prefix_burst);
    let bits = section.read(&keys::PREFIX_IP4, report, |field, report| field.number(PREFIX_IP4, report));
    limit.prefix_ip4 = bits.unwrap_or(limit.prefix_ip4);
    let bits = section.read(&keys::PREFIX_IP6, report, |field, report| field.number(PREFIX_IP6, report));
    limit.prefix_ip6 = bits.unwrap_or(limit.prefix_ip6);
    let memory = section.read(&keys::MEMORY, report, |field, report| field.size(&MEMORY_OCTETS, report));
    limit.memory_octets = memory.unwrap_or(limit.memory_octets);
    let kiss = section.read(&keys::KISS, report, |field, report| field.number(0..=KISS_MAX, report));
    limit.kiss = kiss.unwrap_or(limit.kiss);
    let kisses = read_count(&section, &keys::KISSES_PER_SECOND, KISSES_PER_SECOND_MAX, report);
    limit.kisses_per_second = kisses.unwrap_or(limit.kisses_per_second);
    limit.driver = section.read(&keys::DRIVER, report, Field::boolean).unwrap_or(limit.driver);
    check_prefixes(&section, &limit, report);
    check_fills(&section, &limit, report);
    limit
}

fn read_rate(field: &Field<'_>, report: &mut Report<'_>) -> Option<u32> {
    if field.is_text(Limit::OFF) { Some(0) } else { field.number(0..=RATE_MAX, report) }
}

fn read_count(
    section: &Section<'_>,
    key: &'static Key,
    most: u32,
    report: &mut Report<'_>,
) -> Option<NonZeroU32> {
    let number = section.read(key, report, |field, report| field.number(1..=most, report));
    number.and_then(NonZeroU32::new)
}

/// Whether a prefix gets what one address of it is promised, told at the key that is there.
fn check_prefixes(section: &Section<'_>, limit: &Limit, report: &mut Report<'_>) {
    if limit.rate == 0 || limit.prefix_rate == 0 {
        return;
    }
    let mut check = |[prefix, address]: [&'static Key; 2], [prefixes, addresses]: [u32; 2]| {
        let stated = section.field(prefix).map(|field| (prefix, field));
        let stated = stated.or_else(|| section.field(address).map(|field| (address, field)));
        if let Some((key, field)) = stated.filter(|_| prefixes < addresses) {
            let names = [prefix.name, address.name];
            let problem =
                format!("{} is {prefixes}, less than {} of one address, {addresses}", names[0], names[1]);
            let expected = format!("{} not below {}", names[0], names[1]);
            report.add(field.offset(), section.path_of(key.name), problem, expected);
        }
    };
    check([&keys::PREFIX_RATE, &keys::RATE], [limit.prefix_rate, limit.rate]);
    check([&keys::PREFIX_BURST, &keys::BURST], [limit.prefix_burst.get(), limit.burst.get()]);
}

/// Whether a bucket fills within the time that its one number can tell.
fn check_fills(section: &Section<'_>, limit: &Limit, report: &mut Report<'_>) {
    let pairs = [
        (&keys::BURST, &keys::RATE, limit.burst, limit.rate),
        (&keys::PREFIX_BURST, &keys::PREFIX_RATE, limit.prefix_burst, limit.prefix_rate),
    ];
    for (burst, rate, requests, a_second) in pairs.into_iter().filter(|_| limit.rate != 0) {
        let stated = section.field(burst).map(|field| (burst, field));
        let stated = stated.or_else(|| section.field(rate).map(|field| (rate, field)));
        if let Some((key, field)) = stated
            && a_second != 0
            && requests.get().div_ceil(a_second) > FILL_SECONDS_MAX
        {
            let seconds = requests.get() / a_second;
            let problem =
                format!("{} of {requests} at {} of {a_second} fill in {seconds} s", burst.name, rate.name);
            let expected = format!("{} of at most {FILL_SECONDS_MAX} times {}", burst.name, rate.name);
            report.add(field.offset(), section.path_of(key.name), problem, expected);
        }
    }
}
