//! The same 400 requests, decided by Edict, cedar-policy and regorus (Rego in Rust) in one process on one thread, with 20,
//! 1,000 and 10,000 equivalent policies: one line of JSON. All must decide alike, or it ends with an error.
//!
//! `cargo run --release --manifest-path bench/engine-peers/Cargo.toml`; about two minutes.

mod cedar;
mod corpus;
mod edict;
mod rego;

use serde_json::{Map, Value, json};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [20, 1_000, 10_000];
/// Of the 400 requests, whatever the size.
const ALLOWED: usize = 90;
/// Decisions that are timed at most, and for how long.
const DECISIONS: usize = 50_000;
const LONGEST: Duration = Duration::from_secs(8);

/// Decides the request with this number.
type Decide<'e> = Box<dyn FnMut(usize) -> bool + 'e>;

fn main() -> Result<(), Box<dyn Error>> {
    let requests = corpus::requests();
    let mut report = Map::new();
    report.insert("bench".into(), json!("engine_peers"));
    for size in SIZES {
        let policies = corpus::policies(size);
        let edict = edict::Engine::new(&policies, &requests)?;
        let cedar = cedar::Engine::new(&policies, &requests)?;
        let rego = rego::Engine::new(&policies, &requests)?;
        let mut ways: Vec<(&str, Decide<'_>)> = vec![
            ("edict_decide", Box::new(|number| edict.decide(number))),
            ("edict_from_json", Box::new(|number| edict.from_json(number))),
            ("cedar_decide", Box::new(|number| cedar.decide(number))),
            ("cedar_from_json", Box::new(|number| cedar.from_json(number))),
            ("regorus_from_json", Box::new(|number| rego.from_json(number))),
        ];
        let mut figures = Map::new();
        let mut first: Option<Vec<bool>> = None;
        for (name, decide) in &mut ways {
            let decisions: Vec<bool> = (0..requests.len()).map(|number| decide(number)).collect();
            let allowed = decisions.iter().filter(|allowed| **allowed).count();
            if allowed != ALLOWED || first.as_ref().is_some_and(|first| *first != decisions) {
                return Err(format!("{name} decides otherwise with {size} policies ({allowed} allowed)").into());
            }
            first.get_or_insert(decisions);
            figures.insert(format!("{name}_p50_us"), json!(p50(decide, requests.len())));
        }
        report.insert(size.to_string(), Value::Object(figures));
    }
    println!("{}", Value::Object(report));
    Ok(())
}

/// The median of single decisions in microseconds, less what reading the clock takes.
fn p50(decide: &mut Decide<'_>, requests: usize) -> f64 {
    let clock = median((0..10_000).map(|_| Instant::now().elapsed()).collect());
    let (started, mut single) = (Instant::now(), Vec::with_capacity(DECISIONS));
    for number in (0..requests).cycle().take(DECISIONS) {
        let start = Instant::now();
        black_box(decide(black_box(number)));
        single.push(start.elapsed());
        if started.elapsed() > LONGEST {
            break;
        }
    }
    let microseconds = median(single).saturating_sub(clock).as_nanos() as f64 / 1e3;
    (microseconds * 1e3).round() / 1e3
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
