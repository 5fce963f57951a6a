//! The driver of an upstream server: its name, its sockets, its stamps; what is asked and believed is the core's.
//!
//! ```text
//! name → addresses → one association at a time → a socket a request → exchanges
//! ```
//!
//! A server that has given no time for long is looked up again, and its next address is tried. Nonces are read from
//! `/dev/urandom`, each request leaves from a port of its own, and both ends of a round trip are stamped by the kernel
//! where it does so.

mod name;
mod question;

use super::realtime::RealtimeStamps;
use super::{RETRY, Teller, Word};
use maser_core::discipline::Observation;
use maser_core::snapshot::Growth;
use maser_core::time::{BUILD_DATE, Ticks};
use maser_core::upstream::{Action, Association, OWN_REFERENCE_IDS_MAX, Reception, Refusal, Settings};
use maser_sys::counter::Counter;
use question::Question;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How an upstream server is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NtpSettings {
    /// Its name or address.
    pub host: String,
    /// Its port, as a rule 123.
    pub port: u16,
    /// Begin with four requests in quick succession.
    pub iburst: bool,
    /// Ask for interleaved replies (RFC 9769).
    pub interleaved: bool,
    /// The shortest poll interval, log₂ seconds.
    pub min_poll: i8,
    /// The longest.
    pub max_poll: i8,
}

/// How fast an old sample loses worth in the clock filter: what a crystal strays by while nobody corrects it, once its
/// constant error is known.
const GROWTH: Growth = Growth::from_ppb(1_000);

/// So many requests without a good reply are said to be a failure: as many as the reach register remembers.
const SILENT_SAID: u32 = 8;
/// After so many the name is looked up again, and the next address tried.
const SILENT_LOOKED_UP: u32 = 16;

/// Asks the server until the teller says stop.
pub fn run(settings: &NtpSettings, counter: Counter, teller: &mut Teller<'_>) {
    let stamps = RealtimeStamps::new(counter);
    let mut driver = Driver { settings, counter, said: Said::Nothing, stamps };
    while !teller.is_stopped() {
        if let Err(why) = driver.go_through_addresses(teller) {
            driver.fail(teller, &why);
            teller.pause(RETRY);
        }
    }
}

/// What was told last, so that nothing is told twice.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Nothing,
    Working,
    Failed(String),
}

/// Why an address isn't asked any longer.
enum Ended {
    /// The driver is to end.
    Stopped,
    /// It gives no time: the next address may.
    Silent,
    /// Nothing could be sent to it, and why.
    NoWay(String),
}

struct Driver<'s> {
    settings: &'s NtpSettings,
    counter: Counter,
    said: Said,
    /// They live as long as the driver, to notice steps of `CLOCK_REALTIME`.
    stamps: RealtimeStamps,
}

