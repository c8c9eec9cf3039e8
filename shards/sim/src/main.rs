//! `sim --seed N` runs one seed, `sim --seeds A..B` many; the first broken rule ends it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let seeds = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--seed", seed] => number(seed).map(|seed| seed..seed + 1),
        ["--seeds", range] => {
            range.split_once("..").and_then(|(from, to)| Some(number(from)?..number(to)?))
        }
        _ => None,
    };
    let Some(seeds) = seeds else {
        eprintln!("usage: sim --seed N | --seeds A..B");
        return ExitCode::FAILURE;
    };
    let (mut runs, mut total) = (0_u64, sim::Summary::default());
    for seed in seeds {
        match sim::run(seed) {
            Ok(summary) => {
                runs += 1;
                total.add(&summary);
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
