//! The command as people and programs use it: what it prints, what it writes, and its exit status.

use serde_json::Value;
use std::fs;
use std::process::{Command, Output};

fn maser_sim(words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maser-sim"));
    command.args(words.split(' ')).output().expect("maser-sim is built")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn the_same_seed_prints_the_same_octets() {
    let run = |seed: u32| {
        text(&maser_sim(&format!("run --seconds 10500 --wander 1e-9 --jitter 1e-6 --seed {seed} --json")))
    };
    let first = run(5);
    assert_eq!(first, run(5));
    assert_ne!(first, run(6));
    let figures: Value = serde_json::from_str(&first).expect("JSON");
    for field in
        ["rms_offset_s", "max_offset_s", "optimal_rms_s", "lock_s", "bound_violations", "bound_to_error"]
    {
        assert!(figures[field].is_number(), "{field}: {first}");
    }
}

#[test]
fn a_scenario_runs_in_every_form() {
    let picture = std::env::temp_dir().join(format!("maser-sim-{}.svg", std::process::id()));
    let words = format!("run --scenario counter-jump --seconds 4000 --json --plot {}", picture.display());
    let output = maser_sim(&words);
    let drawn = fs::read_to_string(&picture).expect("a picture");
    fs::remove_file(&picture).expect("it was there");
    assert!(output.status.success(), "{output:?}");
    let figures: Value = serde_json::from_str(&text(&output)).expect("JSON");
    assert_eq!(figures["scenario"], "counter-jump");
    assert!(drawn.starts_with("<svg") && drawn.contains("Allan deviation") && !drawn.contains("NaN"));
    assert!(text(&maser_sim("run --scenario cold --seconds 100")).contains("synchronised after"));
}

/// Those that take seconds; the others are steps of tests/run.
#[test]
fn the_readmes_commands_run() {
    let readme =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("a document");
    let directory = std::env::temp_dir().join(format!("maser-sim-readme-{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory");
    for (command, picture) in [("run", Some("clock.svg")), ("leap", None)] {
        let beginning = format!("target/release/maser-sim {command} ");
        let words = readme.lines().find_map(|line| line.strip_prefix(&beginning)).expect("it is in there");
        let words = words.split('#').next().expect("words").split_whitespace();
        let output = Command::new(env!("CARGO_BIN_EXE_maser-sim"))
            .arg(command)
            .args(words)
            .current_dir(&directory)
            .output()
            .expect("maser-sim is built");
        assert!(output.status.success() && !output.stdout.is_empty(), "{command}: {output:?}");
        if let Some(name) = picture {
            assert!(fs::read_to_string(directory.join(name)).expect("a picture").starts_with("<svg"));
        }
    }
    fs::remove_dir_all(&directory).expect("it was there");
}

#[test]
fn the_list_names_every_scenario() {
    let list = text(&maser_sim("scenarios --list"));
    assert_eq!(list.lines().count(), maser_sim::scenario::SCENARIOS.len());
    let one = maser_sim("scenarios warm --seeds 3");
    assert!(one.status.success() && text(&one).contains("warm                   3"), "{}", text(&one));
}

#[test]
fn mistakes_are_explained() {
    for (words, told) in [
        ("run --scenario nonsense", "scenarios --list"),
        ("leap --date 2026-12-30", "last day"),
        ("run --jitter -1", "expected"),
    ] {
        let output = maser_sim(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(told), "{words}: {error}");
    }
}
