//! Numbers as people type them: rates, shares, times, lists of cores.

use std::time::Duration;

/// The highest rate that may be asked for, a second: more than a 10 Gb/s line carries.
pub const RATE_MAX: f64 = 20e6;
/// The longest run: a day.
pub const TIME_MAX: Duration = Duration::from_secs(86_400);

/// `10000`, `10k`, `1.5M`: requests a second, more than 0.
///
/// # Errors
/// What is wrong, and what is expected.
pub fn rate(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => text.strip_suffix('M').map_or((text, 1.0), |digits| (digits, 1e6)),
    };
    let rate =
        digits.parse::<f64>().map_err(|_| format!("\"{text}\" is no rate; expected 10000, 10k or 1.5M"))?
            * factor;
    if rate.is_finite() && (1e-3..=RATE_MAX).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("a rate of {text} a second; expected 0.001 to {RATE_MAX:.0}"))
    }
}

/// `1%` or `0.01`: a share from 0 to 1.
///
/// # Errors
/// What is wrong, and what is expected.
pub fn share(text: &str) -> Result<f64, String> {
    let (digits, factor) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 0.01));
    let share =
        digits.parse::<f64>().map_err(|_| format!("\"{text}\" is no share; expected 1% or 0.01"))? * factor;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{text} isn't between 0 and 100%")) }
}

/// `10`, `0.5`, `10s`, `500ms`, `5m`, `2h`: up to a day.
///
/// # Errors
/// What is wrong, and what is expected.
pub fn time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];
    let (digits, factor) = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, *factor)))
        .unwrap_or((text, 1.0));
    let seconds = digits
        .parse::<f64>()
        .map_err(|_| format!("\"{text}\" is no time; expected seconds, or 500ms, 10s, 5m, 2h"))?
        * factor;
    if seconds.is_finite() && seconds > 0.0 && seconds <= TIME_MAX.as_secs_f64() {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("a time of {text}; expected more than 0 and at most a day"))
    }
}

/// `1`, `0,2`, `4-7`, `0,4-7`: cores, each once.
///
/// # Errors
/// What is wrong, and what is expected.
pub fn cores(text: &str) -> Result<Cores, String> {
    let wrong = || format!("\"{text}\" is no list of cores; expected 1 or 0,2 or 4-7");
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| wrong())?;
        let last: usize = last.parse().map_err(|_| wrong())?;
        if first > last || last > 4095 {
            return Err(wrong());
        }
        cores.extend(first..=last);
    }
    let there = core_affinity::get_core_ids().unwrap_or_default();
    for (place, core) in cores.iter().enumerate() {
        if cores[..place].contains(core) {
            return Err(format!("core {core} is named twice"));
        }
        if !there.iter().any(|id| id.id == *core) {
            let names: Vec<_> = there.iter().map(|id| id.id.to_string()).collect();
            return Err(format!("core {core} isn't there or not allowed; there are {}", names.join(", ")));
        }
    }
    Ok(Cores(cores))
}

/// A list of cores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cores(pub Vec<usize>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_shares_and_times_are_read_as_they_are_meant() {
        for (text, value) in [("10000", 1e4), ("10k", 1e4), ("1.5M", 1.5e6), ("0.5", 0.5)] {
            assert!((rate(text).expect("a rate") - value).abs() < 1e-9, "{text}");
        }
        for text in ["", "k", "0", "-1", "nan", "inf", "21M", "1G", "1e9"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert!((share("1%").expect("a share") - 0.01).abs() < 1e-12);
        assert!(share("101%").is_err() && share("nan").is_err() && share("-0.1").is_err());
        for (text, millis) in [("10", 10_000), ("500ms", 500), ("5m", 300_000), ("0.25s", 250)] {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["0", "25h", "-1s", "ten", "nan"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cores_are_named_once_and_are_there() {
        assert_eq!(cores("0"), Ok(Cores(vec![0])));
        for text in ["", "0,0", "1-0", "4095", "a", "0-", "0-99999999999"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }
}
