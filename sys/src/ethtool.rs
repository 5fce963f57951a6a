//! What a network interface is and how it is set, as `ethtool` asks it: `linux/ethtool.h` through `SIOCETHTOOL`.
//!
//! Read only. What a driver doesn't offer is an answer, not an error: none.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{IFNAMSIZ, ifreq};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// From `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `ETHTOOL_G…`: the commands.
const DRIVER_INFO: u32 = 0x03;
const COALESCING: u32 = 0x0e;
const RING_PARAMETERS: u32 = 0x10;
const STRINGS: u32 = 0x1b;
const FLOW_HASH: u32 = 0x29;
const STRING_SET_INFO: u32 = 0x37;
const INDIRECTION: u32 = 0x38;
const FEATURES: u32 = 0x3a;
const CHANNELS: u32 = 0x3c;
const ENERGY_EFFICIENT: u32 = 0x44;
const LINK_SETTINGS: u32 = 0x4c;

/// `ETH_SS_FEATURES`: the set of features' names, and the octets that each takes.
const FEATURE_NAMES: u32 = 4;
const NAME_WORDS: usize = 32 / 4;
/// Far more than the 64 that there are.
const FEATURES_MAX: usize = 256;
/// Features of a block of `ETHTOOL_GFEATURES`: four words, what can be changed, what is wanted, what is on, and what
/// never changes whatever is wanted.
const BLOCK_FEATURES: usize = 32;
const BLOCK_WORDS: usize = 4;
const BLOCK_AVAILABLE: usize = 0;
const BLOCK_ACTIVE: usize = 2;
const BLOCK_NEVER_CHANGED: usize = 3;

/// Words of the structures of the commands above, rounded up.
const DRIVER_WORDS: usize = 49;
const RING_WORDS: usize = 9;
const FLOW_WORDS: usize = 48;
const CHANNEL_WORDS: usize = 9;
const COALESCING_WORDS: usize = 23;
const ENERGY_EFFICIENT_WORDS: usize = 10;

/// `struct ethtool_link_settings` without its masks, and these at their longest: three of at most 127 words.
const LINK_WORDS: usize = 12;
const LINK_MASK_WORDS: usize = 3 * 127;
/// Of it: the speed's word, and the word that ends with how long each mask is.
const LINK_SPEED: usize = 1;
const LINK_MASKS: usize = 3;
/// `SPEED_UNKNOWN`.
const SPEED_UNKNOWN: u32 = u32::MAX;

/// An interface to ask.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
    name: [c_char; IFNAMSIZ],
}

/// How many channels a driver has set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channels {
    /// That receive only.
    pub rx: u32,
    /// That transmit only.
    pub tx: u32,
    /// That do both.
    pub combined: u32,
    /// The most that can be set up of each: to receive, to transmit, to do both.
    pub most: [u32; 3],
}

/// How long a NIC holds interrupts back on receipt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coalescing {
    /// After a packet has come, µs.
    pub rx_usecs: u32,
    /// Whether the driver changes that as it sees fit.
    pub adaptive_rx: bool,
}

/// Descriptors of a ring, mostly one to receive by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RxRing {
    /// As it is set.
    pub descriptors: u32,
    /// The most that can be set.
    pub descriptors_max: u32,
}

/// A kind of UDP datagrams that is dealt to queues in its own way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UdpFlow {
    /// Over IPv4.
    V4,
    /// Over IPv6.
    V6,
}

/// By what a receive queue is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashFields {
    /// The source address.
    pub source_address: bool,
    /// The destination address.
    pub destination_address: bool,
    /// The source port.
    pub source_port: bool,
    /// The destination port.
    pub destination_port: bool,
}

impl HashFields {
    /// From `RXH_…`.
    const fn of_bits(bits: u32) -> Self {
        Self {
            source_address: bits & 1 << 4 != 0,
            destination_address: bits & 1 << 5 != 0,
            source_port: bits & 1 << 6 != 0,
            destination_port: bits & 1 << 7 != 0,
        }
    }
}

/// The features that are on, by the names that `ethtool -k` and `-K` know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Features {
    on: Vec<String>,
    fixed: Vec<String>,
}

impl Features {
    /// Whether this one is on; no if the kernel doesn't know it.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.on.iter().any(|on| on == name)
    }

    /// Whether the driver has fixed this one, on or off.
    #[must_use]
    pub fn is_fixed(&self, name: &str) -> bool {
        self.fixed.iter().any(|fixed| fixed == name)
    }
}

impl FromIterator<String> for Features {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        Self { on: names.into_iter().collect(), fixed: Vec::new() }
    }
}

