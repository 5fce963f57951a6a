//! What a running server can't turn to: it has to be started again.

use super::Config;
use super::keys::{self, Key};

type Differs = fn(&Config, &Config) -> bool;

/// The keys that a reload doesn't take, and whether two configurations mean something else by one.
const RESTART_KEYS: [(&Key, Differs); 5] = [
    (&keys::INTERFACE, |one, other| one.server.interfaces != other.server.interfaces),
    (&keys::NIC_STAMPS, |one, other| one.server.nic_stamps != other.server.nic_stamps),
    (&keys::BUSY_POLL, |one, other| one.server.busy_poll != other.server.busy_poll),
    (&keys::SOCKET, |one, other| one.status.socket != other.status.socket),
    (&keys::STATE, |one, other| one.clock.state != other.clock.state),
];

impl Key {
    /// Whether another value takes a restart, and no reload will do.
    #[must_use]
    pub fn needs_restart(&self) -> bool {
        RESTART_KEYS.iter().any(|(key, _)| *key == self)
    }
}

impl Config {
    /// The keys that mean something else in `other` and take a restart, as "server.interface".
    #[must_use]
    pub fn restart_needed(&self, other: &Self) -> Vec<String> {
        let needed = RESTART_KEYS.iter().filter(|(_, differs)| differs(self, other));
        let mut needed: Vec<_> = needed.map(|(key, _)| format!("{}.{}", key.section, key.name)).collect();
        // The programs on the interfaces look into a table that is made with the first of them.
        let table = |config: &Self| (config.limit.rate != 0, config.limit.memory_octets);
        if !self.server.interfaces.is_empty() && table(self) != table(other) {
            needed.push("limit.memory (with server.interface)".to_owned());
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn each_key_that_a_reload_does_not_take_is_named() {
        let of =
            |text: &str| parse(&format!("{text}\n[[source]]\ntype = \"machine\"\nstratum = 3\n")).unwrap();
        let (plain, wired) = (of(""), of("[server]\ninterface = [\"lo\"]"));
        assert_eq!(plain.restart_needed(&of("[server]\nbatch = 7\n[limit]\nmemory = \"1 MiB\"")), [""; 0]);
        for (text, needed) in [
            ("[server]\ninterface = [\"lo\"]", "server.interface"),
            ("[server]\nnic_stamps = [\"lo\"]", "server.nic_stamps"),
            ("[status]\nsocket = \"/run/x.sock\"", "status.socket"),
            ("[clock]\nstate = \"/var/lib/x\"", "clock.state"),
        ] {
            assert_eq!(plain.restart_needed(&of(text)), [needed], "{text}");
        }
        let polling = of("[server]\ninterface = [\"lo\"]\nbusy_poll = true");
        assert_eq!(wired.restart_needed(&polling), ["server.busy_poll"]);
        for limit in ["memory = \"1 MiB\"", "rate = 0"] {
            let other = of(&format!("[server]\ninterface = [\"lo\"]\n[limit]\n{limit}"));
            assert_eq!(wired.restart_needed(&other), ["limit.memory (with server.interface)"], "{limit}");
        }
    }
}
