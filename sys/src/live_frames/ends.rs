//! The far end of a rig: what counts datagrams and drops them, what sends them back, what lets them by.

use std::io;

use libbpf_rs::MapHandle;

use crate::bpf::Attached;

use super::object::{FIRST, Programs};
use super::replies::sum_over_cores;
use super::{AttachMode, LiveError};

/// What arrived for a port.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EndCounts {
    /// Frames.
    pub frames: u64,
    /// Octets of them, from the Ethernet header on.
    pub octets: u64,
}

/// A program that looks at the UDP datagrams of a port.
#[derive(Debug)]
struct End {
    attached: Attached,
    arrivals: MapHandle,
}

impl End {
    fn attach(program: &'static str, interface: u32, port: u16) -> Result<Self, LiveError> {
        let maps = [(".rodata.end", Some(&[u64::from(port.to_be())][..])), ("arrivals", None)];
        let programs = Programs::load(&[program], &maps)?;
        Ok(Self { attached: programs.attach(program, interface)?, arrivals: programs.map("arrivals")? })
    }

    fn counts(&self) -> io::Result<EndCounts> {
        let words = sum_over_cores(&self.arrivals, FIRST, 2)?;
        Ok(EndCounts { frames: words[0], octets: words[1] })
    }
}

/// Counts the UDP datagrams to a port and drops all but the first on each core, for as long as it lives: what a generator
/// really sends. The first may be the question by which it learns the way.
#[derive(Debug)]
pub struct Sink(End);

/// Counts the UDP datagrams to a port and sends them back as they are: the limit of a rig.
#[derive(Debug)]
pub struct Reflector(End);

macro_rules! end {
    ($name:ident, $program:literal) => {
        impl $name {
            /// Puts the program on the interface of this index.
            ///
            /// # Errors
            /// What this process or kernel lacks, or that the interface has another program, which stays.
            pub fn attach(interface: u32, port: u16) -> Result<Self, LiveError> {
                End::attach($program, interface, port).map(Self)
            }

            /// What arrived so far.
            ///
            /// # Errors
            /// None that isn't the kernel's fault.
            pub fn counts(&self) -> io::Result<EndCounts> {
                self.0.counts()
            }

            /// Where the program runs.
            #[must_use]
            pub const fn mode(&self) -> AttachMode {
                self.0.attached.mode
            }
        }
    };
}
end!(Sink, "sink");
end!(Reflector, "reflect");

/// Lets everything by: that there is a program at all lets a veth's peer transmit.
#[derive(Debug)]
pub struct Pass(Attached);

impl Pass {
    /// Puts the program on the interface of this index.
    ///
    /// # Errors
    /// What this process or kernel lacks, or that the interface has another program, which stays.
    pub fn attach(interface: u32) -> Result<Self, LiveError> {
        Programs::load(&["pass"], &[])?.attach("pass", interface).map(Self)
    }

    /// Where the program runs.
    #[must_use]
    pub const fn mode(&self) -> AttachMode {
        self.0.mode
    }
}
