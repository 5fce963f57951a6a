//! Documents for this module's tests: what a ladder against a server with a knee comes to, by a formula.

use crate::outcome::approximate;
use crate::summary::{Coverage, Document, ErrorSpread, FORMAT, Percentiles, Setting, Summary};

/// Ten seconds at a rate, all answered.
pub(super) fn step(rate: u64) -> Summary {
    let sent = rate * 10;
    Summary {
        rate_requested: approximate(rate),
        rate_offered: approximate(rate),
        rate_answered: approximate(rate),
        duration_s: 10.0,
        clients: 10_000,
        sent,
        received: sent,
        basic: sent - sent / 4,
        interleaved: sent / 4,
        octets_sent: sent * 48,
        octets_received: sent * 48,
        latency_ns: Percentiles {
            count: sent,
            min: 31_000,
            mean: 55_000.0,
            p50: 53_200,
            p90: 80_000,
            p99: 120_000,
            p999: 1_530_000,
            max: 2_400_000,
        },
        lag_ns: Percentiles {
            count: sent,
            min: 200,
            mean: 600.0,
            p50: 500,
            p90: 900,
            p99: 1_200,
            p999: 5_000,
            max: 40_000,
        },
        offset_error_ns: Some(ErrorSpread {
            count: sent,
            lowest: -44_100,
            mean: -380.0,
            highest: 12_900,
            stddev: 1_630.0,
            p50: 410,
            p90: 1_900,
            p99: 7_200,
            max: 44_100,
        }),
        ..Summary::default()
    }
}

/// The same with some in a thousand lost, and with the queue that comes before.
pub(super) fn lossy(rate: u64, lost_per_mille: u64) -> Summary {
    let mut step = step(rate);
    step.lost = step.sent * lost_per_mille / 1_000;
    step.received = step.sent - step.lost;
    (step.basic, step.interleaved) = (step.received, 0);
    step.octets_received = step.received * 48;
    step.rate_answered = approximate(step.received) / step.duration_s;
    let latency = &mut step.latency_ns;
    (latency.p50, latency.p99, latency.p999) = (latency.p50 * 8, latency.p99 * 10, latency.p999 * 4);
    step
}

/// A ladder of these steps; the first with the most answers stands for it.
pub(super) fn ladder(steps: Vec<Summary>) -> Document {
    let best = steps.iter().max_by(|one, other| one.rate_answered.total_cmp(&other.rate_answered));
    Document {
        format: FORMAT,
        program: "maser-load 0.1.0".to_owned(),
        command: vec!["maser-load".to_owned()],
        begun_unix_s: 1_795_000_000,
        kernel: "6.18.0".to_owned(),
        interrupted: false,
        setting: Setting {
            mode: "ladder".to_owned(),
            target: "10.0.0.2:123".to_owned(),
            sender: "packet".to_owned(),
            mix: "basic".to_owned(),
            interleaving_clients: 0,
            threads: 1,
            coverage: Coverage::All,
            closed_loop: false,
        },
        result: best.cloned().unwrap_or_default(),
        steps,
        knees: Vec::new(),
    }
}

/// A ladder up to and beyond a server's knee at a rate.
pub(super) fn past_knee(knee: u64) -> Document {
    let rates = [1_u64, 2, 5, 10, 20, 50, 80, 100, 115, 130, 160, 200];
    let steps = rates.map(|thousands| {
        let rate = thousands * 1_000;
        if rate <= knee { step(rate) } else { lossy(rate, 1_000 - 1_000 * knee / rate) }
    });
    ladder(steps.to_vec())
}

/// A soak, one step a second, with a stall in its middle.
pub(super) fn soak(seconds: u64) -> Document {
    let steps = (0..seconds).map(|second| {
        let mut step = if second == seconds / 2 { lossy(50_000, 400) } else { step(50_000) };
        step.duration_s = 1.0;
        step.latency_ns.p999 += second * 7_919 % 900_000;
        step
    });
    let mut document = ladder(steps.collect());
    document.setting.mode = "soak".to_owned();
    document.result = step(50_000);
    document.result.lost = 20_000;
    document.result.duration_s = approximate(seconds);
    document
}