impl Ethtool {
    /// For the interface of this name in the network namespace of the calling thread.
    ///
    /// # Errors
    /// A name that no interface can have; no descriptor left.
    pub fn new(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.len() >= IFNAMSIZ || name.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let mut octets = [0; IFNAMSIZ];
        for (to, octet) in octets.iter_mut().zip(name.as_bytes()) {
            *to = c_char::from_ne_bytes([*octet]);
        }
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket, name: octets })
    }

    /// The driver's name.
    ///
    /// # Errors
    /// No such interface.
    pub fn driver(&self) -> io::Result<Option<String>> {
        let mut words = [0; DRIVER_WORDS];
        words[0] = DRIVER_INFO;
        let offered = self.ask(&mut words)?;
        Ok(offered.then(|| text(&words[1..=NAME_WORDS])).filter(|name| !name.is_empty()))
    }

    /// The features that are on.
    ///
    /// # Errors
    /// No such interface; [`io::ErrorKind::Unsupported`] on a kernel with more features than can be.
    pub fn features(&self) -> io::Result<Features> {
        let mut set = [STRING_SET_INFO, 0, 0, 0, 0];
        // The mask of the sets asked for is a 64-bit word.
        let mask = (1_u64 << FEATURE_NAMES).to_ne_bytes();
        let (words, _) = mask.as_chunks();
        set[2..4].iter_mut().zip(words).for_each(|(to, word)| *to = u32::from_ne_bytes(*word));
        if !self.ask(&mut set)? {
            return Ok(Features::default());
        }
        let count = usize::try_from(set[4]).unwrap_or(usize::MAX);
        if count > FEATURES_MAX {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut names = [0; 3 + FEATURES_MAX * NAME_WORDS];
        (names[0], names[1], names[2]) = (STRINGS, FEATURE_NAMES, set[4]);
        let mut blocks = [0; 2 + FEATURES_MAX / BLOCK_FEATURES * BLOCK_WORDS];
        (blocks[0], blocks[1]) = (FEATURES, set[4].div_ceil(32));
        if !self.ask(&mut names)? || !self.ask(&mut blocks)? {
            return Ok(Features::default());
        }
        let has = |word: usize, feature: usize| {
            let block = blocks[2..].chunks(BLOCK_WORDS).nth(feature / BLOCK_FEATURES);
            block.is_some_and(|block| block[word] >> (feature % BLOCK_FEATURES) & 1 != 0)
        };
        let is_fixed = |feature| !has(BLOCK_AVAILABLE, feature) || has(BLOCK_NEVER_CHANGED, feature);
        let mut features = Features::default();
        for (feature, name) in names[3..].chunks(NAME_WORDS).take(count).enumerate() {
            features.on.extend(has(BLOCK_ACTIVE, feature).then(|| text(name)));
            features.fixed.extend(is_fixed(feature).then(|| text(name)));
        }
        Ok(features)
    }

    /// How many channels are set up.
    ///
    /// # Errors
    /// No such interface.
    pub fn channels(&self) -> io::Result<Option<Channels>> {
        let mut words = [0; CHANNEL_WORDS];
        words[0] = CHANNELS;
        let offered = self.ask(&mut words)?;
        Ok(offered.then(|| Channels {
            rx: words[5],
            tx: words[6],
            combined: words[8],
            most: [words[1], words[2], words[4]],
        }))
    }

    /// How long interrupts are held back on receipt.
    ///
    /// # Errors
    /// No such interface.
    pub fn coalescing(&self) -> io::Result<Option<Coalescing>> {
        let mut words = [0; COALESCING_WORDS];
        words[0] = COALESCING;
        let offered = self.ask(&mut words)?;
        Ok(offered.then(|| Coalescing { rx_usecs: words[1], adaptive_rx: words[10] != 0 }))
    }

    /// Whether Energy-Efficient Ethernet is on.
    ///
    /// # Errors
    /// No such interface.
    pub fn energy_efficient(&self) -> io::Result<Option<bool>> {
        let mut words = [0; ENERGY_EFFICIENT_WORDS];
        words[0] = ENERGY_EFFICIENT;
        let offered = self.ask(&mut words)?;
        Ok(offered.then_some(words[5] != 0))
    }

    /// The link's speed in megabits a second; none while it is down, or if the driver doesn't say.
    ///
    /// # Errors
    /// No such interface.
    pub fn link_speed(&self) -> io::Result<Option<u32>> {
        let mut words = [0; LINK_WORDS + LINK_MASK_WORDS];
        words[0] = LINK_SETTINGS;
        // The first answer says how long the masks are, as a negative number, and nothing else.
        if !self.ask(&mut words)? {
            return Ok(None);
        }
        let [.., masks] = words[LINK_MASKS].to_ne_bytes();
        let mut words = [0; LINK_WORDS + LINK_MASK_WORDS];
        words[0] = LINK_SETTINGS;
        words[LINK_MASKS] = u32::from_ne_bytes([0, 0, 0, masks.wrapping_neg()]);
        if !self.ask(&mut words)? {
            return Ok(None);
        }
        Ok(Some(words[LINK_SPEED]).filter(|&speed| speed != 0 && speed != SPEED_UNKNOWN))
    }

    /// The size of a receive ring.
    ///
    /// # Errors
    /// No such interface.
    pub fn rx_ring(&self) -> io::Result<Option<RxRing>> {
        Ok(self.rings()?.map(|[receive, _]| receive))
    }

    /// The sizes of a ring to receive by and of one to send by.
    ///
    /// # Errors
    /// No such interface.
    pub fn rings(&self) -> io::Result<Option<[RxRing; 2]>> {
        let mut words = [0; RING_WORDS];
        words[0] = RING_PARAMETERS;
        let offered = self.ask(&mut words)?;
        let ring = |now: usize, most: usize| RxRing { descriptors: words[now], descriptors_max: words[most] };
        Ok(offered.then(|| [ring(5, 1), ring(8, 4)]))
    }

    /// By what UDP datagrams are dealt to queues.
    ///
    /// # Errors
    /// No such interface.
    pub fn udp_hash(&self, flow: UdpFlow) -> io::Result<Option<HashFields>> {
        let mut words = [0; FLOW_WORDS];
        let number = match flow {
            UdpFlow::V4 => 0x02,
            UdpFlow::V6 => 0x06,
        };
        (words[0], words[1]) = (FLOW_HASH, number);
        match self.ask(&mut words) {
            Ok(offered) => {
                // A 64-bit word, of which the 32 lower bits are used.
                let low = if cfg!(target_endian = "little") { words[2] } else { words[3] };
                Ok(offered.then(|| HashFields::of_bits(low)))
            }
            // Drivers say so of a kind of flow that they don't tell apart.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The size of the table between hash and queue.
    ///
    /// # Errors
    /// No such interface.
    pub fn indirection_size(&self) -> io::Result<Option<u32>> {
        // With a size of 0 only the size is told.
        let mut words = [INDIRECTION, 0];
        Ok(self.ask(&mut words)?.then_some(words[1]))
    }

    /// Fills in the answer; false if the driver doesn't offer it. `words` begins with the command, and must have at
    /// least the length of its structure, with the arrays as long as it says itself.
    pub(crate) fn ask(&self, words: &mut [u32]) -> io::Result<bool> {
        match self.request(SIOCETHTOOL, words) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a request whose data is `words`, which are as long as its structure.
    pub(crate) fn request(&self, number: libc::Ioctl, words: &mut [u32]) -> io::Result<()> {
        // SAFETY: zeros are a value of a request's fields.
        let mut request: ifreq = unsafe { std::mem::zeroed() };
        request.ifr_name = self.name;
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the request is whole, and its pointer leads to `words`, which nobody else uses meanwhile and which is
        // as long as the command's structure; the names' array alone isn't bounded by the request, and it has room for
        // four times the features that the kernel's 64-bit mask has, the count having been looked at, as is the masks'.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), number, &raw mut request) } == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error())
    }
}

/// A text that ends with its first zero.
fn text(words: &[u32]) -> String {
    let octets = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|&octet| octet != 0);
    String::from_utf8_lossy(&octets.collect::<Vec<_>>()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_answers_what_it_offers() {
        let loopback = Ethtool::new("lo").unwrap();
        let features = loopback.features().unwrap();
        // `ethtool -k lo` has said so since features have had names.
        assert!(features.is_on("loopback") && features.is_on("vlan-challenged"), "{features:?}");
        assert!(!features.is_on("rx-lro") && !features.is_on("no such feature"), "{features:?}");
        assert!(features.is_fixed("loopback") && !features.is_fixed("rx-gro"), "{features:?}");
        assert_eq!(loopback.channels().unwrap(), None);
        assert_eq!(loopback.coalescing().unwrap(), None);
        assert_eq!(loopback.energy_efficient().unwrap(), None);
        assert_eq!(loopback.udp_hash(UdpFlow::V4).unwrap(), None);
        assert_eq!(loopback.indirection_size().unwrap(), None);
        assert_eq!(loopback.rx_ring().unwrap(), None);
        assert_eq!(loopback.link_speed().unwrap(), None);
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        for name in ["", "no-such-dev", "a name longer than one can be"] {
            let outcome = Ethtool::new(name).and_then(|interface| interface.features());
            assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }

    #[test]
    fn hash_fields_have_the_bits_of_the_header() {
        let by_source = HashFields::of_bits(0x10);
        assert!(by_source.source_address && !by_source.destination_address && !by_source.source_port);
        let by_all = HashFields::of_bits(0xf0);
        assert!(by_all.destination_address && by_all.source_port && by_all.destination_port);
    }
}
