//! The keeper's answers: what the server asks for is opened if the configuration names it.

use super::handover::Left;
use super::resolver;
use crate::config::{Config, GpsdPlace, LEAP_FILE_USUAL, SourceKind};
use crate::hands::ask::{Answer, Ask};
use crate::hands::fault::Fault;
use crate::hands::opener::{DOCUMENT_OCTETS_MAX, Opener, interface_addresses};
use crate::hands::steering::{Bounds, Ordered, Past};
use crate::source::{phc, pps};
use maser_core::steer::{Frequency, Order};
use maser_sys::adjtimex::KernelState;
use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::steering;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tracing::warn;

/// More aren't told: a machine with as many has them from somebody who knows them.
const ADDRESSES_MAX: usize = 1_024;

/// What was left longer ago isn't handed on: no heir would serve by it.
const LEGACY_NS_MAX: i64 = 60_000_000_000;

/// Answers what needs privileges, or a path. A server that was taken over can ask for nothing that the configuration
/// doesn't name.
#[derive(Debug)]
pub(super) struct Broker {
    opener: Opener,
    /// What the last server has left, if there was one.
    legacy: Option<Left>,
    /// The processes that look names up, and for which source.
    lookups: BTreeMap<Pid, String>,
    bounds: Bounds,
    obey: fn(&Order) -> io::Result<()>,
    /// The kernel's.
    frequency: fn() -> Option<Frequency>,
}

/// A test never sets the clock.
#[cfg(test)]
const OBEY: fn(&Order) -> io::Result<()> = |_| Ok(());
#[cfg(not(test))]
const OBEY: fn(&Order) -> io::Result<()> = steering::obey;

/// What goes back, and the descriptor that comes along.
type Answered = Result<(Answer, Option<OwnedFd>), Fault>;

impl Broker {
    pub(super) fn new(config: &Config) -> Self {
        let bounds = Bounds::new(config.clock.steer, config.clock.first_step_unlimited);
        let (opener, lookups) = (Opener::default(), BTreeMap::new());
        let frequency = || KernelState::read().ok().map(|kernel| kernel.frequency);
        Self { opener, legacy: None, lookups, bounds, obey: OBEY, frequency }
    }

    /// Nobody goes by another configuration any more: what that alone has named is closed.
    pub(super) fn turn_to(&mut self, config: &Config) {
        self.bounds.turn_to(config.clock.steer, config.clock.first_step_unlimited);
        let kinds = || config.sources.iter().map(|source| &source.kind);
        let sockets: Vec<&Path> = kinds().filter_map(gpsd_place).collect();
        let channels = kinds().filter_map(phc::place);
        let channels = channels.filter_map(|(device, channel)| Some((device, channel?.number)));
        self.opener.keep_only(&sockets, &channels.collect::<Vec<_>>());
    }

    /// What the last server has left, if that is still worth something.
    pub(super) fn legacy(&self) -> Option<Left> {
        let oldest_ns = boottime_ns() - LEGACY_NS_MAX;
        self.legacy.clone().filter(|left| left.at_ns >= oldest_ns)
    }

    /// A server died of it, for all that is known: the next one begins without.
    pub(super) fn drop_legacy(&mut self) {
        self.legacy = None;
    }

    /// A process has ended.
    pub(super) fn reaped(&mut self, process: Pid) {
        self.lookups.remove(&process);
    }

    fn steer(&mut self, ordered: &Ordered) -> Result<(), Fault> {
        let now = monotonic();
        let order =
            self.bounds.check(ordered, now, kernel_clock::read(KernelClock::Realtime) / 1_000_000_000)?;
        (self.obey)(&order).map_err(|error| Fault::new(steering::because(&error)))?;
        self.bounds.obeyed(&order, now);
        Ok(())
    }

    /// What became of the machine's clock.
    pub(super) fn steering(&self) -> Past {
        self.bounds.past()
    }

    /// When [`settle`](Self::settle) has something to do.
    pub(super) fn settle_due(&self) -> Option<Duration> {
        self.bounds.due()
    }

    /// Ends a correction of the clock's phase that nobody looks after any more, as of `now`.
    pub(super) fn settle(&mut self, now: Duration) {
        if let Some(order) = self.bounds.settle(now, self.frequency)
            && let Err(error) = (self.obey)(&order)
        {
            warn!("the clock runs on with a correction: {}", steering::because(&error));
        }
    }

    /// Has the name of a source's server looked up; what is found comes through what is returned.
    fn resolve(&mut self, config: &Config, source: usize) -> Result<OwnedFd, Fault> {
        let SourceKind::Ntp { address, .. } = kind(config, source)? else {
            return Err(not_of_this_kind());
        };
        let name = &config.sources[source].name;
        if self.lookups.values().any(|looked_up| looked_up == name) {
            return Err(Fault::new("the name is being looked up already"));
        }
        let (found, process) = resolver::in_process(&address.host, address.port)?;
        self.lookups.insert(process, name.clone());
        Ok(found)
    }

