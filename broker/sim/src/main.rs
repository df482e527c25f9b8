//! `cargo xtask sim`: runs seeds.

use std::time::Instant;

use broker_sim::{Cut, Recording, simulate};

fn main() {
    let args: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let (start, count) = (
        args.first().copied().unwrap_or(0),
        args.get(1).copied().unwrap_or(100),
    );
    let trace = std::env::args().any(|arg| arg == "--trace");
    let began = Instant::now();
    let (mut failed, mut events, mut committed) = (0, 0, 0);
    for seed in start..start + count {
        let recording = if trace { Recording::On } else { Recording::Off };
        let outcome = simulate(seed, &Cut::default(), recording);
        for line in &outcome.lines {
            println!("{line}");
        }
        events += outcome.events;
        committed += outcome.committed;
        if let Some(violation) = outcome.violation {
            failed += 1;
            println!("seed {seed}: {violation}");
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{count} seeds, {failed} failed, {:.0} seeds/s, {events} events, {committed} committed",
        count as f64 / seconds
    );
}
