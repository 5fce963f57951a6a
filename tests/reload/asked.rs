//! Requests all the while: none is lost that wouldn't be without a reload.

use crate::applied::stops;
use crate::maser::Setting;
use crate::meter::{count, measure, number, settles};
use crate::{MACHINE, Reloaded, load};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Of 10,000 requests so many more may be lost than without reloads, for all else that a busy machine does.
pub(crate) const LOST_IN_10000: u64 = 2;

#[test]
fn reloads_under_load_lose_nothing() {
    let (rate, seconds) = load();
    for port in ["socket", "io-uring"] {
        let config = |workers: u32| {
            format!(
                "[server]\nlisten = [\"127.0.0.1:PORT\"]\nport = \"{port}\"\nworkers = {workers}\n\
                 [limit]\nrate = 0\n{MACHINE}"
            )
        };
        let reloaded = Reloaded::start(Setting::nowhere(), &config(1));
        let (address, reloader) = (reloaded.server.address(), &reloaded.reloader);
        let words = format!("fixed {address} --rate {rate} --time {seconds} --sender udp --mix pool");
        settles(|| {
            let without = measure(&words);
            let stop = AtomicBool::new(false);
            let (with, reloads) = thread::scope(|scope| {
                let reloads = scope.spawn(|| {
                    let mut reloads: u32 = 0;
                    while !stop.load(Ordering::Relaxed) {
                        reloads += 1;
                        // Sockets are opened and closed, and requests spread anew.
                        reloader.apply(&config(1 + reloads % 2));
                    }
                    reloads
                });
                let with = measure(&words);
                stop.store(true, Ordering::Relaxed);
                (with, reloads.join().unwrap())
            });
            let (before, lost, sent) = (count(&without, "lost"), count(&with, "lost"), count(&with, "sent"));
            crate::peers::log(&format!(
                "{port}: {rate}/s: {lost} of {sent} lost in {reloads} reloads, {before} without any"
            ));
            assert_eq!((count(&with, "invalid"), count(&with, "duplicate")), (0, 0), "{with}");
            if reloads < 3 {
                return Err(format!("{reloads} reloads tell little"));
            }
            if before > sent / 1_000 {
                return Err(format!("{before} of {sent} are lost without reloads: nothing can be told here"));
            }
            // The ways that a second server could be late by: all of them take a tenth of a second or more.
            let median_ms = number(&with, "latency_ns.p50") / 1e6;
            if median_ms > 10.0 {
                return Err(format!("half of the replies took more than {median_ms:.1} ms"));
            }
            if lost > before + sent * LOST_IN_10000 / 10_000 {
                return Err(format!("{lost} of {sent} lost, {before} without reloads"));
            }
            Ok(())
        });
        stops(reloaded.server);
    }
}
