//! Scrapes while the server is loaded: they cost nobody a reply.

use crate::meter::{count, measure, settles};
use crate::scrape::{figure, scraped};
use crate::started;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// Of a thousand requests so many more may be lost than without scrapes, for all else that a busy machine does.
const LOST_IN_1000: u64 = 2;

#[test]
fn scrapes_cost_no_reply() {
    let (mut server, metrics) = started(|setting| setting.with(&["--workers", "1"]));
    let words = format!("fixed {} --rate 5k --time 3 --sender udp --mix pool", server.address());
    settles(|| {
        let without = measure(&words);
        let (stop, scrapes) = (AtomicBool::new(false), AtomicU32::new(0));
        let with = thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    scraped(metrics);
                    scrapes.fetch_add(1, Ordering::Relaxed);
                }
            });
            let with = measure(&words);
            stop.store(true, Ordering::Relaxed);
            with
        });
        let (scrapes, sent) = (scrapes.into_inner(), count(&with, "sent"));
        let (before, lost) = (count(&without, "lost"), count(&with, "lost"));
        crate::peers::log(&format!("lost {before} of {sent} without scrapes, {lost} with {scrapes} of them"));
        if scrapes < 20 {
            return Err(format!("{scrapes} scrapes tell nothing"));
        }
        if before > sent / 1_000 {
            return Err(format!("{before} of {sent} are lost without scrapes: nothing can be told here"));
        }
        if count(&with, "invalid") > 0 || lost > before + sent * LOST_IN_1000 / 1_000 {
            return Err(format!("{lost} of {sent} lost, {before} without scrapes"));
        }
        Ok(())
    });
    // Under load departures are told of, and their distance from transmit timestamps is counted.
    let told = scraped(metrics);
    let errors = figure(&told, "maser_transmit_stamp_error_seconds_count{worker=\"0\"}");
    let stays = figure(&told, "maser_residence_seconds_count{worker=\"0\"}");
    assert!(errors > 0.0 && stays > 10_000.0, "{errors} {stays}");
    server.stop();
}
