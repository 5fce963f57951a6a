//! The key of the `[metrics]` section.

use super::{Absent, Key};

pub(in crate::config) const LISTEN: Key = Key {
    section: "metrics",
    types: &[],
    name: "listen",
    expected: "a list of \"ADDRESS:PORT\" strings, as [\"127.0.0.1:9123\"]",
    absent: Absent::Value("[]"),
    meaning: "The addresses (TCP) at which Prometheus and others may fetch /metrics over HTTP, at most 8; an empty list for \
              none. Whoever reaches one may ask, without a password or encryption: an address of a management network, or \
              loopback, is meant. An IPv6 address stands in brackets and takes IPv6 only. No figure names a client.",
};
