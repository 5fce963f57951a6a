//! The lists of sources are replaced by a process that has given up its privileges and put itself under the filter.
//!
//! One test, since it holds for the whole process and can't be undone.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use libbpf_rs::libbpf_sys::bpf_map_lookup_elem;
use maser_core::limit::access::Standing;
use maser_sys::access_tries::AccessTries;
use maser_sys::privileges;
use maser_sys::seccomp::{self, Needs};
use maser_sys::xdp_program::SharedMaps;

/// Asks the kernel for a value, or whether it may be asked.
fn look_up(map: &OwnedFd, address: Ipv4Addr) -> io::Result<u32> {
    let key = [&32_u32.to_ne_bytes()[..], &address.octets()].concat();
    let mut value = 0_u32;
    // SAFETY: a key of the trie has eight octets and a value four, as those that the pointers lead to.
    let result =
        unsafe { bpf_map_lookup_elem(map.as_raw_fd(), key.as_ptr().cast(), (&raw mut value).cast()) };
    if result == 0 { Ok(value) } else { Err(io::Error::from_raw_os_error(-result)) }
}

#[test]
fn a_locked_down_process_replaces_the_lists_and_does_nothing_else() {
    if !std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "BPF maps are tested as root");
        eprintln!("SKIPPED: it takes root to make BPF maps");
        return;
    }
    let shared = SharedMaps::new(64 << 10).unwrap();
    let mut tries = AccessTries::from_fds(shared.sources_maps().unwrap()).unwrap();
    let [ip4, _] = shared.sources_maps().unwrap();
    let source = Ipv4Addr::new(10, 1, 2, 3);
    let prefix = |length, standing| (Ipv4Addr::new(10, 0, 0, 0).into(), length, standing);
    tries.replace(&[prefix(8, Standing::Denied)]).unwrap();
    assert_eq!(look_up(&ip4, source).unwrap(), 2);

    privileges::drop_all().unwrap();
    seccomp::confine(&Needs { access_tries: true, ..Needs::default() }).unwrap();

    tries.replace(&[prefix(7, Standing::Bogon), prefix(9, Standing::Exempt)]).unwrap();
    tries.replace(&[prefix(9, Standing::Bogon)]).unwrap();
    tries.replace(&[]).unwrap();
    // Other commands are refused: reading, and making maps.
    let refused =
        |outcome: io::Result<u32>| assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EPERM));
    refused(look_up(&ip4, source));
    assert!(SharedMaps::new(64 << 10).is_err());
}
