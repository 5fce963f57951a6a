//! The driver of an upstream server: its name, its sockets, its stamps; what is asked and believed is the core's.
//!
//! ```text
//! name → addresses → one association at a time → a socket a request → exchanges
//! ```
//!
//! A server that has given no time for long is looked up again, and its next address is tried. Nonces come from the
//! kernel, each request leaves from a port of its own, and both ends of a round trip are stamped by the kernel where it
//! does so.

mod name;
mod own;
mod question;

use super::realtime::RealtimeStamps;
use super::{RETRY, Teller, Word};
use crate::leaps::date;
use maser_core::discipline::Observation;
use maser_core::snapshot::Growth;
use maser_core::time::{BUILD_DATE, Instant, Ticks};
use maser_core::upstream::{Action, Association, OWN_REFERENCE_IDS_MAX, Reception, Refusal, Settings};
use maser_sys::counter::Counter;
use maser_sys::kernel_clock::{self, KernelClock};
use own::own_reference_ids;
pub(crate) use own::reference_id;
use question::Question;
use std::io;
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
    /// The addresses that this server answers at: an upstream that names one as its reference follows us.
    pub listen: Vec<IpAddr>,
    /// How long a server that refuses us is left alone, as a rule [`DENIED_REST`].
    pub denied_rest: Duration,
}

/// RFC 5905 §7.4 has a client end its association with a server that says DENY or RSTR and stop sending. It doesn't say
/// for how long, and a server may have said so by a mistake that its operator mends within the hour. So it is asked again,
/// but once a day and with a single request: too little to burden anybody, so that longer and longer waits aren't needed.
pub const DENIED_REST: Duration = Duration::from_secs(86_400);

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
    let mut driver = Driver { settings, counter, said: Said::Nothing, denied: None, stamps };
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
}

struct Driver<'s> {
    settings: &'s NtpSettings,
    counter: Counter,
    said: Said,
    /// What the server said when it refused us, until it gives the time again.
    denied: Option<String>,
    /// They live as long as the driver, to notice steps of `CLOCK_REALTIME`.
    stamps: RealtimeStamps,
}

impl Driver<'_> {
    /// Asks each address for as long as it gives the time; after one has refused us, each with a single request.
    fn go_through_addresses(&mut self, teller: &mut Teller<'_>) -> Result<(), String> {
        let host = &self.settings.host;
        let addresses = name::resolve(host, self.settings.port, teller).map_err(|error| {
            format!("{host}: the name can't be looked up ({error}): check it, and this machine's DNS")
        })?;
        let mut outcome = Ok(());
        for address in addresses {
            outcome = match self.serve(address, teller) {
                Ok(Ended::Stopped) => return Ok(()),
                Ok(Ended::Silent) => Ok(()),
                Err(why) => Err(why),
            };
        }
        // Whatever was in the way of the other addresses, the one that refused us isn't asked again for it.
        let Some(denied) = &self.denied else { return outcome };
        let rest = self.settings.denied_rest;
        let rest_ns = i64::try_from(rest.as_nanos()).unwrap_or(i64::MAX);
        let again_ns = kernel_clock::read(KernelClock::Realtime).saturating_add(rest_ns);
        let again = date(Instant::from_unix_nanos(again_ns));
        let why =
            format!("{denied}; it is asked again at {again}, once: ask its operator, or name another server");
        self.fail(teller, &why);
        teller.pause(rest);
        Ok(())
    }

    /// The life of an association.
    fn serve(&mut self, address: SocketAddr, teller: &mut Teller<'_>) -> Result<Ended, String> {
        let local = question::local_for(address);
        teller.set_server(address.ip());
        let mut association = Association::new(self.association_settings(), self.counter.now());
        let mut question: Option<Question> = None;
        let mut refusal = None;
        while !teller.is_stopped() {
            match association.next_action(self.counter.now(), random_numbers()?) {
                Action::Nothing => return Ok(Ended::Silent),
                Action::Send(request) => {
                    self.say_if_silent(address, association.silent(), refusal, teller);
                    let silent_max = if self.denied.is_some() { 1 } else { SILENT_LOOKED_UP };
                    if association.silent() > silent_max {
                        return Ok(Ended::Silent);
                    }
                    association.set_own_reference_ids(own_reference_ids(
                        local,
                        &self.settings.listen,
                        &teller.hands(),
                    ));
                    match Question::ask(&mut self.stamps, &self.counter, local, address, request) {
                        Ok(asked) => question = Some(asked),
                        Err(why) if association.reach() == 0 => return Err(why),
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
                    (*refusal, self.denied) = (None, None);
                }
                Reception::Filtered => (*refusal, self.denied) = (None, None),
                Reception::Refused(why) => {
                    *refusal = Some(why);
                    let text = self.about(question.target(), &why.to_string());
                    teller.tell(Word::Refused(text.clone()));
                    if why == Refusal::Denied {
                        self.denied = Some(text);
                    }
                }
            }
        }
        Ok(!association.is_waiting())
    }

    fn association_settings(&self) -> Settings {
        Settings {
            burst: self.settings.iburst && self.denied.is_none(),
            interleaved: self.settings.interleaved,
            min_poll: self.settings.min_poll,
            max_poll: self.settings.max_poll,
            rate: self.counter.nominal_rate(),
            growth: GROWTH,
            // They are found anew for each request.
            own_reference_ids: [[0; 4]; OWN_REFERENCE_IDS_MAX],
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
fn random_numbers() -> Result<[u64; 3], String> {
    let mut octets = [0; 24];
    maser_sys::random::fill(&mut octets).map_err(no_random)?;
    let (words, _) = octets.as_chunks::<8>();
    let mut numbers = [0; 3];
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = u64::from_ne_bytes(*word);
    }
    Ok(numbers)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn no_random(error: io::Error) -> String {
    format!("the kernel gives no random numbers ({error}), which requests need")
}
