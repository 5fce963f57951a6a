//! The bar for `send`: how many frames a second the kernel's live frames can carry at all, beside what `send` makes.
//!
//! `live_blast {bare|touched|send} INTERFACE FAR FRAME SECONDS [RATE]`: FRAME is a template in hexadecimal; FAR is the
//! other end of a veth pair in the same namespace, where a sink counts what arrives, or `-` where somebody else has put one. `bare` transmits one and the same
//! frame with a program of two instructions, the fastest there can be. `touched` writes an address and a timestamp into
//! it first, so that its lines pass between the cores' caches, as any differing frame's must on a veth pair. `send`
//! makes requests of 10,000 clients, 1 ns apart (always behind its schedule, so as fast as it can), or at RATE. BATCH
//! in the environment sets the bare loop's batch, CALL the iterations of its calls. The process is pinned to core 1; pin
//! the far end's NAPI thread to core 0.

#![expect(clippy::disallowed_methods, reason = "a bench measures by the real clock")]
#![expect(clippy::print_stdout, reason = "a bench prints its result")]
#![expect(clippy::cast_precision_loss, reason = "a rate is for people")]

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use libbpf_rs::libbpf_sys::{
    self, BPF_PROG_TYPE_XDP, BPF_XDP, bpf_insn, bpf_link_create, bpf_link_create_opts, bpf_test_run_opts,
};

use maser_sys::kernel_clock::{self, KernelClock};
use maser_sys::live_frames::{
    CountSetting, Interval, LiveSender, LiveSetting, ReplyCounter, SendCounts, Sink,
};

const LIVE_FRAMES: u32 = 1 << 1;
const PORT: u16 = 123;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, what, near, far, frame, seconds, rate @ ..] = arguments.as_slice() else {
        return Err("usage: live_blast {bare|touched|send} INTERFACE FAR FRAME SECONDS [RATE]".into());
    };
    core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
    let near = index_of(near)?;
    let frame = octets_of(frame)?;
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let rate = rate.first().map(|rate| rate.parse()).transpose()?;
    // A veth transmits frames only with a program on both ends. The bare loop's is on its own interface.
    let counter = CountSetting {
        interface: near,
        target: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
        key: 0,
        echo: true,
        sample: 0,
        interval: Interval::of_rate(1).ok_or("rate")?,
        versions: 0,
        modes: 0,
    };
    let _counter = if what == "send" { Some(ReplyCounter::attach(&counter)?) } else { None };
    let sink = if far == "-" { None } else { Some(Sink::attach(index_of(far)?, PORT)?) };
    let begin = Instant::now();
    let made = match what.as_str() {
        "bare" | "touched" => bare(what == "touched", near, &frame, begin + seconds)?,
        "send" => send(near, &frame, rate, seconds)?,
        other => return Err(format!("no loop is called {other}").into()),
    };
    let took = begin.elapsed().as_secs_f64();
    println!("{what}: {:.0} made/s", made as f64 / took);
    if let Some(sink) = sink {
        println!("{what}: {:.0} arrived/s", sink.counts()?.frames as f64 / took);
    }
    Ok(())
}

fn index_of(name: &str) -> Result<u32, Box<dyn Error>> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

fn octets_of(hexadecimal: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits.map(|two| Ok(u8::from_str_radix(std::str::from_utf8(two)?, 16)?)).collect()
}

