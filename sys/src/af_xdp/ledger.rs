//! Who holds each frame.

/// Who holds a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// The kernel, to receive into: in the fill ring, in the driver, or received and in the ring of packets that came.
    Kernel,
    /// The port: a packet of the current batch.
    Port,
    /// The kernel, to send from: in the ring of packets to send, in the driver, or sent and in the completion ring.
    Sending,
}

/// The record of who holds what. A frame changes hands only from whom the record says; anything else is a broken
/// invariant of the port, or a kernel that answers for a frame it wasn't given.
pub(super) struct Ledger {
    holders: Box<[Holder]>,
    sending: u32,
    held: u32,
}

impl Ledger {
    /// All with the port, none yet given to the kernel.
    pub(super) fn new(frames: u32) -> Self {
        Self { holders: vec![Holder::Port; frames as usize].into(), sending: 0, held: frames }
    }

    /// # Panics
    /// If there is no such frame.
    #[inline]
    pub(super) fn holder(&self, frame: u32) -> Holder {
        self.holders[frame as usize]
    }

    #[inline]
    pub(super) fn pass(&mut self, frame: u32, from: Holder, to: Holder) {
        let holder = &mut self.holders[frame as usize];
        assert!(*holder == from, "frame {frame} passes from {from:?} to {to:?} but is with {holder:?}");
        *holder = to;
        for (who, count) in [(Holder::Port, &mut self.held), (Holder::Sending, &mut self.sending)] {
            *count = *count + u32::from(who == to) - u32::from(who == from);
        }
    }

    /// How many frames the kernel has to receive into.
    pub(super) fn receiving(&self) -> u32 {
        self.total() - self.held - self.sending
    }

    /// How many the port has.
    pub(super) const fn held(&self) -> u32 {
        self.held
    }

    /// How many the kernel has to send from.
    pub(super) const fn sending(&self) -> u32 {
        self.sending
    }

    /// How many `who` holds by the record itself, rather than by the running count.
    pub(super) fn recounted(&self, who: Holder) -> u32 {
        u32::try_from(self.holders.iter().filter(|holder| **holder == who).count()).unwrap_or(u32::MAX)
    }

    fn total(&self) -> u32 {
        u32::try_from(self.holders.len()).expect("as many as `new` was told")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_counted_once() {
        let mut ledger = Ledger::new(4);
        assert_eq!((ledger.receiving(), ledger.held(), ledger.sending()), (0, 4, 0));
        (0..3).for_each(|frame| ledger.pass(frame, Holder::Port, Holder::Kernel));
        ledger.pass(0, Holder::Kernel, Holder::Port);
        ledger.pass(0, Holder::Port, Holder::Sending);
        assert_eq!((ledger.receiving(), ledger.held(), ledger.sending()), (2, 1, 1));
        ledger.pass(0, Holder::Sending, Holder::Kernel);
        assert_eq!((ledger.receiving(), ledger.held(), ledger.sending()), (3, 1, 0));
    }

    #[test]
    #[should_panic(expected = "frame 1 passes from Port to Kernel but is with Kernel")]
    fn a_frame_given_back_twice_is_noticed() {
        let mut ledger = Ledger::new(2);
        ledger.pass(1, Holder::Port, Holder::Kernel);
        ledger.pass(1, Holder::Port, Holder::Kernel);
    }
}
