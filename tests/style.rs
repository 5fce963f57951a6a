//! What clippy can't check of the house style. Each rule is shown to fail on a planted fault below.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

/// A source file: its path from the root of the tree and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources_under(directory: &Path, ending: &str, found: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "corpus" && name != "artifacts" {
                sources_under(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            if let Ok(text) = fs::read_to_string(&path) {
                found.push(Source { path: relative, text });
            }
        }
    }
}

fn rust_sources() -> Vec<Source> {
    let mut found = Vec::new();
    sources_under(&root(), ".rs", &mut found);
    assert!(found.len() > 20, "the tree's sources were found");
    found
}

/// The code of a line: without comments and without what stands in quotes.
fn code(line: &str) -> String {
    let line = line.split("//").next().unwrap_or("");
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn unsafe_outside_sys(source: &Source) -> Vec<String> {
    if source.path.starts_with("sys/") {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    lines
        .filter(|(_, line)| words(&code(line)).any(|word| word == "unsafe"))
        .map(|(number, _)| format!("{}:{}: `unsafe` outside sys", source.path, number + 1))
        .collect()
}

/// Arrows point inward: core ← sys ← src, and the load generator knows nothing of the server.
fn against_the_arrow(source: &Source) -> Vec<String> {
    let forbidden: &[&str] = if source.path.starts_with("core/src") {
        &["maser_sys", "maser", "std", "alloc"]
    } else if source.path.starts_with("sim/src") {
        &["maser_sys", "maser"]
    } else if source.path.starts_with("sys/src") || source.path.starts_with("loadgen/src") {
        &["maser"]
    } else {
        &[]
    };
    let in_test = source.path.ends_with("_tests.rs");
    let until_tests = source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).enumerate();
    until_tests
        .filter(|(_, line)| !in_test && !code(line).contains("extern crate std"))
        .filter(|(_, line)| {
            let code = code(line);
            let named = code.trim_start().strip_prefix("use ").or(code.trim_start().strip_prefix("pub use "));
            named.and_then(|path| words(path).next()).is_some_and(|first| forbidden.contains(&first))
        })
        .map(|(number, line)| {
            format!("{}:{}: `{}` against core <- sys <- src", source.path, number + 1, line.trim())
        })
        .collect()
}

fn leftovers(source: &Source) -> Vec<String> {
    let marks = ["FIX", "TO", "XX"].map(|start| {
        format!(
            "{start}{}",
            if start == "FIX" {
                "ME"
            } else if start == "TO" {
                "DO"
            } else {
                "X"
            }
        )
    });
    let homes = ["root", "work", "home"].map(|place| format!("/{place}/"));
    let lines = source.text.lines().enumerate();
    lines
        .filter(|(_, line)| {
            words(line).any(|word| marks.iter().any(|mark| word == mark))
                || homes.iter().any(|home| line.contains(home.as_str()))
        })
        .map(|(number, line)| format!("{}:{}: left over: {}", source.path, number + 1, line.trim()))
        .collect()
}

fn shape(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{}: {lines} lines, more than {LINES_MAX}", source.path));
    }
    let is_submodule_of_tests = source.path.ends_with("_tests.rs") || source.path.ends_with("/tests.rs");
    if !is_submodule_of_tests && !source.text.lines().any(|line| line.starts_with("//!")) {
        faults.push(format!("{}: no header that says what the file is for", source.path));
    }
    faults
}

/// Files that no `mod` names are compiled by nobody.
fn orphans(sources: &[Source]) -> Vec<String> {
    let mut named: BTreeSet<String> = BTreeSet::new();
    for source in sources {
        for line in source.text.lines() {
            if let Some((_, rest)) = line.trim().split_once("mod ")
                && let Some(name) = rest.strip_suffix(';')
            {
                named.insert(name.to_owned());
            }
            if let Some(file) =
                line.trim().strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]"))
            {
                named.insert(file.trim_end_matches(".rs").rsplit('/').next().unwrap_or(file).to_owned());
            }
        }
    }
    let compiled_by_name = ["lib", "main", "build"];
    let is_root = |path: &str| {
        let top = [
            "tests/",
            "benches/",
            "core/tests/",
            "sys/tests/",
            "sim/tests/",
            "sys/examples/",
            "fuzz/fuzz_targets/",
            "fuzz/examples/",
            "examples/",
        ];
        top.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| !rest.contains('/')))
    };
    sources
        .iter()
        .filter(|source| {
            let path = Path::new(&source.path);
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let stem = if stem == "mod" {
                path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned()
            } else {
                stem
            };
            !compiled_by_name.contains(&stem.as_str()) && !is_root(&source.path) && !named.contains(&stem)
        })
        .map(|source| format!("{}: no `mod` names it", source.path))
        .collect()
}

fn all_faults(sources: &[Source]) -> Vec<String> {
    let mut faults = orphans(sources);
    for source in sources {
        for rule in [unsafe_outside_sys, against_the_arrow, leftovers, shape] {
            faults.extend(rule(source));
        }
    }
    faults
}

#[test]
fn the_tree_keeps_the_house_style() {
    let faults = all_faults(&rust_sources());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_counter_is_documented() {
    let docs = fs::read_to_string(root().join("docs/counters.md")).unwrap();
    let counts = maser::count::Counts::default();
    let names = counts.answers().chain(counts.events_by_name()).chain(counts.drops()).map(|(name, _)| name);
    let names = names.chain(maser_sys::xdp_program::Reason::ALL.iter().map(|reason| reason.name()));
    let missing: Vec<_> = names.filter(|name| !docs.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/counters.md lacks a line for: {missing:?}");
}

#[test]
fn planted_faults_are_found() {
    let planted = |path: &str, text: &str| {
        all_faults(&[Source { path: path.into(), text: format!("//! Header.\n{text}") }])
    };
    let found = |path: &str, text: &str, what: &str| {
        let faults = planted(path, text);
        assert!(faults.iter().any(|fault| fault.contains(what)), "{what}: {faults:?}");
    };
    assert_eq!(planted("src/main.rs", "fn main() {}\n"), Vec::<String>::new());
    found("src/main.rs", &format!("{} {{ }}", "unsafe"), "outside sys");
    found("core/src/lib.rs", "use std::time::Instant;", "against");
    found("sys/src/lib.rs", "use maser::count;", "against");
    found("loadgen/src/lib.rs", "use maser::count;", "against");
    found("src/main.rs", &format!("// {}ME later", "FIX"), "left over");
    found("src/main.rs", &format!("// see /{}/here", "home"), "left over");
    found("src/main.rs", &"\n".repeat(LINES_MAX), "lines, more than");
    found("src/lost.rs", "", "no `mod` names it");
    let headless = all_faults(&[Source { path: "src/main.rs".into(), text: "fn main() {}\n".into() }]);
    assert!(headless.iter().any(|fault| fault.contains("no header")), "{headless:?}");
}