    /// Answers a server that goes by this configuration.
    pub(super) fn answer(&mut self, config: &Config, ask: Ask) -> Answered {
        let opened = |descriptor| Ok((Answer::Opened, Some(descriptor)));
        let file = |path: &Path| {
            let (file, identity) = Opener::file(path)?;
            Ok((Answer::File(identity), Some(file.into())))
        };
        match ask {
            // Those answer who know.
            Ask::Turn(_) | Ask::Load | Ask::Nics => Err(Fault::new("nobody knows that here")),
            Ask::Line(source) => {
                let (SourceKind::Nmea(line) | SourceKind::Ubx { serial: line, .. }) = kind(config, source)?
                else {
                    return Err(not_of_this_kind());
                };
                opened(Opener::line(&line.device)?)
            }
            Ask::Pps(source) => {
                let SourceKind::Pps { device, edge, .. } = kind(config, source)? else {
                    return Err(not_of_this_kind());
                };
                opened(Opener::pps(device, pps::edge(*edge))?)
            }
            Ask::Phc(source) => {
                let (device, channel) = phc::place(kind(config, source)?).ok_or_else(not_of_this_kind)?;
                let (file, facts) = self.opener.phc(&device, channel.as_ref())?;
                Ok((Answer::Phc(facts), Some(file.into())))
            }
            Ask::Gpsd(source) => opened(self.opener.gpsd(gpsd_path(config, source)?)?),
            Ask::IsGpsdCurrent(source) => {
                Ok((Answer::Is(self.opener.is_gpsd_current(gpsd_path(config, source)?)), None))
            }
            Ask::State => Ok((Answer::State(self.opener.state(config.clock.state.as_deref())?), None)),
            Ask::Save(document) => self.opener.save(&document).map(|()| (Answer::Done, None)),
            Ask::Leave(legacy) => {
                let is_ours = legacy.as_ref().is_none_or(|legacy| legacy.len() <= DOCUMENT_OCTETS_MAX);
                self.legacy = legacy.filter(|_| is_ours).map(|text| Left { text, at_ns: boottime_ns() });
                Ok((Answer::Done, None))
            }
            Ask::LeapFile => {
                let path = config.clock.leap_file.as_deref().unwrap_or(Path::new(LEAP_FILE_USUAL));
                file(path)
            }
            Ask::AccessFile(kind) => {
                let named = config.access.of(kind).file.as_deref();
                file(named.ok_or_else(|| Fault::new("no such file is named"))?)
            }
            Ask::Resolve(source) => opened(self.resolve(config, source)?),
            Ask::OwnAddresses => {
                let mut addresses = interface_addresses();
                addresses.truncate(ADDRESSES_MAX);
                Ok((Answer::Addresses(addresses), None))
            }
            Ask::Steer(ordered) => self.steer(&ordered).map(|()| (Answer::Done, None)),
            Ask::Contested => {
                self.bounds.leave();
                Ok((Answer::Done, None))
            }
        }
    }
}

fn kind(config: &Config, source: usize) -> Result<&SourceKind, Fault> {
    config.sources.get(source).map(|source| &source.kind).ok_or_else(|| Fault::new("no such source"))
}

fn gpsd_path(config: &Config, source: usize) -> Result<&Path, Fault> {
    gpsd_place(kind(config, source)?).ok_or_else(not_of_this_kind)
}

fn gpsd_place(kind: &SourceKind) -> Option<&Path> {
    if let SourceKind::Gpsd(GpsdPlace::Socket(path)) = kind { Some(path) } else { None }
}

/// Since the machine started, suspended or not.
pub(super) fn boottime_ns() -> i64 {
    kernel_clock::read(KernelClock::Boottime)
}

/// Since the machine started, while it ran.
fn monotonic() -> Duration {
    Duration::from_nanos(kernel_clock::read(KernelClock::Monotonic).unsigned_abs())
}

