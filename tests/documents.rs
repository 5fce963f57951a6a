//! What the documents tell an operator to type: every configuration in them is accepted, every key that they name exists,
//! and every command of maser's is one that it takes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says so by panicking")]

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use maser::cli::Cli;
use maser::config::{self, KEYS, SECTIONS};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A configuration of which a document shows a part has a source of this kind in the rest.
const REST: &str = "\n[[source]]\ntype = \"ntp\"\naddress = \"192.0.2.10\"\n";

fn documents() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let listed = ["docs", "tuning"].map(|directory| fs::read_dir(root.join(directory)).unwrap());
    let paths = listed.into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut documents: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    documents.push(root.join("README.md"));
    documents.sort();
    documents
}

/// The blocks of a language, each with the number of its first line.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let (mut found, mut open) = (Vec::new(), None);
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(name), None) => open = Some((name == language, index + 2, String::new())),
            (Some(_), Some(_)) => {
                found.extend(open.take().and_then(|(is_wanted, at, block)| is_wanted.then_some((at, block))));
            }
            (None, Some((_, _, block))) => *block += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block isn't closed");
    found
}

/// What stands between single backticks, outside blocks.
fn spans(text: &str) -> Vec<String> {
    let mut is_block = false;
    let prose = text.lines().filter(|line| {
        is_block ^= line.starts_with("```");
        !is_block && !line.starts_with("```")
    });
    let prose = prose.collect::<Vec<_>>().join("\n");
    prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

/// The commands of maser's in these lines, without what the shell does around them.
fn commands<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    let words = |line: &str| -> Vec<String> {
        let line = line.split(['#', '|', '>', ';', '&']).next().unwrap_or_default();
        let words = line.split_whitespace().skip_while(|word| *word == "sudo" || word.contains('='));
        words.map(|word| word.trim_matches('\'').to_owned()).collect()
    };
    let program = |words: &Vec<String>| {
        words.first().is_some_and(|word| Path::new(word).file_name().is_some_and(|name| name == "maser"))
    };
    lines.map(words).filter(|words| words.len() > 1 && program(words)).collect()
}

/// What is wrong with a command; none if maser takes it, or only shows its help for it. Prose names commands without what they need.
fn refusal(command: &[String], is_prose: bool) -> Option<String> {
    match Cli::try_parse_from(command).map_err(|error| (error.kind(), error)) {
        Ok(_) | Err((ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _)) => None,
        Err((ErrorKind::MissingRequiredArgument, _)) if is_prose => None,
        Err((_, error)) => Some(format!("{}: {error}", command.join(" "))),
    }
}

/// A configuration, or a part of one, is accepted.
fn is_configuration(text: &str) -> bool {
    let accepted = |text: &str| config::parse(text).is_ok();
    accepted(text) || accepted(&(text.to_owned() + REST))
}

/// A span that states a key, as `minutes = 3`, names one that there is.
fn unknown_key(span: &str) -> Option<String> {
    let (key, _) = span.split_once(" = ")?;
    let name = key.rsplit_once(['.', ' ']).map_or(key, |(_, name)| name);
    let is_name =
        name.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_');
    (is_name && !KEYS.iter().any(|key| key.name == name)).then(|| name.to_owned())
}

#[test]
fn every_configuration_is_accepted() {
    let mut count = 0;
    for path in documents() {
        for (line, block) in blocks(&fs::read_to_string(&path).unwrap(), "toml") {
            assert!(
                is_configuration(&block),
                "{}:{line}: {:#?}",
                path.display(),
                config::parse(&(block + REST))
            );
            count += 1;
        }
    }
    assert!(count >= 7, "{count} configurations: the documents are elsewhere");
}

