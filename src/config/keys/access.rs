//! The keys of the `[access]` section.

use super::{Absent, Key};

const SECTION: &str = "access";
const PREFIXES: &str = "a list of prefixes and addresses, as [\"192.0.2.0/24\", \"2001:db8::1\"]";
const FILE: &str = "the absolute path of a file";
const NO_FILE: Absent = Absent::Meaning("no file");

const fn key(name: &'static str, expected: &'static str, absent: Absent, meaning: &'static str) -> Key {
    Key { section: SECTION, types: &[], name, expected, absent, meaning }
}

pub(in crate::config) const DEFAULT: Key = key(
    "default",
    "\"allow\" or \"deny\"",
    Absent::Value(r#""allow""#),
    "What becomes of addresses that lie in no prefix of a list. This machine's own requests over loopback are allowed \
     unless a list names them.",
);

pub(in crate::config) const ALLOW: Key = key(
    "allow",
    PREFIXES,
    Absent::Value("[]"),
    "Who is answered, within the limits. Of the prefixes of all lists that an address lies in the longest counts; of \
     equal ones deny before exempt before allow, and each before what `bogons` says.",
);

pub(in crate::config) const DENY: Key = key("deny", PREFIXES, Absent::Value("[]"), "Who gets no time.");

pub(in crate::config) const EXEMPT: Key = key(
    "exempt",
    PREFIXES,
    Absent::Value("[]"),
    "Who is answered whatever the limits: pool monitors, networks of one's own. Addresses can be made up, so not whole \
     providers.",
);

/// What each element of a list is, and each line of a file.
pub(in crate::config) const ELEMENT: &str = "a prefix or an address, as \"192.0.2.0/24\" or \"2001:db8::1\"";

pub(in crate::config) const ALLOW_FILE: Key = key(
    "allow_file",
    FILE,
    NO_FILE,
    "More prefixes to allow, one a line; what follows a # is a comment. The file is read again within seconds when it \
     has changed; what is wrong in it leaves what was known before, and the log and `maser status` say so. Best put a new \
     file in its place (mv).",
);

pub(in crate::config) const DENY_FILE: Key =
    key("deny_file", FILE, NO_FILE, "More prefixes to deny, in a file as allow_file is.");

pub(in crate::config) const EXEMPT_FILE: Key =
    key("exempt_file", FILE, NO_FILE, "More prefixes to exempt, in a file as allow_file is.");

pub(in crate::config) const DENY_KISS: Key = key(
    "deny_kiss",
    "true or false",
    Absent::Value("false"),
    "Whether some of those denied are told so (a kiss of death, DENY), as seldom as limit.kiss and \
     limit.kisses_per_second say, rather than none.",
);

pub(in crate::config) const BOGONS: Key = key(
    "bogons",
    "true or false",
    Absent::Value("true"),
    "Whether requests are dropped from addresses that nobody on the Internet has: documentation, multicast, reserved and \
     discard prefixes. Private, shared, link-local and unique local ones aren't among them, since one's own clients may \
     have those.",
);
