//! Drawings.

use super::super::output::{Format, Output};
use super::draw::draw;
use super::svg::picture;
use super::times::{Times, milliseconds};
use crate::graphs::Plan;
use edict_client::records::GraphRun;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

fn plan(ids: &[&str], edges: &[(&str, &[&str])]) -> Plan {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let edges: BTreeMap<String, Vec<String>> =
        edges.iter().map(|(from, to)| ((*from).to_owned(), owned(to))).collect();
    Plan::new(&owned(ids), &edges).unwrap()
}

fn diamond() -> Plan {
    plan(
        &["funcA", "funcB", "funcC", "funcD"],
        &[("funcA", &["funcB", "funcC"]), ("funcB", &["funcD"]), ("funcC", &["funcD"])],
    )
}

fn run(nodes: Value) -> GraphRun {
    serde_json::from_value(json!({
        "run_id": "r1", "graph_uri": "g:1-t", "graph_revision": 1, "run_status": "failed", "input_data": {},
        "started_at": "2026-01-01T00:00:00.000000Z", "duration_ms": 41.5, "nodes": nodes,
    }))
    .unwrap()
}

fn failed() -> GraphRun {
    run(json!([
        {"node": "funcA", "status": "completed", "started_ms": 0.0, "duration_ms": 1.25},
        {"node": "funcB", "status": "failed", "started_ms": 1.3, "duration_ms": 40.2,
         "error": {"code": "policy_failed", "message": "<b>\"no\" & 'never'</b>\u{1b}"}},
        {"node": "funcC", "status": "cancelled", "started_ms": 1.3, "duration_ms": 40.2},
        {"node": "funcD", "status": "skipped", "started_ms": null, "duration_ms": null},
    ]))
}

#[test]
fn the_diamond_is_a_diamond() {
    insta::assert_snapshot!(draw(&diamond(), None, 80).unwrap());
}

#[test]
fn a_run_shows_on_the_drawing() {
    let run = failed();
    insta::assert_snapshot!(draw(&diamond(), Some(&Times::of_run(&run)), 80).unwrap());
}

#[test]
fn twenty_nodes_with_long_edges_and_several_ends_can_be_read() {
    let plan = plan(
        &[
            "fetch", "parse", "geo", "asn", "whois", "score", "cache", "rules", "allow", "deny", "merge",
            "audit", "notify", "mail", "page", "store", "index", "report", "done", "clock",
        ],
        &[
            ("fetch", &["parse", "cache", "audit"]),
            ("parse", &["geo", "asn", "whois"]),
            ("geo", &["score"]),
            ("asn", &["score"]),
            ("whois", &["score", "store"]),
            ("cache", &["rules"]),
            ("rules", &["allow", "deny"]),
            ("score", &["merge"]),
            ("allow", &["merge"]),
            ("deny", &["merge"]),
            ("merge", &["notify", "store"]),
            ("notify", &["mail", "page"]),
            ("store", &["index"]),
            ("index", &["report"]),
            ("page", &["done"]),
            ("mail", &["done"]),
            ("clock", &["report"]),
            ("audit", &["report"]),
        ],
    );
    insta::assert_snapshot!(draw(&plan, None, 120).unwrap());
}

#[test]
fn what_is_too_wide_or_too_long_is_not_drawn() {
    assert!(draw(&diamond(), None, 15).is_none());
    let ids: Vec<String> = (0..500).map(|place| format!("n{place}")).collect();
    let chain: BTreeMap<_, _> = ids.windows(2).map(|pair| (pair[0].clone(), vec![pair[1].clone()])).collect();
    assert!(draw(&Plan::new(&ids, &chain).unwrap(), None, 160).is_none());
    assert!(draw(&Plan::new(&ids, &BTreeMap::new()).unwrap(), None, 160).is_none());
    // A picture can be scrolled.
    for edges in [chain, BTreeMap::new()] {
        assert_eq!(
            picture("g", &Plan::new(&ids, &edges).unwrap(), None).unwrap().matches("<rect").count(),
            500
        );
    }
}