#[test]
fn every_command_is_taken() {
    let mut count = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let (blocks, spans) = (blocks(&text, "sh"), spans(&text));
        let typed = commands(blocks.iter().flat_map(|(_, block)| block.lines()));
        let named = commands(spans.iter().map(String::as_str));
        for (command, is_prose) in
            typed.iter().map(|command| (command, false)).chain(named.iter().map(|command| (command, true)))
        {
            assert_eq!(refusal(command, is_prose), None, "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 20, "{count} commands: the documents are elsewhere");
}

/// The commands of a document's sh blocks, as they stand there, without what is said of them behind `#`.
fn typed(text: &str) -> Vec<String> {
    let lines = |(_, block): (usize, String)| block.lines().map(str::to_owned).collect::<Vec<_>>();
    let commands = blocks(text, "sh").into_iter().flat_map(lines);
    commands.map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned()).collect()
}

/// What is wrong with the list of who runs which command (`HOW | DOCUMENT | COMMAND`), for documents of these names and texts.
fn unaccounted(list: &str, documents: &[(String, String)], root: &Path) -> Vec<String> {
    let (mut wrong, mut listed) = (Vec::new(), Vec::new());
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let Some((how, command)) = line.split_once(" | ") else {
            wrong.push(format!("no HOW | DOCUMENT | COMMAND: {line}"));
            continue;
        };
        let is_run = match how.split_once(": ") {
            None => how == "walk",
            Some(("not", why)) => !why.is_empty(),
            Some((by, text)) => by.strip_prefix("by ").is_some_and(|file| {
                fs::read_to_string(root.join(file)).is_ok_and(|test| test.contains(text))
            }),
        };
        if !is_run {
            wrong.push(format!("nobody runs it so: {line}"));
        }
        if listed.contains(&command.to_owned()) {
            wrong.push(format!("twice: {line}"));
        }
        listed.push(command.to_owned());
    }
    let there: Vec<String> = documents
        .iter()
        .flat_map(|(name, text)| typed(text).into_iter().map(move |command| format!("{name} | {command}")))
        .collect();
    wrong.extend(
        there.iter().filter(|command| !listed.contains(command)).map(|it| format!("nobody runs {it}")),
    );
    wrong.extend(
        listed.iter().filter(|command| !there.contains(command)).map(|it| format!("in no document: {it}")),
    );
    wrong
}

#[test]
fn every_command_is_run_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
    let mut documents: Vec<_> =
        documents().iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect();
    let list = fs::read_to_string(root.join("tests/commands")).unwrap();
    assert_eq!(unaccounted(&list, &documents, root), Vec::<String>::new());
    // Faults that are planted: a command that nobody runs, and one that its document hasn't any more.
    let (document, text) = documents.iter_mut().find(|(name, _)| name == "docs/metrics.md").unwrap();
    *text = text.replace("curl http", "wget http");
    let [new, old] = ["nobody runs", "in no document:"].map(|wrong| format!("{wrong} {document} | "));
    let found = unaccounted(&list, &documents, root);
    assert!(
        found.len() == 2 && found[0].starts_with(&(new + "wget")) && found[1].starts_with(&(old + "curl")),
        "{found:?}"
    );
    let lost =
        unaccounted(&list.replace("by tests/quick-start: ", "by tests/slow-start: "), &documents, root);
    assert!(lost.iter().any(|wrong| wrong.starts_with("nobody runs it so: by tests/slow-start")), "{lost:?}");
}

/// The table of what a reload does, and the help of `maser reload`.
#[test]
fn every_key_that_takes_a_restart_is_told() {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let row = guide.lines().find(|line| line.contains("**take a restart**")).unwrap();
    let help = Cli::command().find_subcommand_mut("reload").unwrap().render_long_help().to_string();
    let restart: Vec<_> = KEYS.iter().filter(|key| key.needs_restart()).collect();
    assert_eq!(restart.len(), 5);
    for key in KEYS.iter().filter(|key| key.section != "limit") {
        let name = format!("{}.{}", key.section, key.name);
        assert_eq!(row.contains(&format!("`{name}`")), restart.contains(&key), "docs/operating.md: {name}");
        assert_eq!(help.contains(&name), restart.contains(&key), "maser reload --help: {name}");
    }
}