impl Driver<'_> {
    /// Asks each address for as long as it gives the time.
    fn go_through_addresses(&mut self, teller: &mut Teller<'_>) -> Result<(), String> {
        let host = &self.settings.host;
        let addresses = name::resolve(host, self.settings.port, teller).map_err(|error| {
            format!("{host}: the name can't be looked up ({error}): check it, and this machine's DNS")
        })?;
        let mut random = File::open("/dev/urandom").map_err(no_random)?;
        let mut no_way = None;
        for address in addresses {
            match self.serve(address, &mut random, teller)? {
                Ended::Stopped => return Ok(()),
                Ended::Silent => no_way = None,
                Ended::NoWay(why) => no_way = Some(why),
            }
        }
        no_way.map_or(Ok(()), Err)
    }

    /// The life of an association.
    fn serve(
        &mut self,
        address: SocketAddr,
        random: &mut File,
        teller: &mut Teller<'_>,
    ) -> Result<Ended, String> {
        let local = question::local_for(address);
        teller.set_server(address.ip());
        let mut association = Association::new(self.association_settings(local), self.counter.now());
        let mut question: Option<Question> = None;
        let mut refusal = None;
        while !teller.is_stopped() {
            match association.next_action(self.counter.now(), random_numbers(random)?) {
                Action::Nothing => teller.pause(RETRY),
                Action::Send(request) => {
                    self.say_if_silent(address, association.silent(), refusal, teller);
                    if association.silent() > SILENT_LOOKED_UP {
                        return Ok(Ended::Silent);
                    }
                    match Question::ask(&mut self.stamps, &self.counter, local, address, request) {
                        Ok(asked) => question = Some(asked),
                        Err(why) if association.reach() == 0 => return Ok(Ended::NoWay(why)),
                        Err(why) => self.fail(teller, &why),
                    }
                }
                Action::Wait(until) => match &mut question {
                    None => teller.pause(self.until(until)),
                    Some(asked) => {
                        asked.wait(self.until(until));
                        if self.listen(asked, &mut association, &mut refusal, teller)? {
                            question = None;
                        }
                    }
                },
            }
        }
        Ok(Ended::Stopped)
    }

    /// Takes what has come; whether the request has got its answer.
    fn listen(
        &mut self,
        question: &mut Question,
        association: &mut Association,
        refusal: &mut Option<Refusal>,
        teller: &mut Teller<'_>,
    ) -> Result<bool, String> {
        let arrivals = question.arrivals(&mut self.stamps, &self.counter);
        let arrivals = arrivals.map_err(|error| self.about(question.target(), &error.to_string()))?;
        for arrival in arrivals {
            if !arrival.from_target {
                let why = format!("a datagram from {}, who wasn't asked", arrival.source);
                teller.tell(Word::Refused(self.about(question.target(), &why)));
                continue;
            }
            match association.on_reply(&arrival.octets, arrival.stamps, BUILD_DATE) {
                Reception::Accepted(exchange) => {
                    self.work(question.target(), exchange.stratum, teller);
                    teller.tell(Word::Observed(Observation::Exchange(exchange)));
                    *refusal = None;
                }
                Reception::Filtered => *refusal = None,
                Reception::Refused(why) => {
                    *refusal = Some(why);
                    let text = self.about(question.target(), &why.to_string());
                    teller.tell(Word::Refused(text.clone()));
                    if why == Refusal::Denied {
                        self.fail(teller, &format!("{text}: ask its operator, or name another server"));
                    }
                }
            }
        }
        Ok(!association.is_waiting())
    }

    fn association_settings(&self, local: IpAddr) -> Settings {
        let mut own_reference_ids = [[0; 4]; OWN_REFERENCE_IDS_MAX];
        if let (IpAddr::V4(address), [first, ..]) = (local, &mut own_reference_ids) {
            *first = address.octets();
        }
        Settings {
            burst: self.settings.iburst,
            interleaved: self.settings.interleaved,
            min_poll: self.settings.min_poll,
            max_poll: self.settings.max_poll,
            rate: self.counter.nominal_rate(),
            growth: GROWTH,
            own_reference_ids,
        }
    }

    fn until(&self, moment: Ticks) -> Duration {
        let left = self.counter.nominal_rate().span_of(moment.since(self.counter.now()));
        // A microsecond more, so that it is past then.
        Duration::from_nanos(left.as_nanos().max(0).unsigned_abs() + 1_000)
    }

    fn say_if_silent(
        &mut self,
        address: SocketAddr,
        silent: u32,
        refusal: Option<Refusal>,
        teller: &mut Teller<'_>,
    ) {
        // The request that is about to be sent is among them.
        if silent != SILENT_SAID + 1 {
            return;
        }
        let why = match refusal {
            Some(refusal) => format!("no time for {SILENT_SAID} requests: {refusal}"),
            None => format!(
                "no answer to {SILENT_SAID} requests: is it up, and does a firewall let UDP port {} through?",
                address.port()
            ),
        };
        let text = self.about(address, &why);
        self.fail(teller, &text);
    }

    fn about(&self, address: SocketAddr, what: &str) -> String {
        format!("{} ({address}): {what}", self.settings.host)
    }

    fn fail(&mut self, teller: &mut Teller<'_>, why: &str) {
        let failed = Said::Failed(why.to_owned());
        if self.said != failed {
            self.said = failed;
            teller.tell(Word::Failed(why.to_owned()));
        }
    }

    fn work(&mut self, address: SocketAddr, stratum: u8, teller: &mut Teller<'_>) {
        if self.said != Said::Working {
            self.said = Said::Working;
            teller.tell(Word::Working(self.about(address, &format!("answers, at stratum {stratum}"))));
        }
    }
}

/// Numbers that nobody can foretell.
fn random_numbers(random: &mut File) -> Result<[u64; 3], String> {
    let mut octets = [0; 24];
    random.read_exact(&mut octets).map_err(no_random)?;
    let (words, _) = octets.as_chunks::<8>();
    let mut numbers = [0; 3];
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = u64::from_ne_bytes(*word);
    }
    Ok(numbers)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn no_random(error: io::Error) -> String {
    format!("/dev/urandom can't be read ({error}): requests need random numbers; mount /dev")
}
