//! The process is killed at random moments while writers write and readers read; every promise
//! it made is compared with what it has when it comes back.
//!
//! `SHEARWATER_KILLS` asks for more kills than usual in each test, `SHEARWATER_SEED` for other
//! choices.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::client::Client;
use super::ledger::{Reader, Writer, compare};
use super::{Dice, api, number_from_env};
use crate::support::DEADLINE;
use crate::support::server::{Options, Server};

/// Most messages that the ring keeps.
const RING_MESSAGES: u64 = 300;

/// A server that is killed, and what is known about it outside of it.
struct Run {
    server: Server,
    writers: Vec<Writer>,
    log_reader: Reader,
    work_reader: Reader,
    dice: Dice,
    /// Sequence up to which the log's contents have been compared.
    compared: u64,
    kills: u64,
    acks: u64,
    /// Messages in doubt when the server was killed, and how many of them it had kept.
    doubtful: usize,
    slowest_start: Duration,
}

/// Tells what went wrong with which choices.
impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {} kills and {} acknowledgements", self.kills, self.acks);
        }
    }
}

impl Run {
    fn new(shards: usize, config: &str, seed: u64) -> Self {
        let server = Options::new().config(config).shards(shards).start();
        let mut client = Client::new(server.port);
        let window = 3_600_000_000_000_u64;
        for (name, more) in [
            ("LOG", ""),
            ("RING", &format!(r#","max_msgs":{RING_MESSAGES}"#)),
            ("WORK", r#","retention":"workqueue""#),
        ] {
            let body = format!(
                r#"{{"name":"{name}","subjects":["{name}.*"],"allow_direct":true,
                "duplicate_window":{window}{more}}}"#
            );
            api(&mut client, &format!("STREAM.CREATE.{name}"), &body.replace('\n', ""));
        }
        for (stream, name) in [("LOG", "reads"), ("WORK", "works")] {
            let body = format!(
                r#"{{"stream_name":"{stream}","config":{{"durable_name":"{name}",
                "ack_policy":"explicit","ack_wait":1000000000,"max_ack_pending":5000}}}}"#
            );
            let call = format!("CONSUMER.CREATE.{stream}.{name}");
            api(&mut client, &call, &body.replace('\n', ""));
        }
        let writers = vec![
            Writer::new(0, "LOG", true, 1),
            Writer::new(1, "LOG", false, 1),
            Writer::new(2, "LOG", true, 64),
            Writer::new(3, "LOG", false, 64),
            Writer::new(4, "RING", false, 32),
            Writer::new(5, "WORK", true, 4),
        ];
        Self {
            server,
            writers,
            log_reader: Reader::new("LOG", "reads"),
            work_reader: Reader::new("WORK", "works"),
            dice: Dice(seed),
            compared: 0,
            kills: 0,
            acks: 0,
            doubtful: 0,
            slowest_start: Duration::ZERO,
        }
    }

    /// Everybody works until the server is killed, a little after some acknowledgement.
    fn work_and_kill(&mut self) {
        let (port, server) = (self.server.port, &mut self.server);
        let (left, (fire, fired)) = (AtomicU64::new(1 + self.dice.below(600)), channel());
        let later = Duration::from_micros(self.dice.below(3000));
        let begun = self.writers.iter().map(|writer| writer.stored.len()).sum::<usize>();
        std::thread::scope(|scope| {
            for writer in &mut self.writers {
                let (fire, left) = (fire.clone(), &left);
                let go_on = move || {
                    if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                        fire.send(()).unwrap();
                    }
                    true
                };
                scope.spawn(move || writer.write(port, go_on));
            }
            scope.spawn(|| self.log_reader.read(port, |_| false));
            scope.spawn(|| self.work_reader.read(port, |_| false));
            let told = fired.recv_timeout(DEADLINE);
            let until = Instant::now() + later;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            server.crash();
            told.expect("acknowledgements keep coming");
        });
        self.kills += 1;
        let now = self.writers.iter().map(|writer| writer.stored.len()).sum::<usize>();
        self.acks += (now - begun) as u64;
        self.doubtful += self.writers.iter().map(|writer| writer.doubtful.len()).sum::<usize>();
    }

    /// Starts the server, now and then after it was killed while it started.
    fn start(&mut self) {
        while self.dice.one_in(4) {
            self.server.begin();
            // The moment of the kill is what is random here; nothing waits for anything.
            std::thread::sleep(Duration::from_micros(self.dice.below(60_000)));
            self.server.crash();
            self.kills += 1;
        }
        let begun = Instant::now();
        self.server.start_again();
        self.slowest_start = self.slowest_start.max(begun.elapsed());
    }

    /// Compares what the server has with what it had promised.
    fn compare(&mut self) {
        let mut client = Client::new(self.server.port);
        self.learn_what_was_settled(&mut client);
        for writer in &mut self.writers {
            writer.send_again(&mut client, &mut self.dice);
        }
        let found = compare(&mut client, "LOG", self.compared + 1, &mut self.writers);
        self.compared = found.keys().next_back().copied().unwrap_or(self.compared);
        let reader = &self.log_reader;
        for (seq, origin) in found.iter().filter(|(seq, _)| reader.settled.contains(seq)) {
            assert_eq!(reader.seen.get(seq), Some(origin), "{seq}: what was settled is not it");
        }
        let ring = compare(&mut client, "RING", 1, &mut self.writers);
        let last = ring.keys().next_back().copied().unwrap_or(0);
        assert_eq!(ring.len() as u64, last.min(RING_MESSAGES));
        self.compare_work(&mut client);
    }

    /// Work whose publisher heard nothing may have been settled and be gone: then its id is gone
    /// as well, as with nats-server, and it must not be sent again.
    fn learn_what_was_settled(&mut self, client: &mut Client) {
        let info = api(client, "STREAM.INFO.WORK", "");
        let last = info["state"]["last_seq"].as_u64().unwrap();
        let writer = self.writers.iter_mut().find(|writer| writer.stream == "WORK").unwrap();
        for (seq, origin) in self.work_reader.seen.range(..=last).rev().take(50) {
            if writer.doubtful.contains(&origin.number) {
                let body = format!("{{\"seq\":{seq}}}");
                let answer = client.ask_json("$JS.API.STREAM.MSG.GET.WORK", &body);
                if !answer["error"].is_null() {
                    writer.note_stored(origin.number, *seq);
                }
            }
        }
    }

    /// A message of the work queue is there until it was settled, and then never again.
    fn compare_work(&mut self, client: &mut Client) {
        let reader = &self.work_reader;
        let writer = self.writers.iter_mut().find(|writer| writer.stream == "WORK").unwrap();
        for (number, seq) in writer.stored.iter().rev().take(500) {
            let body = format!("{{\"seq\":{seq}}}");
            let answer = client.ask_json("$JS.API.STREAM.MSG.GET.WORK", &body);
            let is_there = answer["error"].is_null();
            assert!(is_there || answer["error"]["err_code"] == 10037, "{answer}");
            if reader.settled.contains(seq) {
                assert!(!is_there, "{number} at {seq} was settled and is there");
            } else if !reader.acked.contains(seq) {
                assert!(is_there, "{number} at {seq} was acknowledged, not settled, and is lost");
            }
        }
        writer.forget_doubtful();
    }

    /// Reads everything that is left, and compares everything once more from the start.
    fn finish(&mut self) {
        self.compared = 0;
        self.compare();
        let port = self.server.port;
        let mut client = Client::new(port);
        for reader in [&mut self.log_reader, &mut self.work_reader] {
            let call = format!("CONSUMER.INFO.{}.{}", reader.stream, reader.consumer);
            reader.read(port, |_| {
                let info = api(&mut client, &call, "");
                info["num_pending"] == 0 && info["num_ack_pending"] == 0
            });
        }
        let last = self.compared;
        assert!(self.log_reader.seen.keys().copied().eq(1..=last), "some were never delivered");
        let writer = self.writers.iter().find(|writer| writer.stream == "WORK").unwrap();
        for (number, seq) in &writer.stored {
            assert!(self.work_reader.seen.contains_key(seq), "{number} at {seq} was not delivered");
        }
        let info = api(&mut client, "STREAM.INFO.WORK", "");
        assert_eq!(info["state"]["messages"], 0, "{info}");
    }
}

