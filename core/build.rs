//! Fixes the build date into the crate: the era of an NTP timestamp is the one nearest to it.
//!
//! `SOURCE_DATE_EPOCH` (seconds since 1970) makes the build reproducible.
use std::time::{SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "the build date is the one time this crate takes from a clock")]
fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    let unix_s = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse::<u64>().expect("SOURCE_DATE_EPOCH is a number of seconds since 1970"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs(),
    };
    println!("cargo::rustc-env=MASER_BUILD_UNIX_S={unix_s}");
}
