//! The dashboard's and the alerts' queries: what they name is documented, and so given.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// What Prometheus itself adds.
const ADDED: [&str; 3] = ["job", "instance", "le"];

pub(crate) fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// A query, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) place: String,
    pub(crate) text: String,
    /// What a legend or a message takes from its labels.
    shown: String,
}

/// Those of the dashboard, of its annotations and variables too.
pub(crate) fn of_dashboard() -> Vec<Query> {
    let text = fs::read_to_string(docs("prometheus/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let place = panel["title"].as_str().unwrap().to_owned();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (text, shown) = (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap());
            queries.push(Query { place: place.clone(), text: text.to_owned(), shown: shown.to_owned() });
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        let (text, shown) =
            (annotation["expr"].as_str().unwrap(), annotation["titleFormat"].as_str().unwrap());
        queries.push(Query {
            place: "annotation".to_owned(),
            text: text.to_owned(),
            shown: shown.to_owned(),
        });
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(definition) = variable["definition"].as_str() else { continue };
        let (text, label) = definition.strip_prefix("label_values(").unwrap().split_once(", ").unwrap();
        let shown = format!("{{{{{}}}}}", label.trim_end_matches(')'));
        queries.push(Query { place: "variable".to_owned(), text: text.to_owned(), shown });
    }
    assert!(queries.len() > 40, "{} queries", queries.len());
    queries
}

/// The alerts', read as lines: an expression is a line or a block, and the words follow.
pub(crate) fn of_alerts() -> Vec<Query> {
    let text = fs::read_to_string(docs("prometheus/alerts.yml")).unwrap();
    let alerts = text.split("- alert: ").skip(1).map(|alert| {
        let (place, rest) = alert.split_once('\n').unwrap();
        let (_, rest) = rest.split_once("expr: ").unwrap();
        let end = rest.find("\n        for:").or_else(|| rest.find("\n        labels:")).unwrap();
        let (expr, shown) = rest.split_at(end);
        Query {
            place: place.to_owned(),
            text: expr.trim_start_matches('|').to_owned(),
            shown: shown.replace("$labels.", ""),
        }
    });
    let alerts: Vec<_> = alerts.collect();
    assert!(alerts.len() > 15, "{} alerts", alerts.len());
    alerts
}

/// By name the labels that `docs/metrics.md` lists.
pub(crate) fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(docs("metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let labels = cells[2]
            .split(", ")
            .filter(|label| *label != "–")
            .map(|label| label.trim_matches('`').to_owned());
        (cells[0].trim_end_matches('`').to_owned(), labels.collect())
    };
    rows.map(row).chain([("up".to_owned(), BTreeSet::new())]).collect()
}

fn is_word(octet: char) -> bool {
    octet.is_ascii_alphanumeric() || octet == '_' || octet == ':'
}

/// The metrics that a query selects, without what a histogram appends, each with the matchers in its braces.
pub(crate) fn selected(query: &str) -> Vec<(String, String)> {
    let mut selected = Vec::new();
    let starts = query.match_indices(is_word).map(|(at, _)| at);
    let starts = starts.filter(|at| !query[..*at].ends_with(is_word));
    for start in starts {
        let rest = &query[start..];
        let end = rest.find(|octet| !is_word(octet)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word != "up" && !word.starts_with("maser_") && !word.starts_with("process_") {
            continue;
        }
        let stem =
            ["_bucket", "_count", "_sum"].iter().find_map(|ending| word.strip_suffix(ending)).unwrap_or(word);
        let matchers =
            after.strip_prefix('{').and_then(|inner| inner.split_once('}')).map_or("", |(inner, _)| inner);
        selected.push((stem.to_owned(), matchers.to_owned()));
    }
    selected
}

/// The matchers of a selector: label and value.
fn matchers(text: &str) -> Vec<(String, String)> {
    let parts = text.split("\",").map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (label, value) = part.split_once(['=', '!']).unwrap_or_else(|| panic!("no matcher: {part}"));
        (label.to_owned(), value.trim_start_matches(['=', '~']).trim_matches('"').to_owned())
    };
    parts.map(pair).collect()
}

/// The labels that a query groups or joins by.
fn grouped(query: &str) -> Vec<String> {
    let words = ["by (", "on (", "group_left ("];
    let lists =
        words.iter().flat_map(|word| query.split(word).skip(1).filter_map(|rest| rest.split(')').next()));
    lists.flat_map(|list| list.split(',')).map(|label| label.trim().to_owned()).collect()
}

/// What legends and messages show, but for the value.
fn shown(text: &str) -> Vec<String> {
    let words = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).map(str::trim);
    words.filter(|word| !word.starts_with('$')).map(str::to_owned).collect()
}

/// What is wrong with the names in a query.
fn faults(query: &Query) -> Vec<String> {
    let (documented, counters) = (documented(), fs::read_to_string(docs("counters.md")).unwrap());
    let words = counters + &fs::read_to_string(docs("metrics.md")).unwrap();
    let mut faults = Vec::new();
    let mut known: BTreeSet<String> = ADDED.iter().map(|label| (*label).to_owned()).collect();
    let selected = selected(&query.text);
    if selected.is_empty() {
        faults.push(format!("{}: selects nothing", query.place));
    }
    for (name, inner) in selected {
        let Some(labels) = documented.get(&name) else {
            faults.push(format!("{}: no metric {name}", query.place));
            continue;
        };
        known.extend(labels.iter().cloned());
        for (label, value) in matchers(&inner) {
            if !labels.contains(&label) && !ADDED.contains(&label.as_str()) {
                faults.push(format!("{}: {name} has no label {label}", query.place));
            }
            let exact = |value: &&str| !ADDED.contains(&label.as_str()) && !value.contains(['.', '*', '$']);
            for value in value.split('|').filter(exact) {
                if !words.contains(&format!("`{value}`")) {
                    faults.push(format!("{}: no {label} {value:?}", query.place));
                }
            }
        }
    }
    for label in grouped(&query.text).into_iter().chain(shown(&query.shown)) {
        if !known.contains(&label) {
            faults.push(format!("{}: no label {label}", query.place));
        }
    }
    faults
}

#[test]
fn what_queries_name_is_documented() {
    let faults: Vec<String> = of_dashboard().iter().chain(&of_alerts()).flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn planted_faults_in_queries_are_found() {
    let found = |text: &str, shown: &str| {
        faults(&Query { place: "here".to_owned(), text: text.to_owned(), shown: shown.to_owned() })
    };
    let right =
        "sum by (job, worker) (rate(maser_drops_total{job=\"$job\", reason=~\"version|too-short\"}[5m]))";
    assert_eq!(found(right, "{{worker}} {{ $value }}"), [""; 0]);
    for (wrong, by, fault) in [
        ("maser_drops_total", "maser_dropped_total", "no metric maser_dropped_total"),
        ("reason=~", "reasons=~", "has no label reasons"),
        ("too-short", "too-shirt", "no reason \"too-shirt\""),
        ("by (job, worker)", "by (job, worked)", "no label worked"),
    ] {
        let found = found(&right.replace(wrong, by), "");
        assert!(found.iter().any(|told| told.contains(fault)), "{fault}: {found:?}");
    }
    assert_eq!(found(right, "{{core}}"), ["here: no label core"]);
    assert_eq!(found("1 + 1", ""), ["here: selects nothing"]);
}