fn not_of_this_kind() -> Fault {
    Fault::new("the source is of another kind")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AccessKind;

    #[test]
    fn nothing_is_opened_that_the_configuration_does_not_name() {
        let config = Config::default_run();
        let mut broker = Broker::new(&config);
        let asks = [Ask::Line(0), Ask::Pps(0), Ask::Phc(0), Ask::Gpsd(0), Ask::Resolve(0)];
        for ask in asks {
            assert_eq!(broker.answer(&config, ask).unwrap_err(), not_of_this_kind());
        }
        for kind in AccessKind::ALL {
            let fault = broker.answer(&config, Ask::AccessFile(kind)).unwrap_err();
            assert!(fault.to_string().contains("no such file is named"), "{fault}");
        }
        assert!(broker.answer(&config, Ask::Line(1)).unwrap_err().to_string().contains("no such source"));
        assert!(
            broker.answer(&config, Ask::Save("{}".to_owned())).is_err(),
            "no document, and no place taken"
        );
    }

    #[test]
    fn what_a_server_says_is_cut_short() {
        let config = Config::default_run();
        let mut broker = Broker::new(&config);
        // As long as a message may be; serde quotes it, every character escaped.
        let long = format!("{{\"{}\":1}}", "\u{e000}".repeat(30_000));
        let fault = broker.answer(&config, Ask::Save(long)).unwrap_err();
        assert!(fault.to_string().len() < 2_000, "{}", fault.to_string().len());
        let quoted = serde_json::from_str::<Ask>(&format!("\"{}\"", "\u{e000}".repeat(30_000))).unwrap_err();
        assert!(quoted.to_string().len() > 50_000 && Fault::new(quoted).to_string().len() <= 1_000);
    }

    #[test]
    fn what_is_left_is_handed_on_for_a_minute_unless_it_is_taken_back() {
        let config = Config::default_run();
        let mut broker = Broker::new(&config);
        let leave = |broker: &mut Broker, text: Option<String>| {
            broker.answer(&Config::default_run(), Ask::Leave(text)).unwrap();
            broker.legacy().map(|left| left.text)
        };
        assert_eq!(leave(&mut broker, Some("left".to_owned())).as_deref(), Some("left"));
        broker.legacy.as_mut().unwrap().at_ns -= LEGACY_NS_MAX - 1_000_000_000;
        assert!(broker.legacy().is_some());
        broker.legacy.as_mut().unwrap().at_ns -= 2_000_000_000;
        assert_eq!(broker.legacy(), None, "older than a minute");
        assert_eq!(leave(&mut broker, Some("x".repeat(DOCUMENT_OCTETS_MAX + 1))), None);
        assert!(leave(&mut broker, Some("again".to_owned())).is_some());
        assert_eq!(leave(&mut broker, None), None);
    }

    #[test]
    fn the_clock_is_set_within_bounds_and_corrections_end_with_their_server() {
        use maser_core::steer::KernelWord;
        use std::sync::Mutex;
        static SEEN: Mutex<Vec<Order>> = Mutex::new(Vec::new());
        let order = Order {
            frequency: Frequency::from_units(5),
            phase: Frequency::from_units(-3),
            step: None,
            word: KernelWord { synchronised: true, error: None, leap: None, tai_offset_s: Some(37) },
            takes_over: false,
        };
        let ask = || Ask::Steer(Ordered::of(&order));
        let config = Config::default_run();
        let mut broker = Broker::new(&config);
        assert!(broker.answer(&config, ask()).unwrap_err().to_string().contains("clock.steer"));
        let text = "[[source]]\ntype = \"ntp\"\naddress = \"127.0.0.1\"\n[clock]\nsteer = true\n";
        let config = crate::config::parse(text).unwrap();
        broker.turn_to(&config);
        broker.obey = |order| {
            SEEN.lock().unwrap().push(*order);
            Ok(())
        };
        let seen =
            || -> Vec<i64> { SEEN.lock().unwrap().iter().map(|order| order.total().units()).collect() };
        let obeyed_and_settled = |broker: &mut Broker| {
            assert!(matches!(broker.answer(&config, ask()), Ok((Answer::Done, None))));
            broker.settle(Duration::MAX);
            broker.settle(Duration::MAX);
        };
        broker.frequency = || Some(Frequency::from_units(2));
        obeyed_and_settled(&mut broker);
        assert_eq!(seen(), [2, 5]);
        // Another daemon has set it since.
        broker.frequency = || Some(Frequency::from_units(99));
        obeyed_and_settled(&mut broker);
        assert_eq!(seen(), [2, 5, 2]);
        broker.obey = |_| Err(io::Error::from_raw_os_error(1));
        assert!(broker.answer(&config, ask()).unwrap_err().to_string().contains("CAP_SYS_TIME"));
        assert_eq!(broker.settle_due(), None, "what wasn't obeyed needs no end");
        broker.obey = |_| unreachable!("it is somebody else's");
        assert_eq!(broker.steering(), Past { has_begun: true, is_contested: false });
        assert!(matches!(broker.answer(&config, Ask::Contested), Ok((Answer::Done, None))));
        assert!(broker.answer(&config, ask()).unwrap_err().to_string().contains("somebody else"));
        assert_eq!(broker.steering(), Past { has_begun: true, is_contested: true });
    }

    #[test]
    fn a_name_is_looked_up_once_at_a_time() {
        let text = "[[source]]\ntype = \"ntp\"\naddress = \"127.0.0.1\"\n";
        let config = crate::config::parse(text).unwrap();
        let mut broker = Broker::new(&config);
        let process = Pid::from_raw(i32::MAX);
        broker.lookups.insert(process, config.sources[0].name.clone());
        assert!(broker.answer(&config, Ask::Resolve(0)).unwrap_err().to_string().contains("already"));
        broker.reaped(process);
        assert!(broker.lookups.is_empty());
    }
}
