//! Prints how long checking the sample policy's input takes, in nanoseconds:
//! `cargo run --release -p edict-schema --example speed`.

use std::hint::black_box;
use std::time::Instant;

use edict_schema::{Fault, Schema};
use serde_json::json;

const ROUNDS: u32 = 2_000_000;

fn main() -> Result<(), Vec<Fault>> {
    let schema = Schema::compile(&json!({
        "ip": {"type": "string", "pattern": "^\\d{1,3}(\\.\\d{1,3}){3}$"}
    }))?;
    let input = json!({"ip": "10.0.0.1"});
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(&schema).validate(black_box(&input))?;
    }
    println!("{:.0} ns/op", start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS));
    Ok(())
}
