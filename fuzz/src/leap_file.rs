//! The oracle of `leap-seconds.list`: what the lines say, read as text as a whole.

use maser_core::refclock::LeapFile;
use maser_core::time::{Instant, LeapTable, UNIX_TO_NTP_S, Utc};

use crate::accepted;

/// What IERS published in 2025: its dates and its hash.
const DATES: &str = "#$ 3960835200\n#@ 3991593600\n";
const HASH: &str = "#h 49db2447 571e5e1b 2f002a53 9c8da8e4 39b8e49e\n";

/// The published file without its comments, the same without its hash, and short ones.
pub fn seeds() -> Vec<Vec<u8>> {
    let all = lines_of(&LeapTable::built_in());
    let data = |count: usize| {
        let line = |(date, offset): &(i64, i64)| format!("{date}\t{offset} # a comment\n");
        all.iter().take(count).map(line).collect::<String>()
    };
    let whole = data(all.len());
    let files = [
        format!("{DATES}{whole}{HASH}"),
        format!("# a comment\r\n{DATES}{whole}"),
        DATES.to_owned() + &data(3),
    ];
    files.into_iter().map(String::into_bytes).collect()
}

/// The data lines that make a table: dates in seconds since 1900, and TAI − UTC.
fn lines_of(table: &LeapTable) -> Vec<(i64, i64)> {
    let mut lines = vec![(2_272_060_800, 10)];
    for leap in table.known() {
        let (_, before_s) = lines[lines.len() - 1];
        let after_s = i64::from(leap.offset_after_s);
        // In TAI a deleted second takes effect a second before the midnight that a line names.
        let midnight_tai_s = leap.at.unix_seconds() + i64::from(after_s < before_s);
        lines.push((midnight_tai_s - before_s + UNIX_TO_NTP_S, after_s));
    }
    lines
}

/// Reads an input and compares what comes with what it says.
pub fn judge(input: &[u8]) {
    let Ok(file) = LeapFile::parse(input) else { return };
    accepted();
    let text = String::from_utf8_lossy(input);
    let numbers = |line: &str| -> Vec<i64> {
        line.split_whitespace().map(|word| word.parse().expect("only numbers are accepted")).collect()
    };
    let dates = |mark: &str| -> Vec<i64> {
        text.split('\n').filter_map(|line| line.strip_prefix(mark)).flat_map(numbers).collect()
    };
    let said: Vec<(i64, i64)> = text
        .split('\n')
        .map(|line| numbers(line.split('#').next().unwrap_or("")))
        .filter(|numbers| !numbers.is_empty())
        .map(|numbers| (numbers[0], numbers[1]))
        .collect();
    let mut told = lines_of(&file.table);
    if cfg!(feature = "planted") {
        plant(&mut told);
    }
    assert_eq!(told, said, "the table holds what the lines say");
    let ntp_s = |date: Instant<Utc>| date.unix_seconds() + UNIX_TO_NTP_S;
    assert_eq!((dates("#$"), dates("#@")), (vec![ntp_s(file.updated)], vec![ntp_s(file.expires)]));
    assert_eq!(file.hashed, text.split('\n').any(|line| line.starts_with("#h")));
    if file.hashed {
        damage(input);
    }
}

/// Another last digit of the expiry must be found.
fn damage(input: &[u8]) {
    let mut damaged = input.to_vec();
    let starts = damaged
        .windows(2)
        .enumerate()
        .filter(|(at, pair)| *pair == b"#@" && (*at == 0 || damaged[at - 1] == b'\n'));
    let start = starts.map(|(at, _)| at).next().expect("an accepted file has an expiry");
    let line = damaged[start..].iter_mut().take_while(|octet| **octet != b'\n');
    let digit = line.filter(|octet| octet.is_ascii_digit()).last().expect("a date");
    *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
    assert!(LeapFile::parse(&damaged).is_err(), "damage to a hashed file is found");
}

/// A fault that no seed brings about: a deleted second is taken for an inserted one.
fn plant(told: &mut [(i64, i64)]) {
    for at in 1..told.len() {
        if told[at].1 < told[at - 1].1 {
            told[at].1 += 2;
        }
    }
}
