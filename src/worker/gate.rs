//! The gate: no reply leaves that is longer than its request, whoever wrote it.
//!
//! A reply is 48 octets of NTP in the headers of its request by construction, so nothing is ever refused here, and the
//! counter of it stays 0. Only what went through the gate can be given to a port.

use maser_sys::datagram::Outgoing;

/// The replies of a batch that may be sent.
pub(super) struct Gate {
    passed: Vec<Outgoing>,
    /// Octets by which replies are said to be longer than they are.
    #[cfg(test)]
    pub(super) planted: usize,
}

impl Gate {
    /// For batches of at most so many.
    pub(super) fn new(batch: usize) -> Self {
        Self {
            passed: Vec::with_capacity(batch),
            #[cfg(test)]
            planted: 0,
        }
    }

    /// A batch begins.
    pub(super) fn clear(&mut self) {
        self.passed.clear();
    }

    /// Lets the reply to datagram `index` pass, if its octets are no more than the request's; `departure` names it where somebody
    /// wants to know when it leaves.
    #[inline]
    #[must_use = "what doesn't pass is counted"]
    pub(super) fn pass(
        &mut self,
        index: usize,
        reply: usize,
        request: usize,
        departure: Option<u64>,
    ) -> bool {
        #[cfg(test)]
        let reply = reply + self.planted;
        let passes = reply <= request;
        if passes {
            let narrow = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
            self.passed.push(Outgoing { index: narrow(index), length: narrow(reply), departure });
        }
        passes
    }

    /// What passed.
    pub(super) fn passed(&self) -> &[Outgoing] {
        &self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_longer_stays(lengths in proptest::collection::vec((0..1_600_usize, 0..1_600_usize), 1..64)) {
            let mut gate = Gate::new(64);
            for (index, (reply, request)) in lengths.iter().enumerate() {
                prop_assert_eq!(gate.pass(index, *reply, *request, None), reply <= request);
            }
            let passed = lengths.iter().filter(|(reply, request)| reply <= request).count();
            prop_assert_eq!(gate.passed().len(), passed);
            for sent in gate.passed() {
                let (reply, request) = lengths[usize::from(sent.index)];
                prop_assert!(usize::from(sent.length) == reply && reply <= request);
            }
        }
    }
}
