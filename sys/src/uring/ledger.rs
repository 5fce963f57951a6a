//! Who holds each receive buffer.

/// Who holds a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// The kernel, to receive into.
    Kernel,
    /// The port: a datagram that waits or is in the current batch.
    Port,
    /// The kernel, to send from; the datagram is in the current batch.
    Sending,
    /// The kernel, to send from; the batch is over.
    SendingLate,
}

/// How many buffers each holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// With the kernel, to receive into.
    pub receiving: usize,
    /// With the port: waiting or in the current batch.
    pub held: usize,
    /// With the kernel, being sent from.
    pub sending: usize,
}

impl Buffers {
    /// All there are.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.receiving + self.held + self.sending
    }
}

/// The record of who holds what. A buffer changes hands only from whom the record says; anything else is a broken
/// invariant of the port, or a kernel that answers for a buffer it wasn't given.
pub(super) struct Ledger {
    holders: Box<[Holder]>,
}

impl Ledger {
    /// All with the port, none yet given to the kernel.
    pub(super) fn new(total: usize) -> Self {
        Self { holders: vec![Holder::Port; total].into() }
    }

    pub(super) fn holder(&self, buffer: u16) -> Holder {
        self.holders[usize::from(buffer)]
    }

    pub(super) fn pass(&mut self, buffer: u16, from: Holder, to: Holder) {
        let holder = &mut self.holders[usize::from(buffer)];
        assert!(*holder == from, "buffer {buffer} passes from {from:?} to {to:?} but is with {holder:?}");
        *holder = to;
    }

    pub(super) fn count(&self) -> Buffers {
        let of = |wanted: &[Holder]| self.holders.iter().filter(|holder| wanted.contains(holder)).count();
        Buffers {
            receiving: of(&[Holder::Kernel]),
            held: of(&[Holder::Port]),
            sending: of(&[Holder::Sending, Holder::SendingLate]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_counted_once() {
        let mut ledger = Ledger::new(4);
        for buffer in 0..3 {
            ledger.pass(buffer, Holder::Port, Holder::Kernel);
        }
        ledger.pass(0, Holder::Kernel, Holder::Port);
        ledger.pass(0, Holder::Port, Holder::Sending);
        assert_eq!(ledger.count(), Buffers { receiving: 2, held: 1, sending: 1 });
        assert_eq!(ledger.count().total(), 4);
    }

    #[test]
    #[should_panic(expected = "buffer 1 passes from Port to Kernel but is with Kernel")]
    fn a_buffer_given_back_twice_is_noticed() {
        let mut ledger = Ledger::new(2);
        ledger.pass(1, Holder::Port, Holder::Kernel);
        ledger.pass(1, Holder::Port, Holder::Kernel);
    }
}
