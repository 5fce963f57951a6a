//! The sections for those who ask: what is written reaches the configuration, and what holds between values is checked.

use maser::config::{self, AccessDefault, Config, FILL_SECONDS_MAX, Limit, Overrides, Problem};
use std::num::NonZeroU32;
use std::path::Path;

const SOURCE: &str = "[[source]]\ntype = 'machine'\nstratum = 1\n";

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    config::parse(&format!("{SOURCE}{text}"))
}

#[test]
fn every_limit_reaches_the_configuration() {
    let config = parse(
        "[limit]\nrate = 5\nburst = 6\nprefix_rate = 7\nprefix_burst = 9\nprefix_ip4 = 8\nprefix_ip6 = 63\n\
         memory = '1 GiB'\nkiss = 1000\nkisses_per_second = 1\ndriver = false\n",
    );
    let number = |number| NonZeroU32::new(number).unwrap();
    let expected = Limit {
        rate: 5,
        burst: number(6),
        prefix_rate: 7,
        prefix_burst: number(9),
        prefix_ip4: 8,
        prefix_ip6: 63,
        memory_octets: 1 << 30,
        kiss: 1_000,
        kisses_per_second: number(1),
        driver: false,
    };
    let config = config.unwrap();
    assert_eq!(config.limit, expected);
    assert_eq!(config::parse(&config.to_string()), Ok(config), "written out");
}

#[test]
fn rates_can_be_off() {
    for off in ["0", "'off'"] {
        let limit = parse(&format!("[limit]\nrate = {off}\nprefix_rate = {off}\n")).unwrap().limit;
        assert_eq!((limit.rate, limit.prefix_rate), (0, 0));
    }
    // Of two that don't go together neither is told where one is off.
    parse("[limit]\nrate = 'off'\nprefix_rate = 1\nburst = 2000\n").unwrap();
    parse("[limit]\nrate = 1000\nprefix_rate = 0\n").unwrap();
    for (alone, told) in [
        ("rate = 1000", "3:8: limit.rate: prefix_rate is 256, less than rate of one address, 1000"),
        ("prefix_rate = 7", "limit.prefix_rate: prefix_rate is 7, less than rate of one address, 8"),
        ("burst = 1025", "limit.burst: prefix_burst is 1024, less than burst of one address, 1025"),
        (
            "rate = 1\nburst = 501",
            "limit.burst: burst of 501 at rate of 1 fill in 501 s; expected burst of at most 500 times rate",
        ),
        (
            "prefix_rate = 8\nprefix_burst = 4001",
            "limit.prefix_burst: prefix_burst of 4001 at prefix_rate of 8",
        ),
    ] {
        let problems = config::parse(&format!("\n[limit]\n{alone}\n{SOURCE}")).unwrap_err();
        assert!(problems.len() == 1 && problems[0].to_string().contains(told), "{}", problems[0]);
    }
}

#[test]
fn every_list_reaches_the_configuration() {
    let config = parse(
        "[access]\ndefault = 'deny'\nallow = ['10.0.0.0/8', '2001:DB8::/32', '192.0.2.1/32']\ndeny = ['0.0.0.0/0']\n\
         exempt = ['::1']\nallow_file = '/a\"b'\ndeny_file = '/deny'\nexempt_file = '/exempt'\ndeny_kiss = true\n\
         bogons = false\n",
    );
    let config = config.unwrap();
    let access = &config.access;
    let shown = |entries: &config::AccessEntries| {
        let prefixes: Vec<String> = entries.prefixes.iter().map(ToString::to_string).collect();
        (prefixes.join(" "), entries.file.clone().unwrap())
    };
    assert_eq!(shown(&access.allow), ("10.0.0.0/8 2001:db8::/32 192.0.2.1".to_owned(), "/a\"b".into()));
    assert_eq!(shown(&access.deny), ("0.0.0.0/0".to_owned(), "/deny".into()));
    assert_eq!(shown(&access.exempt), ("::1".to_owned(), "/exempt".into()));
    assert_eq!((access.default, access.deny_kiss, access.bogons), (AccessDefault::Deny, true, false));
    assert_eq!(config::parse(&config.to_string()), Ok(config.clone()), "written out");
}

#[test]
fn who_denies_all_names_somebody() {
    for named in
        ["allow = ['10.0.0.0/8']", "exempt = ['10.0.0.0/8']", "allow_file = '/a'", "exempt_file = '/a'"]
    {
        parse(&format!("[access]\ndefault = 'deny'\n{named}\n")).unwrap();
    }
    for nobody in ["", "allow = []", "deny_file = '/a'"] {
        let problems = parse(&format!("[access]\ndefault = 'deny'\n{nobody}\n")).unwrap_err();
        assert!(
            problems[0].to_string().contains("nobody but this machine would be answered"),
            "{}",
            problems[0]
        );
    }
}

#[test]
fn long_lists_belong_in_a_file() {
    let list = |count: usize| {
        let prefixes: Vec<String> =
            (0..count).map(|n| format!("'10.{}.{}.0/24'", n / 256, n % 256)).collect();
        parse(&format!("[access]\ndeny = [{}]\n", prefixes.join(", ")))
    };
    assert_eq!(list(4_096).unwrap().access.deny.prefixes.len(), 4_096);
    let told = list(4_097).unwrap_err()[0].to_string();
    assert!(told.contains("4097 prefixes are too many, 4096 is the most here: put them in a file"), "{told}");
}

#[test]
fn a_broken_list_is_told_by_the_check_too() {
    let directory = std::env::temp_dir().join(format!("maser-config-list-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (file, list) = (directory.join("maser.toml"), directory.join("deny"));
    std::fs::write(&file, format!("{SOURCE}[access]\ndeny_file = '{}'\n", list.display())).unwrap();
    let check = |file: &Path| {
        let (mut out, file) = (Vec::new(), Some(file.to_owned()));
        maser::cli::CheckConfigArguments { file, keys: false }
            .run(&mut out)
            .map_err(|error| error.to_string())
    };
    let missing = check(&file).unwrap_err();
    assert!(
        missing.contains("/deny: can't be read: ") && missing.contains("access.deny_file names it"),
        "{missing}"
    );
    std::fs::write(&list, "10.0.0.0/8\nnobody # at all\n").unwrap();
    let broken = check(&file).unwrap_err();
    assert!(broken.contains("/deny:2:1: \"nobody\": not an address; expected a prefix"), "{broken}");
    std::fs::write(&list, "10.0.0.0/8\n").unwrap();
    check(&file).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_rate_of_the_command_line_leaves_a_burst_that_fills() {
    let file = parse("[limit]\nrate = 100\nburst = 2000\nprefix_burst = 2000\n").unwrap();
    let limit = file.overridden(Overrides { limit: Some(1), ..Overrides::default() }).unwrap().limit;
    assert_eq!((limit.rate, limit.burst.get()), (1, FILL_SECONDS_MAX));
}
