//! Interfaces that requests are taken from, their queues, and NICs' clocks and stamps.

use super::family::{Families, Value, flag};
use crate::status::{NicStatus, Status};

pub(super) fn gather(status: &Status, out: &mut Families) {
    let interfaces = &status.interfaces;
    let info = out.info(
        "maser_interface",
        "The interfaces named: the port of each, where the XDP program runs, how frames come",
    );
    for interface in interfaces {
        let labels = [
            ("interface", interface.name.as_str()),
            ("port", interface.rung.as_str()),
            ("mode", interface.mode.as_str()),
            ("frames", interface.frames.as_str()),
        ];
        info.add(labels, Value::Known);
    }
    let frames = out.counter("maser_xdp_frames", "Frames that the XDP program saw, by what it did with them");
    for interface in interfaces {
        for (verdict, count) in &interface.verdicts {
            frames.count([("interface", &interface.name), ("verdict", verdict)], *count);
        }
    }
    let queues = || {
        let each = interfaces
            .iter()
            .flat_map(|interface| interface.queues.iter().map(move |queue| (interface, queue)));
        each.map(|(interface, queue)| (interface.name.as_str(), queue.queue.to_string(), queue))
    };
    let events = out.counter("maser_queue_events", "What the kernel counts of a queue's AF_XDP socket");
    for (interface, number, queue) in queues() {
        for (event, count) in &queue.events {
            events.count([("interface", interface), ("queue", &number), ("event", event)], *count);
        }
    }
    let floors = out.gauge(
        "maser_queue_drop_level",
        "Requests of addresses below this level are dropped in the driver; 0 while the worker keeps up",
    );
    for (interface, number, queue) in queues() {
        floors.with([("interface", interface), ("queue", &number)], queue.floor);
    }
    nics(&status.nics, out);
}

fn nics(nics: &[NicStatus], out: &mut Families) {
    let mut gauge = |name, help, figure: fn(&NicStatus) -> Option<f64>| {
        let family = out.gauge(name, help);
        for nic in nics {
            family.with([("nic", &nic.name)], figure(nic));
        }
    };
    gauge("maser_nic_clock_offset_seconds", "How far the NIC's clock is ahead of TAI", |nic| nic.offset_s);
    gauge("maser_nic_clock_rate_offset_ratio", "How much faster it is than the served clock", |nic| {
        nic.rate_ppm.map(|ppm| ppm / 1e6)
    });
    gauge(
        "maser_nic_stamp_error_bound_seconds",
        "How far its stamps' places on the counter can be off",
        |nic| nic.error_s,
    );
    let stamps =
        out.counter("maser_nic_stamps", "Packets by who said when they came or left, and why the NIC didn't");
    for nic in nics {
        for (direction, counts) in [("received", &nic.received.counts), ("sent", &nic.sent.counts)] {
            for (teller, count) in counts {
                stamps.count([("nic", &nic.name), ("direction", direction), ("teller", teller)], *count);
            }
        }
    }
    let problems = out.gauge("maser_nic_problem", "Whether anything is wrong with the NIC's stamps");
    for nic in nics {
        for (direction, stamps) in [("received", &nic.received), ("sent", &nic.sent)] {
            let labels = [("nic", nic.name.as_str()), ("direction", direction)];
            problems.with(labels, flag(stamps.problem.is_some()));
        }
    }
}
