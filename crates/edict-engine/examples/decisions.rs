//! Measures decisions on one thread with 20, 1,000 and 10,000 policies and prints one JSON line:
//! `cargo run --release -p edict-engine --example decisions`. About half a minute.
//!
//! Policy `i` is about action `i % 5` on `pod:ns-<i / 5>/*`, for role `service`; nine of ten allow what is severe and
//! automated, every tenth denies while frozen. `same` asks about the first four namespaces, which exist at every size;
//! `spread` asks about all namespaces in turn, so that little of a large set is in the processor's caches.
//!
//! `decide` is from a request in memory to the decision, `from_json` from its text. Single decisions are timed, less
//! what reading the clock takes (`clock_ns`); figures are medians of nine rounds, in which the sizes take turns, so that
//! whatever else the machine does hits them alike.

#![expect(clippy::indexing_slicing, reason = "by fixed positions, and a bench may stop")]

use std::{error::Error, hint::black_box, time::Instant};

use edict_engine::{Answers, Policy, PolicySet, Request, Timestamp};
use serde_json::{Map, Value, json};

const ACTIONS: [&str; 5] =
    ["restart_pod", "scale_deployment", "rollback_deployment", "drain_node", "clear_cache"];
const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];
const SIZES: [usize; 3] = [20, 1_000, 10_000];
const ROUNDS: usize = 9;
const DECISIONS: usize = 50_000;
/// Of the 400 different requests of `same`.
const ALLOWED: usize = 90;

/// The 50th and the 99th percentile, in nanoseconds.
type Figures = [f64; 2];

fn main() -> Result<(), Box<dyn Error>> {
    let clock = timed(0.0, &[()], |()| (), |()| ())[0];
    let mut report = Map::new();
    report.insert("bench".into(), json!("decisions"));
    report.insert("clock_ns".into(), json!(clock));
    let mut sets = Vec::new();
    let mut compile = Map::new();
    for size in SIZES {
        let policies = corpus(size)?;
        let start = Instant::now();
        sets.push(PolicySet::compile(policies).map_err(|errors| format!("{errors:?}"))?);
        compile.insert(size.to_string(), json!(rounded(start.elapsed().as_secs_f64() * 1e3)));
    }
    report.insert("compile_ms".into(), Value::Object(compile));
    for (traffic, all) in [("same", false), ("spread", true)] {
        let texts: Vec<Vec<String>> =
            SIZES.iter().map(|size| requests(if all { size / 5 } else { 4 })).collect();
        for (set, texts) in sets.iter().zip(&texts) {
            let allowed = texts.iter().filter(|text| decide(set, &read(text))).count();
            if !all && allowed != ALLOWED {
                return Err(format!("{allowed} of 400 requests are allowed instead of {ALLOWED}").into());
            }
        }
        let decide_only =
            rounds(&sets, &texts, |set, texts| timed(clock, texts, read, |request| decide(set, request)));
        let from_json = rounds(&sets, &texts, |set, texts| {
            timed(clock, texts, |text| text, |text| decide(set, &read(text)))
        });
        report.insert(traffic.into(), json!({ "decide": decide_only, "from_json": from_json }));
    }
    println!("{}", Value::Object(report));
    Ok(())
}

/// Percentiles by size, and by how much more the largest takes than the smallest.
fn rounds(
    sets: &[PolicySet],
    texts: &[Vec<String>],
    measure: impl Fn(&PolicySet, &Vec<String>) -> Figures,
) -> Value {
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); SIZES.len()];
    for _ in 0..ROUNDS {
        for ((figures, set), texts) in figures.iter_mut().zip(sets).zip(texts) {
            figures.push(measure(set, texts));
        }
    }
    let mut report = Map::new();
    for (size, figures) in SIZES.iter().zip(&figures) {
        let [p50, p99] =
            [0, 1].map(|percentile| median(figures.iter().map(|figures| figures[percentile]).collect()));
        report.insert(size.to_string(), json!({ "p50_ns": p50, "p99_ns": p99 }));
    }
    if let [small, .., large] = figures.as_slice() {
        let ratios = large.iter().zip(small).map(|(large, small)| large[0] / small[0]).collect();
        report.insert("p50_ratio_10000_to_20".into(), json!(rounded(median(ratios))));
    }
    Value::Object(report)
}

fn read(text: &String) -> Request<'_> {
    Request::from_json(text.as_bytes()).unwrap_or_else(|error| unreachable!("{error}"))
}

fn decide(set: &PolicySet, request: &Request<'_>) -> bool {
    // The clock is read once for many requests here; reading it is the caller's cost.
    set.evaluate(request, Timestamp::UNIX_EPOCH, &Answers::default()).allowed
}

/// Times single calls; what `prepare` does is not counted.
fn timed<'t, T, P, R>(
    clock: f64,
    inputs: &'t [T],
    prepare: impl Fn(&'t T) -> P,
    call: impl Fn(&P) -> R,
) -> Figures {
    let mut single = Vec::with_capacity(DECISIONS);
    for input in inputs.iter().cycle().take(DECISIONS) {
        let prepared = black_box(prepare(input));
        let start = Instant::now();
        let result = black_box(call(&prepared));
        single.push(start.elapsed().as_nanos() as f64 - clock);
        drop(result);
    }
    single.sort_by(f64::total_cmp);
    [50, 99].map(|percent| single[DECISIONS * percent / 100])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn corpus(size: usize) -> Result<Vec<Policy>, edict_engine::PolicyError> {
    let policy = |number: usize| {
        let deny = number % 10 == 9;
        let metadata =
            if deny { json!({"freeze": true}) } else { json!({"severity": "high", "automated": true}) };
        Policy::from_value(&json!({
            "name": format!("gen-{number}"),
            "type": "self_healing",
            "effect": if deny { "deny" } else { "allow" },
            "priority": 100 + number % 100,
            "conditions": {"role": "service", "metadata": metadata},
            "actions": [ACTIONS.get(number % 5)],
            "resources": [format!("pod:ns-{}/*", number / 5)],
        }))
    };
    (0..size).map(policy).collect()
}

/// 400 requests about four namespaces, or as many more as there are more namespaces.
fn requests(namespaces: usize) -> Vec<String> {
    let request = |number: usize| {
        let context = json!({
            "userId": format!("u{number}"),
            "role": "service",
            "metadata": {
                "severity": SEVERITIES.get(number / 20 % 4), "automated": true, "freeze": number / 80 % 5 == 4,
            },
        });
        let resource = format!("pod:ns-{}/api-{number}", number / 5 % namespaces);
        json!({
            "action": ACTIONS.get(number % 5), "resource": resource, "type": "self_healing", "context": context,
        })
        .to_string()
    };
    (0..400.max(namespaces * 5)).map(request).collect()
}
