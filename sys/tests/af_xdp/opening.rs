//! What is refused, and in which words.

use std::os::fd::AsFd;
use std::time::Instant;

use maser_sys::af_xdp::{CopyChoice, FRAMES_MAX, Xsk, XskError, XskPort, XskSetting};
use maser_sys::datagram::Wait;
use maser_sys::xdp_program::AttachMode;

use crate::rig::{FRAMES, SHORT, echo_all, ip, request, with_rig};

fn refusal(setting: &XskSetting) -> XskError {
    match Xsk::open(setting) {
        Err(error) => error,
        Ok(_) => panic!("{setting:?} isn't refused"),
    }
}

#[track_caller]
fn assert_words(error: XskError, words: &str) {
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_setting_that_cannot_be_is_refused() {
    with_rig("settings", 1, AttachMode::Native, |rig| {
        let setting = rig.setting(0);
        for frames in [0, 3, 32, FRAMES_MAX * 2] {
            assert_eq!(refusal(&XskSetting { frames, ..setting }), XskError::Frames { frames });
        }
        assert_words(refusal(&XskSetting { interface: 4711, ..setting }), "there is no interface 4711");
        assert_words(refusal(&XskSetting { queue: 1, ..setting }), "has no queue 1");
        assert!(matches!(XskPort::new(vec![], 1), Err(XskError::Size)));
        assert!(matches!(XskPort::new(vec![rig.open(&setting)], 0), Err(XskError::Size)));
    });
}

#[test]
fn copies_are_made_where_they_must_be_and_the_reason_is_told() {
    with_rig("zero-copy", 1, AttachMode::Native, |rig| {
        let setting = rig.setting(0);
        assert_words(refusal(&XskSetting { copy: CopyChoice::ZeroCopy, ..setting }), "no zero-copy");
        let auto = Xsk::open(&setting).unwrap();
        assert!(!auto.is_zero_copy());
        assert_words(auto.why_copied().unwrap(), "no zero-copy");
        drop(auto);
        let copy = Xsk::open(&XskSetting { copy: CopyChoice::Copy, ..setting }).unwrap();
        assert_eq!((copy.is_zero_copy(), copy.why_copied()), (false, None));
    });
}

#[test]
fn a_queue_has_one_socket_and_is_free_when_that_is_closed() {
    with_rig("a queue that is taken", 1, AttachMode::Native, |rig| {
        let setting = rig.setting(0);
        let first = rig.port(1, 4);
        let asked = Instant::now();
        let error = refusal(&setting);
        assert_eq!(error, XskError::QueueTaken { interface: rig.far, queue: 0 });
        assert_words(error, "another socket has queue 0");
        assert!(asked.elapsed().as_millis() >= 900, "it was waited for");
        drop(first);
        for _ in 0..5 {
            // A machine that is very busy may take longer than a second to let go of it.
            let opened = (0..10).find_map(|_| Xsk::open(&setting).ok()).expect("it is free again");
            rig.sockets.insert(0, opened.as_fd()).unwrap();
            let mut port = XskPort::new(vec![opened], 4).unwrap();
            assert!(rig.client.send(&request(1, 40_000)));
            echo_all(&mut port, 1);
        }
    });
}

#[test]
fn a_link_that_is_down_can_be_opened_and_works_when_it_is_up() {
    with_rig("a link that is down", 1, AttachMode::Native, |rig| {
        ip("link set far down");
        let mut port = rig.port(1, 4);
        assert_eq!(port.receive(Wait::Poll).unwrap(), 0);
        ip("link set far up");
        // What is sent before both ends have a carrier is dropped.
        let came = (0..200).any(|_| {
            rig.client.send(&request(1, 40_000));
            port.receive(SHORT).unwrap() > 0
        });
        assert!(came);
    });
}

/// Leaves this thread with these capabilities at most.
fn keep_capabilities(kept: u32) {
    let header = [0x2008_0522_u32, 0];
    let sets = [kept, kept, 0, 0, 0, 0];
    // SAFETY: a header of version 3 for this thread, and two sets of three words, as the version has them.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn it_takes_a_capability() {
    with_rig("without capabilities", 1, AttachMode::Native, |rig| {
        keep_capabilities(0);
        assert_words(refusal(&rig.setting(0)), "CAP_NET_RAW");
    });
}

/// `CAP_NET_RAW`.
const NET_RAW: u32 = 13;

#[test]
fn it_takes_memory_that_may_be_locked() {
    with_rig("locked memory", 1, AttachMode::Native, |rig| {
        // The process's limit doesn't matter to the other tests, who may lock as much as they like.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes two words to where they fit.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) }, 0);
        limit.rlim_cur = limit.rlim_max.min(1 << 16);
        // SAFETY: the kernel reads two words.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }, 0);
        keep_capabilities(1 << NET_RAW);
        let error = refusal(&rig.setting(0));
        assert_eq!(error, XskError::LockedMemory { octets: u64::from(FRAMES) * 2048 });
        assert_words(error, "ulimit -l");
    });
}
