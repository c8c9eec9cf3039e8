//! `compare`: two servers, the same load, in turn, round by round.
//!
//! ```text
//!   for each case:  ours · theirs · ours · theirs · …   each round a fresh process
//!                   medians, least and most, ratio, goal
//! ```

pub mod plan;
pub mod result;
pub mod server;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{parse_duration, write};
use crate::error::{HarnessError, Result};
use crate::measure::{affinity, memory};
use crate::report::{Outcome, json, svg, table, text};
use crate::scenario::{self, Params, Subject, Wait};
use plan::{Case, Cores, SETS};
use result::{CaseResult, Comparison};
use server::{Launch, Server};

/// Failed rounds of a case after which its other rounds are not tried.
const FAILURES_MAX: usize = 2;

/// Options of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// The shearwater binary.
    #[arg(long, value_name = "PATH")]
    ours: PathBuf,
    /// The nats-server binary.
    #[arg(long, value_name = "PATH")]
    theirs: PathBuf,
    /// Rounds of each case; an odd number has a true median.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// CPUs of the servers.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    /// CPUs of the load, one thread each.
    #[arg(long, default_value = "1")]
    load_cpus: String,
    /// Shards of our server.
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Write no `shards` block for ours: with one binary on both sides, shows the noise.
    #[arg(long)]
    control: bool,
    /// Our `spin` setting for the cases that busy-poll.
    #[arg(long, default_value = "adaptive")]
    spin: String,
    /// Which cases to run: all, throughput, latency, trouble, scale, tls.
    #[arg(long, default_value = "all")]
    set: String,
    /// Run exactly these cases, by name, separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with = "set")]
    scenarios: Vec<String>,
    /// List the cases and stop.
    #[arg(long)]
    list: bool,
    /// Measured window; cases that need longer than the usual 2 s keep theirs.
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// How latency cases wait for the server; spinning keeps our own wake-up out of them.
    #[arg(long, value_enum, default_value_t = Wait::Spin)]
    wait: Wait,
    /// Write all values of all rounds as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw medians with whiskers, and latency percentiles, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the table as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Runs a comparison and shows it; false when a round failed.
///
/// # Errors
/// The arguments make no sense, or a report cannot be written.
pub fn run(args: &CompareArgs) -> Result<bool> {
    let cases = choose(args)?;
    if args.list {
        for case in &cases {
            println!("{:<22} {}", case.name, case.sets.join(" "));
        }
        return Ok(true);
    }
    // Servers inherit the limit, and the idle cases need it.
    memory::raise_file_limit(20_000)?;
    let steps = (cases.len() * args.rounds * 2) as u64;
    let bar = text::bar(steps);
    let mut comparison = Comparison::new(&args.ours, &args.theirs, args.rounds);
    for case in cases {
        bar.set_message(case.name);
        let result = run_case(args, case, &bar)?;
        // Shown at once: a comparison takes minutes.
        bar.suspend(|| print!("{}", table::text(std::slice::from_ref(&result))));
        comparison.cases.push(result);
        if let Some(path) = &args.json {
            write(path, &json::text(&comparison)?)?;
        }
    }
    bar.finish_and_clear();
    println!("\n{}", table::text(&comparison.cases));
    if let Some(path) = &args.markdown {
        write(path, &table::markdown(&comparison))?;
    }
    if let Some(path) = &args.svg {
        write(path, &svg::comparison(&comparison))?;
    }
    let failed = comparison.cases.iter().map(|c| c.failures.len()).sum::<usize>();
    if failed > 0 {
        eprintln!("bench-harness: {failed} rounds FAILED, see above");
    }
    Ok(failed == 0)
}

fn choose(args: &CompareArgs) -> Result<Vec<Case>> {
    let all = plan::cases();
    let known = |name: &String| all.iter().any(|c| c.name == name);
    if let Some(name) = args.scenarios.iter().find(|n| !known(n)) {
        return Err(HarnessError::Usage(format!("no case {name:?}; --list shows them")));
    }
    if !SETS.contains(&args.set.as_str()) {
        let sets = SETS.join(", ");
        return Err(HarnessError::Usage(format!("no set {:?}; there are {sets}", args.set)));
    }
    if args.rounds == 0 || args.shards == 0 {
        return Err(HarnessError::Usage("rounds and shards must be at least 1".into()));
    }
    let wanted = |case: &Case| {
        if args.scenarios.is_empty() {
            args.set == "all" || case.sets.contains(&args.set.as_str())
        } else {
            args.scenarios.iter().any(|n| n == case.name)
        }
    };
    let mut cases: Vec<Case> = all.into_iter().filter(wanted).collect();
    let load_cpus = affinity::parse_cpus(&args.load_cpus)?;
    for case in &mut cases {
        case.params.wait = args.wait;
        if let Some(duration) = args.duration {
            let usual = Params::new(case.params.kind).duration;
            // Where time itself makes the trouble, a shorter run would show none.
            let least = if case.params.duration > usual { case.params.duration } else { duration };
            case.params.duration = duration.max(least);
        }
        case.params.cpus = match case.cores {
            Cores::Apart => load_cpus.clone(),
            Cores::Shared => both(args)?,
        };
    }
    Ok(cases)
}

/// The CPUs of server and load together.
fn both(args: &CompareArgs) -> Result<Vec<usize>> {
    let mut cpus = affinity::parse_cpus(&args.server_cpus)?;
    cpus.extend(affinity::parse_cpus(&args.load_cpus)?);
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

fn run_case(args: &CompareArgs, case: Case, bar: &indicatif::ProgressBar) -> Result<CaseResult> {
    let (cpus, count) = match case.cores {
        Cores::Apart => (affinity::parse_cpus(&args.server_cpus)?, args.shards),
        Cores::Shared => (both(args)?, args.shards.max(2)),
    };
    let list = cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let spin = if case.spin { args.spin.as_str() } else { "off" };
    let mut shards = String::new();
    if !args.control {
        shards = format!("shards {{ count: {count}, cpus: \"{list}\", spin: \"{spin}\" }}\n");
    }
    let ours = Launch { binary: args.ours.clone(), cpus, shards, tls: case.tls };
    let theirs = Launch { binary: args.theirs.clone(), shards: String::new(), ..ours.clone() };
    let mut result = CaseResult::new(case);
    for round in 1..=args.rounds {
        for (launch, is_ours) in [(&ours, true), (&theirs, false)] {
            if result.failures.len() < FAILURES_MAX {
                match run_round(launch, &result.case) {
                    Ok(outcome) => result.add(is_ours, outcome),
                    Err(error) => {
                        let who = if is_ours { "ours" } else { "theirs" };
                        let what = format!("{} round {round}, {who}: {error}", result.case.name);
                        bar.suspend(|| eprintln!("bench-harness: FAILED {what}"));
                        result.failures.push(what);
                    }
                }
            }
            bar.inc(1);
        }
    }
    result.finish();
    Ok(result)
}

/// One fresh server, one run, one clean stop.
fn run_round(launch: &Launch, case: &Case) -> Result<Outcome> {
    let server = Server::start(launch)?;
    let subject = Subject { target: server.target.clone(), pid: Some(server.pid()) };
    let outcome = scenario::run(&subject, &case.params)
        .map_err(|e| HarnessError::Server(format!("{e}\n{}", server.log_tail())))?;
    server.stop()?;
    Ok(outcome)
}
