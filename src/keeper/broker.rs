//! The keeper's answers: what the server asks for is opened if the configuration names it.

use super::messages::{Answer, Ask, Fault};
use super::opener::Opener;
use super::resolver;
use crate::config::{Config, GpsdPlace, LEAP_FILE_USUAL, SourceKind};
use crate::source::ntp::interface_addresses;
use crate::source::pps;
use std::os::fd::OwnedFd;
use std::path::Path;

/// More aren't told: a machine with as many has them from somebody who knows them.
const ADDRESSES_MAX: usize = 1_024;

/// Answers what needs privileges, or a path. A server that was taken over can ask for nothing that the configuration
/// doesn't name.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) config: Config,
    opener: Opener,
    /// What the last server has left, if there was one.
    pub(super) legacy: Option<String>,
}

/// What goes back, and the descriptor that comes along.
type Answered = Result<(Answer, Option<OwnedFd>), Fault>;

impl Broker {
    pub(super) fn new(config: Config) -> Self {
        Self { config, opener: Opener::default(), legacy: None }
    }

    pub(super) fn answer(&mut self, ask: Ask) -> Answered {
        let opened = |descriptor| Ok((Answer::Opened, Some(descriptor)));
        match ask {
            Ask::Ready => Ok((Answer::Done, None)),
            Ask::Line(source) => {
                let (SourceKind::Nmea(line) | SourceKind::Ubx { serial: line, .. }) = self.kind(source)?
                else {
                    return Err(not_of_this_kind());
                };
                opened(Opener::line(&line.device)?)
            }
            Ask::Pps(source) => {
                let SourceKind::Pps { device, edge, .. } = self.kind(source)? else {
                    return Err(not_of_this_kind());
                };
                opened(Opener::pps(device, pps::edge(*edge))?)
            }
            Ask::Gpsd(source) => {
                let SourceKind::Gpsd(GpsdPlace::Socket(path)) = self.kind(source)?.clone() else {
                    return Err(not_of_this_kind());
                };
                opened(self.opener.gpsd(source, &path)?)
            }
            Ask::IsGpsdCurrent(source) => Ok((Answer::Is(self.opener.is_gpsd_current(source)), None)),
            Ask::State => Ok((Answer::State(self.opener.state(self.config.clock.state.as_deref())?), None)),
            Ask::Save(document) => self.opener.save(&document).map(|()| (Answer::Done, None)),
            Ask::Leave(legacy) => {
                self.legacy = Some(legacy);
                Ok((Answer::Done, None))
            }
            Ask::LeapFile => {
                let path = self.config.clock.leap_file.as_deref().unwrap_or(Path::new(LEAP_FILE_USUAL));
                let (file, identity) = Opener::leap_file(path)?;
                Ok((Answer::LeapFile(identity), Some(file.into())))
            }
            Ask::Resolve(source) => {
                let SourceKind::Ntp { address, .. } = self.kind(source)? else {
                    return Err(not_of_this_kind());
                };
                opened(resolver::in_process(&address.host, address.port)?)
            }
            Ask::OwnAddresses => {
                let mut addresses = interface_addresses();
                addresses.truncate(ADDRESSES_MAX);
                Ok((Answer::Addresses(addresses), None))
            }
        }
    }

    fn kind(&self, source: usize) -> Result<&SourceKind, Fault> {
        self.config.sources.get(source).map(|source| &source.kind).ok_or_else(|| Fault::new("no such source"))
    }
}

fn not_of_this_kind() -> Fault {
    Fault::new("the source is of another kind")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_opened_that_the_configuration_does_not_name() {
        let mut broker = Broker::new(Config::default_run());
        let asks = [Ask::Line(0), Ask::Pps(0), Ask::Gpsd(0), Ask::Resolve(0)];
        for ask in asks {
            assert_eq!(broker.answer(ask).unwrap_err(), not_of_this_kind());
        }
        assert!(broker.answer(Ask::Line(1)).unwrap_err().to_string().contains("no such source"));
        assert!(broker.answer(Ask::Save("{}".to_owned())).is_err(), "no document, and no place taken");
    }
}
