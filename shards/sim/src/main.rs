//! `sim --seed N` runs one seed, `sim --seeds A..B` many; the first broken rule ends it. With
//! `--jetstream` before that, streams over a simulated disk.

use std::process::ExitCode;

/// Runs seeds one after the other: how many, and what they did.
fn run_all<T: std::fmt::Debug>(
    seeds: std::ops::Range<u64>,
    mut total: T,
    run: impl Fn(u64) -> Result<T, sim::Failure>,
    add: impl Fn(&mut T, &T),
) -> ExitCode {
    let mut runs = 0_u64;
    for seed in seeds {
        match run(seed) {
            Ok(summary) => {
                runs += 1;
                add(&mut total, &summary);
            }
            Err(failure) => {
                eprintln!("seed {seed}: {failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{runs} runs kept every rule: {total:?}");
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (args, with_jetstream) = match args.as_slice() {
        ["--jetstream", rest @ ..] => (rest, true),
        all => (all, false),
    };
    let seeds = match args {
        ["--seed", seed] => number(seed).map(|seed| seed..seed + 1),
        ["--seeds", range] => {
            range.split_once("..").and_then(|(from, to)| Some(number(from)?..number(to)?))
        }
        _ => None,
    };
    match seeds {
        None => {
            eprintln!("usage: sim [--jetstream] --seed N | --seeds A..B");
            ExitCode::FAILURE
        }
        Some(seeds) if with_jetstream => {
            run_all(seeds, sim::js::Summary::default(), sim::js::run, sim::js::Summary::add)
        }
        Some(seeds) => run_all(seeds, sim::Summary::default(), sim::run, sim::Summary::add),
    }
}