#[test]
fn every_key_and_section_that_is_named_exists() {
    let mut count = 0;
    for path in documents() {
        for span in spans(&fs::read_to_string(&path).unwrap()) {
            assert_eq!(unknown_key(&span), None, "{}: {span}", path.display());
            count += usize::from(span.contains(" = "));
            // An empty list is a value.
            if span.starts_with('[')
                && span.ends_with(']')
                && span != "[]"
                && !span.contains([' ', '"', '%', '…'])
            {
                assert!(SECTIONS.iter().any(|(_, header)| *header == span), "{}: {span}", path.display());
            }
        }
    }
    assert!(count >= 40, "{count} keys: the documents are elsewhere");
}

#[test]
fn every_packet_filter_is_accepted() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: every_packet_filter_is_accepted: it takes root to ask the kernel in a namespace");
        return;
    }
    let mut count = 0;
    for path in documents() {
        for (line, block) in blocks(&fs::read_to_string(&path).unwrap(), "nft") {
            assert_eq!(filters(&block), Ok(()), "{}:{line}", path.display());
            assert!(filters(&block.replacen("dport", "dports", 1)).is_err(), "what is wrong is accepted");
            count += 1;
        }
    }
    assert!(count >= 1, "the packet filters are elsewhere");
}

/// The kernel would take this filter, in a namespace of its own.
fn filters(text: &str) -> Result<(), String> {
    let mut asked = Command::new("unshare")
        .args(["--net", "nft", "--check", "--file", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    asked.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = asked.wait_with_output().unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

/// The sources of the program, with each string that goes over several lines in one.
fn sources() -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut places = ["src", "sys/src", "core/src"].map(|part| root.join(part)).to_vec();
    let mut text = String::new();
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
        } else if place.extension().is_some_and(|extension| extension == "rs") {
            let mut is_continued = false;
            for line in fs::read_to_string(&place).unwrap().lines() {
                text += if is_continued { line.trim_start() } else { line };
                is_continued = text.ends_with('\\');
                text.truncate(text.len() - usize::from(is_continued));
                text += if is_continued { "" } else { "\n" };
            }
        }
    }
    text
}

/// What of a message that a document quotes, between the places where messages differ, no line of the program has.
fn unsaid<'a>(message: &'a str, sources: &str) -> Option<&'a str> {
    message.split('…').map(str::trim).find(|part| part.len() > 3 && !sources.contains(part))
}

#[test]
fn every_message_that_is_explained_is_one() {
    let sources = sources();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faq.md")).unwrap();
    let messages: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert!(messages.len() >= 15, "{} messages", messages.len());
    for message in messages {
        assert_eq!(unsaid(message, &sources), None, "{message}");
    }
    assert_eq!(unsaid("…: the port is in use by …", &sources), Some(": the port is in use by"));
}

#[test]
fn what_is_wrong_is_found() {
    assert!(!is_configuration("[server]\nlisten = [\"192.0.2.1\"]\n"));
    assert_eq!(unknown_key("limit.rates = 8").as_deref(), Some("rates"));
    assert_eq!(unknown_key("[server] listen = []"), None);
    let wrong = commands("sudo maser statsu --all # how it is\nmaser status | less\nmaser-load x\n".lines());
    assert_eq!(wrong, [vec!["maser", "statsu", "--all"], vec!["maser", "status"]]);
    assert!(refusal(&wrong[0], true).unwrap().contains("statsu") && refusal(&wrong[1], false).is_none());
    let short = ["maser", "check-config"].map(str::to_owned);
    assert!(refusal(&short, false).is_some() && refusal(&short, true).is_none());
    let text = "a `b = 1` c\n```toml\nd = 2\n```\n`e`\n";
    assert_eq!(
        (spans(text), blocks(text, "toml")),
        (vec!["b = 1".into(), "e".into()], vec![(3, "d = 2\n".into())])
    );
}
