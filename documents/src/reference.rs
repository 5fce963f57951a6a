//! The configuration reference, from the table of keys: maser.toml(5), and docs/configuration.md, which a test compares.

use maser::config::{Absent, KEYS, Key, SECTIONS};

const INTRODUCTION: &str = "The configuration of maser is a file in TOML. `maser check-config FILE` tells every problem of one \
     at once, and `maser check-config --keys` explains every key as this does.";

/// In Markdown.
pub(crate) fn markdown() -> String {
    let mut text = format!(
        "# Configuration\n\n<!-- Made from the code: cargo run -p maser-documents -- --reference -->\n\n{INTRODUCTION}\n"
    );
    for (section, heading) in SECTIONS {
        text += &format!("\n## `{heading}`\n");
        for key in of(section) {
            text += &format!("\n### `{}`\n\n", key.name);
            if let Some(types) = types(key) {
                text += &format!("Of sources of type {types}.\n\n");
            }
            let absent = match key.absent {
                Absent::Value(value) => format!("Default: `{value}`"),
                Absent::Meaning(meaning) => format!("Default: {meaning}"),
                Absent::Required => "Required".to_owned(),
            };
            let restart = if key.needs_restart() { "- Another value takes a restart.\n" } else { "" };
            text += &format!("- Takes {}.\n- {absent}.\n{restart}\n{}\n", key.expected, key.meaning);
        }
    }
    text
}

/// As a man page.
pub(crate) fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        ".TH MASER.TOML 5 \"\" \"maser {version}\" maser\n.SH NAME\nmaser.toml \\- configuration of the NTP server maser\n\
         .SH DESCRIPTION\n{}\n",
        escaped(INTRODUCTION)
    );
    for (section, heading) in SECTIONS {
        text += &format!(".SH \"{}\"\n", escaped(heading));
        for key in of(section) {
            text += &format!(".TP\n.B {}\n", escaped(key.name));
            if let Some(types) = types(key) {
                text += &format!("Of sources of type {}.\n.br\n", escaped(&types));
            }
            let absent = match key.absent {
                Absent::Value(what) | Absent::Meaning(what) => format!("Default: {what}."),
                Absent::Required => "Required.".to_owned(),
            };
            let [expected, absent, meaning] =
                [&format!("Takes {}.", key.expected), &absent, key.meaning].map(escaped);
            let restart = if key.needs_restart() { "Another value takes a restart.\n.br\n" } else { "" };
            text += &format!("{expected}\n.br\n{absent}\n.br\n{restart}{meaning}\n");
        }
    }
    text + ".SH FILES\n.I /etc/maser/maser.toml\n.SH SEE ALSO\n.BR maser (1),\n.BR maser\\-check\\-config (1)\n"
}

fn of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().copied().filter(move |key| key.section == section)
}

fn types(key: &Key) -> Option<String> {
    let types: Vec<_> = key.types.iter().map(|kind| kind.word()).collect();
    (!types.is_empty()).then(|| types.join(", "))
}

/// Text that the formatter takes for nothing but text.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    // A line that begins with one of these is a request.
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::{escaped, markdown, page};
    use maser::config::KEYS;

    /// The committed reference says what the code does.
    #[test]
    fn the_committed_reference_is_this_one() {
        let committed = include_str!("../../docs/configuration.md");
        assert!(
            committed == markdown(),
            "make it anew: cargo run -p maser-documents -- --reference > docs/configuration.md"
        );
    }

    #[test]
    fn the_page_has_every_key() {
        let page = page();
        for key in KEYS {
            assert!(page.contains(&format!("\n.B {}\n", escaped(key.name))), "{}", key.name);
        }
    }

    #[test]
    fn text_is_no_request() {
        assert_eq!(escaped(".TP \"a-b\\\""), "\\&.TP \\(dqa\\-b\\e\\(dq");
    }
}
