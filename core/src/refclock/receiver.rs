//! What receivers of either protocol say of themselves, for people; nothing is decided by it.

/// What kind of position a receiver has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fix {
    /// None.
    None,
    /// Without height.
    TwoD,
    /// With height.
    ThreeD,
    /// Time alone: a timing receiver that was told, or has found, where it stands.
    TimeOnly,
}

/// A receiver's own account of its sky.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReceiverStatus {
    /// The kind of fix, once it was said.
    pub fix: Option<Fix>,
    /// Satellites used.
    pub used: Option<u8>,
    /// Satellites in view, of all systems.
    pub in_view: Option<u16>,
}