fn setting(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// An instruction's code, its registers (source and destination), its offset and its immediate value.
fn instruction((code, registers, off, imm): (u8, u8, i16, i32)) -> bpf_insn {
    let mut instruction = bpf_insn { code, off, imm, ..Default::default() };
    instruction.set_dst_reg(registers & 15);
    instruction.set_src_reg(registers >> 4);
    instruction
}

/// `return XDP_TX`; for `touched` after two stores into the frame, which the far end's core has read before.
fn load_bare(touched: bool) -> io::Result<OwnedFd> {
    let transmit = [(0xB7, 0, 0, 3), (0x95, 0, 0, 0)];
    let stores = [
        // r2 = data; r3 = data_end; r4 = r2 + 90; r0 = XDP_TX; if r4 > r3 return
        (0x61, 0x12, 0, 0),
        (0x61, 0x13, 4, 0),
        (0xBF, 0x24, 0, 0),
        (0x07, 0x04, 0, 90),
        (0xB7, 0, 0, 3),
        (0x2D, 0x34, 2, 0),
        // A source address and a transmit timestamp.
        (0x63, 0x02, 26, 0),
        (0x7B, 0x02, 82, 0),
        (0x95, 0, 0, 0),
    ];
    let list: &[_] = if touched { &stores } else { &transmit };
    let instructions: Vec<bpf_insn> = list.iter().copied().map(instruction).collect();
    // SAFETY: name and licence are strings that end, the instructions are as many as is said, and no options are given.
    let program = unsafe {
        libbpf_sys::bpf_prog_load(
            BPF_PROG_TYPE_XDP,
            c"bare".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    if program < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

/// A program that is attached runs without the kernel's changing its dispatcher, 22 ms a call.
fn attach(program: &OwnedFd, interface: u32) -> Result<OwnedFd, Box<dyn Error>> {
    let sz = size_of::<bpf_link_create_opts>() as libbpf_sys::size_t;
    let options = bpf_link_create_opts { sz, ..Default::default() };
    let interface = interface.try_into()?;
    // SAFETY: the program's descriptor is open, and the options' size is their own.
    let link = unsafe { bpf_link_create(program.as_raw_fd(), interface, BPF_XDP, &raw const options) };
    if link < 0 {
        return Err(io::Error::from_raw_os_error(-link).into());
    }
    // SAFETY: the call returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

fn bare(touched: bool, interface: u32, frame: &[u8], end: Instant) -> Result<u64, Box<dyn Error>> {
    let program = load_bare(touched)?;
    let _attached = attach(&program, interface)?;
    let length = u32::try_from(frame.len())?;
    let context = [0, length, 0, interface, 0, 0];
    let repeat = setting("CALL", 1 << 15);
    let (mut made, mut duration, mut calls) = (0, 0, 0);
    let begin = Instant::now();
    while Instant::now() < end {
        let mut options = bpf_test_run_opts {
            sz: size_of::<bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast(),
            data_size_in: length,
            ctx_in: context.as_ptr().cast(),
            ctx_size_in: 24,
            repeat: i32::try_from(repeat)?,
            flags: LIVE_FRAMES,
            batch_size: setting("BATCH", 64),
            ..Default::default()
        };
        // SAFETY: the input pointers lead to memory with the lengths given; there is no output.
        let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result).into());
        }
        made += u64::from(repeat);
        duration += u64::from(options.duration);
        calls += 1;
    }
    let call_ns = begin.elapsed().as_nanos() as f64 / f64::from(calls);
    let frame_ns = duration as f64 / f64::from(calls);
    println!(
        "{frame_ns:.0} ns a frame, {:.0} ns a call beside its frames",
        call_ns - frame_ns * f64::from(repeat)
    );
    Ok(made)
}

fn send(interface: u32, frame: &[u8], rate: Option<u32>, lasting: Duration) -> Result<u64, Box<dyn Error>> {
    let live = LiveSetting { interface, frame, clients: 10_000, variants: &[], key: 0x5EED };
    let mut sender = LiveSender::new(&live)?;
    let interval = rate.map_or(Interval::from_bits(1 << 32), Interval::of_rate).ok_or("a rate above 0")?;
    let count = rate.map_or(u64::MAX, |rate| {
        u64::from(rate) * u64::from(lasting.subsec_millis()) / 1_000 + u64::from(rate) * lasting.as_secs()
    });
    let end = Instant::now() + lasting;
    let begin = kernel_clock::read(KernelClock::Monotonic);
    sender.schedule(begin + 1_000_000, interval, count)?;
    let mut calls = 0;
    while !sender.run()? && (rate.is_some() || Instant::now() < end) {
        calls += 1;
    }
    let counts = sender.counts()?;
    println!("{calls} calls");
    show(&counts);
    Ok(counts.sent + counts.refused)
}

fn show(counts: &SendCounts) {
    let SendCounts { sent, refused, idle, lag_ns_max, .. } = counts;
    println!("sent {sent}, refused {refused}, idle turns {idle}, lag at most {lag_ns_max} ns");
    let total = (sent + refused) as f64;
    let mut up_to = 0;
    for (bucket, count) in counts.lag.iter().enumerate().filter(|(_, count)| **count > 0) {
        up_to += count;
        println!("  below {:>12} ns: {:8.4} %", 2_u64 << bucket, up_to as f64 / total * 100.0);
    }
}