fn kill_again_and_again(shards: usize, config: &str, usual: u64) {
    let seed = number_from_env("SHEARWATER_SEED", 0x5EED);
    let kills = number_from_env("SHEARWATER_KILLS", usual);
    let mut run = Run::new(shards, config, seed);
    while run.kills < kills {
        run.work_and_kill();
        run.start();
        run.compare();
    }
    run.finish();
    println!(
        "{shards} shards: {} kills, {} acknowledgements, {} messages in doubt, {} settled, \
         {} phantoms, slowest start {:?}",
        run.kills,
        run.acks,
        run.doubtful,
        run.log_reader.settled.len() + run.work_reader.settled.len(),
        run.log_reader.phantoms + run.work_reader.phantoms,
        run.slowest_start,
    );
}

#[test]
fn one_shard_keeps_its_promises() {
    kill_again_and_again(1, super::JETSTREAM, 8);
}

#[test]
fn two_shards_keep_their_promises() {
    kill_again_and_again(2, super::JETSTREAM, 8);
}

/// Without flushes, a killed process still loses nothing: the kernel has it.
#[test]
fn a_lazy_server_keeps_its_promises_too() {
    let config = "jetstream { store_dir: \"{dir}/js\", sync_interval: \"2m\" }";
    kill_again_and_again(2, config, 6);
}
