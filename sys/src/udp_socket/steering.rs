//! The choice among the sockets of a group, by source address alone.

use libc::{
    BPF_ABS, BPF_ALU, BPF_K, BPF_LD, BPF_MISC, BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X,
    BPF_XOR, SKF_NET_OFF, sock_filter, sock_fprog,
};
use nix::sys::socket::{setsockopt, sockopt};

use super::{OpenError, UdpSocket};
use std::net::SocketAddr;

/// How clients are spread over the sockets of a group: by a hash that outsiders can't predict.
///
/// The key is the client as limits know it: the IPv4 address, or the upper 64 bits of the IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steering {
    multiplier: u32,
}

impl Steering {
    /// From a random number; it is made odd so that no address bit is lost.
    #[must_use]
    pub const fn new(random: u32) -> Self {
        Self { multiplier: random | 1 }
    }

    /// From now on chooses among these, the first of a group in the order in which they were opened; what waits in others
    /// stays there.
    ///
    /// # Errors
    /// None that isn't the kernel's fault; [`OpenError::GroupSize`] for none.
    pub fn steer(self, group: &[UdpSocket]) -> Result<(), OpenError> {
        let workers = group.len();
        let socket = group.first().ok_or(OpenError::GroupSize { workers })?;
        let workers = u32::try_from(workers).map_err(|_| OpenError::GroupSize { workers })?;
        let mut program = self.program(socket.address(), workers);
        let program = sock_fprog {
            len: u16::try_from(program.len())
                .map_err(|_| OpenError::Refused { what: "filter", errno: libc::EINVAL })?,
            filter: program.as_mut_ptr(),
        };
        setsockopt(socket, sockopt::AttachReusePortCbpf, &program)
            .map_err(|errno| OpenError::Refused { what: "SO_ATTACH_REUSEPORT_CBPF", errno: errno as i32 })
    }

    /// Two rounds of multiply and fold, so that neighbouring addresses spread whatever the multiplier, then the
    /// remainder. The program sees the packet from the UDP payload on; `SKF_NET_OFF` reaches back to the IP header.
    fn program(self, address: SocketAddr, workers: u32) -> Vec<sock_filter> {
        let multiply = alu(BPF_MUL | BPF_K, self.multiplier);
        let mut program = match address {
            // RFC 791 §3.1: the source address is at octet 12.
            SocketAddr::V4(_) => vec![load_word(12), multiply],
            // RFC 8200 §3: the source address is at octet 8; its first half is two words.
            SocketAddr::V6(_) => {
                vec![load_word(8), multiply, tax(), load_word(12), alu(BPF_XOR | BPF_X, 0), multiply]
            }
        };
        program.extend([
            tax(),
            alu(BPF_RSH | BPF_K, 16),
            alu(BPF_XOR | BPF_X, 0),
            multiply,
            alu(BPF_RSH | BPF_K, 16),
            alu(BPF_MOD | BPF_K, workers),
            statement(BPF_RET | RETURN_A, 0),
        ]);
        program
    }
}

/// `BPF_A` of the kernel's `linux/bpf_common.h`: return the accumulator.
const RETURN_A: u32 = 0x10;

const fn statement(code: u32, operand: u32) -> sock_filter {
    // Every code of classic BPF fits its 16-bit field.
    let [low, high, ..] = code.to_le_bytes();
    sock_filter { code: u16::from_le_bytes([low, high]), jt: 0, jf: 0, k: operand }
}

const fn alu(operation: u32, operand: u32) -> sock_filter {
    statement(BPF_ALU | operation, operand)
}

const fn tax() -> sock_filter {
    statement(BPF_MISC | BPF_TAX, 0)
}

const fn load_word(octet: i32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, SKF_NET_OFF.wrapping_add(octet).cast_unsigned())
}
