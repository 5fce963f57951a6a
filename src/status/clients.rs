//! The heaviest clients: the question, and the document that answers it.
//!
//! They are no part of [`Status`](super::Status): what is read by monitoring systems names no client.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Word;

/// How many clients can be asked for at a time; the answer stays within [`STATUS_OCTETS_MAX`](super::STATUS_OCTETS_MAX).
pub const TOP_MAX: u16 = 1_000;

/// Which clients, and in which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Addresses, by requests since each is counted.
    Address,
    /// Prefixes, by the same.
    Prefix,
    /// Both, by requests a second lately.
    #[default]
    Rate,
    /// Both, by kisses of death a second lately.
    Kiss,
}

impl Word for Order {
    const WORDS: &'static [(&'static str, Self)] =
        &[("address", Self::Address), ("prefix", Self::Prefix), ("rate", Self::Rate), ("kiss", Self::Kiss)];
}

impl Order {
    /// As it is written on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Prefix => "prefix",
            Self::Rate => "rate",
            Self::Kiss => "kiss",
        }
    }
}

/// Who is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientsQuestion {
    /// How many of each table, at most; from 1 to [`TOP_MAX`].
    pub top: u16,
    /// In which order.
    pub by: Order,
    /// Whether addresses are told as their prefixes.
    pub truncated: bool,
}

/// The first word of the question on the status socket.
const WORD: &str = "clients";
const TRUNCATED: &str = "truncated";

impl fmt::Display for ClientsQuestion {
    /// As it is sent: `clients rate 10`, and `truncated` behind that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{WORD} {} {}", self.by.word(), self.top)?;
        if self.truncated { write!(f, " {TRUNCATED}") } else { Ok(()) }
    }
}

impl ClientsQuestion {
    /// What was sent, if it is such a question.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (WORD, by, top, last) = (words.next()?, words.next()?, words.next()?, words.next()) else {
            return None;
        };
        let top = top.parse().ok().filter(|top| (1..=TOP_MAX).contains(top))?;
        let truncated = last.is_some();
        let is_understood = last.is_none_or(|word| word == TRUNCATED) && words.next().is_none();
        is_understood.then_some(Self { top, by: Order::of_word(by)?, truncated })
    }
}

/// The answer. What comes to it in later versions is at its default where an older server answers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ClientsStatus {
    /// How long the server has been counting.
    pub for_s: f64,
    /// A request of so long ago counts half in the rates.
    pub half_life_s: f64,
    /// Whether there are limits at all.
    pub limiting: bool,
    /// Whether addresses are told as their prefixes.
    pub truncated: bool,
    /// Requests for each that was looked at lately; 1 where each is.
    pub looked_at_one_in: f64,
    /// Requests that were neither looked at nor stood for, since the counting thread didn't get its turn.
    pub lost: f64,
    /// Everybody's requests a second lately.
    pub rate: ByFate,
    /// Everybody's requests since the counting began.
    pub requests: ByFate,
    /// Addresses of IPv4 and /64 of IPv6, in the order asked for; empty if only prefixes were.
    pub addresses: Vec<ClientStatus>,
    /// /24 of IPv4 and /48 of IPv6, as well.
    pub prefixes: Vec<ClientStatus>,
}

/// A figure for each thing that becomes of requests.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ByFate {
    /// Answered.
    pub served: f64,
    /// Over a limit, and left without an answer.
    pub limited: f64,
    /// Over a limit or denied, and answered with a kiss of death.
    pub kissed: f64,
    /// Denied, and left without an answer.
    pub denied: f64,
}

impl ByFate {
    /// All of them.
    #[must_use]
    pub fn sum(&self) -> f64 {
        let Self { served, limited, kissed, denied } = self;
        served + limited + kissed + denied
    }
}

/// A client or a network of clients.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ClientStatus {
    /// As `192.0.2.1`, `2001:db8:1:2::/64`; `192.0.2.0/24`, `2001:db8:1::/48`.
    pub client: String,
    /// Requests a second lately.
    pub rate: ByFate,
    /// How far their sum may be off: what may have been missed before the client was counted, and three standard
    /// deviations of what comes of looking at a part of the requests.
    pub rate_error: f64,
    /// The part of everybody's rate.
    pub share: f64,
    /// Requests since the client is counted.
    pub requests: ByFate,
    /// How many more it may have sent since the server began to count, as for the rate.
    pub requests_error: f64,
    /// Since when it is counted, seconds ago.
    pub for_s: f64,
    /// When it was last seen, seconds ago.
    pub last_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        for (_, by) in Order::WORDS {
            for (top, truncated) in [(1, false), (TOP_MAX, true)] {
                let question = ClientsQuestion { top, by: *by, truncated };
                assert_eq!(ClientsQuestion::of(&question.to_string()), Some(question));
            }
        }
        for text in [
            "",
            "clients",
            "clients rate",
            "clients rate 0",
            "clients rate 1001",
            "clients rate -1",
            "clients name 1",
            "clients rate 1 whole",
            "clients rate 1 truncated 1",
            "status rate 1",
        ] {
            assert_eq!(ClientsQuestion::of(text), None, "{text}");
        }
    }

    #[test]
    fn the_largest_answer_fits() {
        let longest =
            ByFate { served: f64::MAX, limited: f64::MIN, kissed: 1.0 / 3.0e-300, denied: 1.0 / 3.0 };
        let client = ClientStatus {
            client: "2001:0db8:1111:2222::/64".to_owned(),
            rate: longest,
            requests: longest,
            rate_error: f64::MIN,
            share: f64::MIN,
            requests_error: f64::MIN,
            for_s: f64::MIN,
            last_s: f64::MIN,
        };
        let clients = vec![client; TOP_MAX.into()];
        let answer =
            ClientsStatus { addresses: clients.clone(), prefixes: clients, ..ClientsStatus::default() };
        let octets = serde_json::to_vec(&answer).unwrap().len() as u64;
        assert!(octets < super::super::STATUS_OCTETS_MAX, "{octets}");
    }
}
