//! The commands that make a receiver send what is needed, in its working memory only: a power cycle undoes
//! them.
//!
//! Receivers up to the eighth generation, and most of the ninth, take CFG-MSG, which is for the port that it
//! comes in by. From the ninth on there is CFG-VALSET, whose keys name the port, which nobody knows here: all
//! are told, one key a command, since a receiver refuses the whole command for a port that it hasn't got.
//! What is refused does no harm.

use super::{FRAMING_OCTETS, SYNC, ubx_checksum};

/// Octets of the longest command.
const COMMAND_OCTETS_MAX: usize = FRAMING_OCTETS + 9;

/// Class and id of NAV-PVT, NAV-TIMELS and TIM-TP.
const MESSAGES: [[u8; 2]; 3] = [[0x01, 0x07], [0x01, 0x26], [0x0D, 0x01]];

/// The keys of their rates on the first serial port (CFG-MSGOUT-…-UART1); the second's and USB's follow.
const UART1_RATE_KEYS: [u32; 3] = [0x2091_0007, 0x2091_0061, 0x2091_017E];

/// UART1, UART2, USB.
const PORTS: u32 = 3;

/// Once every solution, which is once a second unless somebody changed that.
const RATE: u8 = 1;

/// CFG-VALSET's layer: working memory.
const LAYER_RAM: u8 = 1;

/// A command, framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UbxCommand {
    octets: [u8; COMMAND_OCTETS_MAX],
    length: usize,
}

impl UbxCommand {
    /// The octets to send.
    #[must_use]
    pub fn as_octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    /// Puts a payload of up to nine octets into a frame.
    fn new<const PAYLOAD: usize>(class: u8, id: u8, payload: [u8; PAYLOAD]) -> Self {
        const { assert!(PAYLOAD + FRAMING_OCTETS <= COMMAND_OCTETS_MAX && PAYLOAD < 256, "a command fits") };
        let length = PAYLOAD.to_le_bytes().into_iter().take(2);
        let mut command = Self { octets: [0; COMMAND_OCTETS_MAX], length: 0 };
        command.append(SYNC);
        command.append([class, id].into_iter().chain(length));
        command.append(payload);
        command.append(ubx_checksum(command.as_octets().get(SYNC.len()..).unwrap_or_default()));
        command
    }

    fn append(&mut self, octets: impl IntoIterator<Item = u8>) {
        for octet in octets {
            if let Some(free) = self.octets.get_mut(self.length) {
                *free = octet;
                self.length += 1;
            }
        }
    }
}

/// The commands that switch NAV-PVT, NAV-TIMELS and TIM-TP on.
pub fn ubx_configuration() -> impl Iterator<Item = UbxCommand> {
    let by_port = UART1_RATE_KEYS.into_iter().flat_map(|key| key..key + PORTS).map(|key| {
        let [k0, k1, k2, k3] = key.to_le_bytes();
        UbxCommand::new(0x06, 0x8A, [0, LAYER_RAM, 0, 0, k0, k1, k2, k3, RATE])
    });
    MESSAGES.into_iter().map(|[class, id]| UbxCommand::new(0x06, 0x01, [class, id, RATE])).chain(by_port)
}