#[test]
fn the_picture_is_well_formed_and_escaped() {
    let run = failed();
    let svg = picture("g:1-t", &diamond(), Some(&run)).unwrap();
    assert!(svg.contains("&lt;b&gt;&quot;no&quot; &amp; &#39;never&#39;&lt;/b&gt;\u{fffd}"), "{svg}");
    assert!(!svg.contains("<b>") && !svg.contains('\u{1b}'));
    for class in ["completed", "failed", "cancelled", "skipped"] {
        assert!(svg.contains(&format!("<rect class=\"{class}\"")), "{class}: {svg}");
    }
    assert_eq!(svg.matches("marker-end").count(), 4);
    assert_eq!(svg.matches("class=\"bar ").count(), 3, "one that did not start has no bar");
    for tag in ["svg", "g", "text", "title"] {
        let opened = svg.matches(&format!("<{tag}>")).count() + svg.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn times_are_short() {
    let texts = [0.0, 1.25, 9.99, 340.4, 12_345.0].map(milliseconds);
    assert_eq!(texts, ["0.0 ms", "1.2 ms", "10 ms", "340 ms", "12.3 s"]);
}

#[test]
fn a_trace_is_a_table() {
    let mut printed = Vec::new();
    super::run::table(&failed(), &mut Output::new(Format::Table, &mut printed)).unwrap();
    let text = String::from_utf8(printed).unwrap();
    assert!(text.contains("run r1 failed in 42 ms"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("funcD") && line.contains("skipped")), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// Follows the lines of a drawing downwards from each box to the boxes that they enter.
fn followed(drawing: &str, names: &[String]) -> BTreeSet<(String, String)> {
    let rows: Vec<Vec<char>> = drawing.lines().map(|line| line.chars().collect()).collect();
    let at =
        |row: usize, column: usize| rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or(' ');
    // Boxes: name, row of the bottom border, columns from left to right.
    let mut boxes = Vec::new();
    for (row, letters) in rows.iter().enumerate() {
        for name in names {
            let wanted: Vec<char> = format!(" {name} ").chars().collect();
            for start in 0..letters.len().saturating_sub(wanted.len() - 1) {
                if letters[start..start + wanted.len()] == wanted[..] {
                    let left = (0..=start).rev().find(|column| letters[*column] == '│').unwrap();
                    let right =
                        (start + wanted.len() - 1..letters.len()).find(|column| letters[*column] == '│');
                    boxes.push((name.clone(), row, left, right.unwrap()));
                }
            }
        }
    }
    let mut edges = BTreeSet::new();
    for (name, row, left, right) in &boxes {
        let Some(port) = (*left..=*right).find(|column| at(row + 1, *column) == '┬') else { continue };
        // (row, column, direction): 0 down, 1 right, 2 left.
        let mut todo = vec![(row + 2, port, 0)];
        let mut seen = BTreeSet::new();
        while let Some((row, column, direction)) = todo.pop() {
            if !seen.insert((row, column, direction)) {
                continue;
            }
            let next = |direction: usize| match direction {
                0 => (row + 1, column, 0),
                1 => (row, column + 1, 1),
                _ => (row, column - 1, 2),
            };
            let turns: &[usize] = match (at(row, column), direction) {
                ('┴', 0)
                    if at(row + 1, column) != '│'
                        || boxes.iter().any(|(_, top, left, right)| {
                            *top == row + 1 && left <= &column && &column <= right
                        }) =>
                {
                    let target = boxes
                        .iter()
                        .find(|(_, top, left, right)| *top == row + 1 && left <= &column && &column <= right);
                    match target {
                        Some((target, ..)) => {
                            edges.insert((name.clone(), target.clone()));
                            continue;
                        }
                        None => &[1, 2],
                    }
                }
                ('│', 0) => &[0],
                // A line that goes down is drawn over one that passes.
                ('│' | '─', 1) => &[1],
                ('│' | '─', 2) => &[2],
                ('└', 0) => &[1],
                ('┘', 0) => &[2],
                ('┴', 0) => &[1, 2],
                ('├', 0) => &[0, 1],
                ('┤', 0) => &[0, 2],
                ('┼', 0) => &[0, 1, 2],
                ('┐', 1) => &[0],
                ('┌', 2) => &[0],
                ('┬', direction @ (1 | 2)) => {
                    if direction == 1 {
                        &[0, 1]
                    } else {
                        &[0, 2]
                    }
                }
                (letter, _) => panic!("a line of {name} ends at {row}:{column} in {letter:?}\n{drawing}"),
            };
            todo.extend(turns.iter().map(|turn| next(*turn)));
        }
    }
    edges
}

proptest! {
    #[test]
    fn lines_lead_where_edges_do(count in 1..12_usize, pairs in proptest::collection::btree_set((0..12_usize, 0..12_usize), 0..24)) {
        let ids: Vec<String> = (0..count).map(|place| format!("node{place}")).collect();
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut expected = BTreeSet::new();
        for (from, to) in pairs.into_iter().filter(|(from, to)| from < to && *to < count) {
            edges.entry(ids[from].clone()).or_default().push(ids[to].clone());
            expected.insert((ids[from].clone(), ids[to].clone()));
        }
        let plan = Plan::new(&ids, &edges).unwrap();
        if let Some(drawing) = draw(&plan, None, 400) {
            prop_assert_eq!(followed(&drawing, &ids), expected, "\n{}", drawing);
        }
    }
}
