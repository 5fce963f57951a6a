//! What the program costs, by `BPF_PROG_TEST_RUN`. It is no test:
//!
//! ```text
//! cargo test --release -p maser-sys --test xdp_program -- --ignored --nocapture figures
//! ```

use crate::oracle::frame::{Wrapping, wrap};
use crate::rig::{Rig, ip4, ip4_wrapping, ip6, message, tag, test_run};

const REPEAT: i32 = 1_000_000;
const ROUNDS: usize = 5;

#[test]
#[ignore = "prints figures and tests nothing"]
fn figures() {
    let Some(rig) = Rig::new() else { return };
    let changed = |at: usize, octet| {
        let mut frame = ip4();
        frame[at] = octet;
        frame
    };
    let two = vec![tag(0x88A8, 200), tag(0x8100, 300)];
    let frames = [
        ("IPv4 request", ip4()),
        ("IPv6 request", ip6()),
        ("IPv4 request under two tags", wrap(&message(), &Wrapping { tags: two, ..ip4_wrapping() })),
        ("UDP to another port", changed(37, 124)),
        ("TCP", changed(23, 6)),
        ("to another station", changed(5, 9)),
        ("broadcast", changed(0, 0xFF)),
    ];
    println!("ns a frame, {REPEAT} runs, {ROUNDS} rounds: median [least, most]");
    for (name, frame) in frames {
        let mut rounds = [0; ROUNDS];
        rounds.fill_with(|| test_run(&rig.program, &frame, &mut [0; 300], REPEAT).2);
        rounds.sort_unstable();
        println!("{name:30} {:4} [{}, {}]", rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]);
    }
}
