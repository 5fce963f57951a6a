//! What is counted beside the drop reasons: one variant, one counter, one name.

use maser_core::time::StampFault;

/// What is counted beside the drop reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Event {
    /// A reply with the time was handed to the kernel.
    Answered,
    /// A reply that says "unsynchronised" was handed to the kernel.
    AnsweredUnsynchronised,
    /// A kiss was handed to the kernel: its client is over its limit, or denied.
    Kissed,
    /// A receive failed for a reason that passes: no memory, a signal of the network. The port went on.
    ReceiveFailed,
    /// A reply was not sent because a queue was full.
    SendCongested,
    /// A reply was not sent because the kernel refused it: no route, a packet filter.
    SendRefused,
    /// A batch was received.
    Batch,
    /// A read of the snapshot had to be repeated.
    SnapshotRetry,
    /// The snapshot could not be read within its tries; the batch was answered as unsynchronised.
    SnapshotLapped,
    /// A batch was not sent: the clock was stepped or its worker stopped while it was being answered.
    BatchOvertaken,
    /// `CLOCK_REALTIME` was seen to step.
    RealtimeStep,
    /// A reading of the clocks was disturbed between its parts.
    ReadingTorn,
    /// A packet came without a receive stamp.
    StampMissing,
    /// A receive stamp lay in the future.
    StampFuture,
    /// A receive stamp was older than a packet can be.
    StampStale,
    /// A receive stamp was disbelieved because its clock was stepped a moment ago.
    StampClockStepped,
    /// A receive stamp was in a clock that nothing relates to ours.
    StampUnknownClock,
    /// A receive timestamp was moved to keep it unique.
    StampMoved,
    /// A request was answered whose address another worker had answered last.
    SplitClient,
    /// A reply in interleaved mode was handed to the kernel.
    Interleaved,
    /// A pair of an interleaving client's timestamps made room, or found none, before it was asked for.
    PairEvicted,
    /// A port was asked when a reply leaves.
    DepartureAsked,
    /// A port told when a reply left.
    DepartureTold,
    /// What a port told can't be, or was told too late.
    DepartureImplausible,
    /// The NIC's stamp said when a request came.
    NicStampUsed,
    /// The NIC is to stamp what comes, and a request came without.
    NicStampMissing,
    /// The NIC's stamp can't be the request's.
    NicStampImplausible,
    /// Nobody knew where the NIC's clock stood, or whose stamp it was.
    NicStampUnplaced,
    /// The NIC's stamp said when a reply left.
    NicDepartureUsed,
    /// The NIC is to stamp what leaves, and of a reply that somebody wanted to know of the kernel told alone.
    NicDepartureMissing,
    /// The NIC's stamp can't be the reply's.
    NicDepartureImplausible,
    /// As for a request.
    NicDepartureUnplaced,
    /// A request was paid for by the bucket of those for whom the table has no place.
    ServedAsStranger,
    /// A batch was received while the program in front was told to drop what isn't known well enough.
    BatchOverloaded,
    /// A reply wasn't sent because it was longer than its request.
    OversizeRefused,
}

impl Event {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 35] = [
        Self::Answered,
        Self::AnsweredUnsynchronised,
        Self::Kissed,
        Self::ReceiveFailed,
        Self::SendCongested,
        Self::SendRefused,
        Self::Batch,
        Self::SnapshotRetry,
        Self::SnapshotLapped,
        Self::BatchOvertaken,
        Self::RealtimeStep,
        Self::ReadingTorn,
        Self::StampMissing,
        Self::StampFuture,
        Self::StampStale,
        Self::StampClockStepped,
        Self::StampUnknownClock,
        Self::StampMoved,
        Self::SplitClient,
        Self::Interleaved,
        Self::PairEvicted,
        Self::DepartureAsked,
        Self::DepartureTold,
        Self::DepartureImplausible,
        Self::NicStampUsed,
        Self::NicStampMissing,
        Self::NicStampImplausible,
        Self::NicStampUnplaced,
        Self::NicDepartureUsed,
        Self::NicDepartureMissing,
        Self::NicDepartureImplausible,
        Self::NicDepartureUnplaced,
        Self::ServedAsStranger,
        Self::BatchOverloaded,
        Self::OversizeRefused,
    ];

    pub(super) const fn is_answer(self) -> bool {
        matches!(self, Self::Answered | Self::AnsweredUnsynchronised | Self::Kissed)
    }

    /// The counter's name in `maser status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::AnsweredUnsynchronised => "answered-unsynchronised",
            Self::Kissed => "kissed",
            Self::ReceiveFailed => "receive-failed",
            Self::SendCongested => "send-congested",
            Self::SendRefused => "send-refused",
            Self::Batch => "batches",
            Self::SnapshotRetry => "snapshot-retries",
            Self::SnapshotLapped => "snapshot-lapped",
            Self::BatchOvertaken => "batches-overtaken",
            Self::RealtimeStep => "realtime-steps",
            Self::ReadingTorn => "readings-torn",
            Self::StampMissing => "stamp-missing",
            Self::StampFuture => "stamp-future",
            Self::StampStale => "stamp-stale",
            Self::StampClockStepped => "stamp-clock-stepped",
            Self::StampUnknownClock => "stamp-unknown-clock",
            Self::StampMoved => "stamp-moved",
            Self::SplitClient => "split-clients",
            Self::Interleaved => "interleaved",
            Self::PairEvicted => "pairs-evicted",
            Self::DepartureAsked => "departures-asked",
            Self::DepartureTold => "departures-told",
            Self::DepartureImplausible => "departures-implausible",
            Self::NicStampUsed => "nic-stamp-used",
            Self::NicStampMissing => "nic-stamp-missing",
            Self::NicStampImplausible => "nic-stamp-implausible",
            Self::NicStampUnplaced => "nic-stamp-unplaced",
            Self::NicDepartureUsed => "nic-departure-used",
            Self::NicDepartureMissing => "nic-departure-missing",
            Self::NicDepartureImplausible => "nic-departure-implausible",
            Self::NicDepartureUnplaced => "nic-departure-unplaced",
            Self::ServedAsStranger => "served-as-strangers",
            Self::BatchOverloaded => "batches-overloaded",
            Self::OversizeRefused => "oversize-refused",
        }
    }
}

impl From<StampFault> for Event {
    fn from(fault: StampFault) -> Self {
        match fault {
            StampFault::Missing => Self::StampMissing,
            StampFault::Future => Self::StampFuture,
            StampFault::Stale => Self::StampStale,
            StampFault::ClockStepped => Self::StampClockStepped,
            StampFault::UnknownClock => Self::StampUnknownClock,
        }
    }
}
