//! `compare`: two servers, the same load, in turn, round by round.
//!
//! ```text
//!   for each case:  ours · theirs · ours · theirs · …   each round a fresh process
//!                   medians, least and most, ratio, goal
//! ```

pub mod durability;
pub mod js_plan;
pub mod plan;
pub mod result;
pub mod server;
pub mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::cli::{parse_duration, write};
use crate::error::{HarnessError, Result};
use crate::measure::{affinity, memory};
use crate::report::{Outcome, json, svg, table, text};
use crate::scenario::{self, Host, Kind, Params, Subject, Wait};
use durability::Durability;
use js_plan::Sizes;
use plan::{Case, Cores, SETS};
use result::{CaseResult, Comparison};
use server::{JetStream, Launch, Server};

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
    /// Which cases to run: all (of the core), throughput, latency, trouble, scale, tls,
    /// js-publish, js-consume, js-reads, js-scale.
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
    /// Where the stores of JetStream cases are made; the working directory by default.
    #[arg(long, value_name = "DIR")]
    store_dir: Option<PathBuf>,
    #[command(flatten)]
    sizes: Sizes,
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
            let mode = case.durability.map_or("", Durability::name);
            println!("{:<26} {:<12} {mode}", case.name, case.sets.join(" "));
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
            (args.set == "all" && case.durability.is_none())
                || case.sets.contains(&args.set.as_str())
        } else {
            args.scenarios.iter().any(|n| n == case.name)
        }
    };
    let mut cases: Vec<Case> = all.into_iter().filter(wanted).collect();
    let load_cpus = affinity::parse_cpus(&args.load_cpus)?;
    for case in &mut cases {
        case.params.wait = args.wait;
        args.sizes.apply(case);
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
    let spin = if case.spin { format!(", spin: \"{}\"", args.spin) } else { String::new() };
    let mut shards = String::new();
    if !args.control {
        shards = format!("shards {{ count: {count}, cpus: \"{list}\"{spin} }}\n");
    }
    let jetstream = |is_ours: bool| {
        case.durability.map(|mode| JetStream {
            sync_interval: mode.sync_interval(is_ours).map(str::to_owned),
            store_parent: args.store_dir.clone(),
            bytes_needed: js_plan::bytes_needed(&case.params),
        })
    };
    let binary = args.ours.clone();
    let ours = Launch { binary, cpus, shards, tls: case.tls, jetstream: jetstream(true) };
    let theirs = Launch {
        binary: args.theirs.clone(),
        shards: String::new(),
        jetstream: jetstream(false),
        ..ours.clone()
    };
    let mut result = CaseResult::new(case);
    for round in 1..=args.rounds {
        if result.case.half_peak && result.failures.len() < FAILURES_MAX {
            match peak(&ours, &result.case) {
                Ok(rate) => result.case.params.rate = (rate / 2.0).round(),
                Err(error) => {
                    let what = format!("{} round {round}, peak: {error}", result.case.name);
                    bar.suspend(|| eprintln!("bench-harness: FAILED {what}"));
                    result.failures.push(what);
                }
            }
        }
        for (launch, is_ours) in [(&ours, true), (&theirs, false)] {
            if result.failures.len() < FAILURES_MAX {
                match run_round(launch, &result.case, is_ours) {
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

/// What ours publishes a second with 256 outstanding, in the mode of the case.
fn peak(launch: &Launch, case: &Case) -> Result<f64> {
    let mut case = case.clone();
    let params = Params::new(Kind::JsPublish);
    let Params { size, cpus, wait, .. } = case.params;
    case.params = Params { size, cpus, wait, ..params };
    let outcome = run_round(launch, &case, true)?;
    outcome
        .get("msgs_per_s")
        .ok_or_else(|| HarnessError::Server("its peak was not measured".into()))
}

/// One fresh server, one run, one clean stop.
fn run_round(launch: &Launch, case: &Case, is_ours: bool) -> Result<Outcome> {
    let server = Arc::new(Server::start(launch)?);
    let mut params = case.params.clone();
    if let (Some(js), Some(mode)) = (&mut params.js, case.durability) {
        js.durability = mode.words(is_ours).to_owned();
    }
    let (pid, host) = (Some(server.pid()), Some(Arc::clone(&server) as Arc<dyn Host>));
    let subject = Subject { target: server.target.clone(), pid, host };
    let outcome = scenario::run(&subject, &params)
        .map_err(|e| HarnessError::Server(format!("{e}\n{}", server.log_tail())))?;
    if case.kill {
        server.kill()?
    } else {
        server.stop()?
    }
    Ok(outcome)
}
