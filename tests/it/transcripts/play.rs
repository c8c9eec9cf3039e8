//! Plays one transcript against one server.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::messages::{ANSWERS, Mail, Message, greeting};
use super::script::{Action, InfoCheck, Script, Step};
use super::text::{self, Known};
use crate::jetstream::shapes;
use crate::support::raw::Missing;
use crate::support::server::{Options, oracle};
use crate::support::{Conn, DEADLINE, Server, http, poll};

/// Plays the file; an error says where it differs and what came instead.
pub(crate) fn play(path: &Path, shards: usize) -> Result<(), String> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let script = Script::read(path).map_err(|error| format!("{file}: {error}"))?;
    let mut config = text::config(&script.config).map_err(|error| format!("{file}: {error}"))?;
    if file.starts_with("js_") && !config.contains("jetstream") {
        config.push_str(JETSTREAM);
    }
    let started = std::panic::catch_unwind(|| {
        let flags = ["-m", "-1"].into_iter().map(String::from).chain(script.flags.clone());
        Options::new().config(config).flags(flags).shards(shards).start()
    });
    let server = started.map_err(|_| format!("{file}: the server did not start"))?;
    let mut stage = Stage {
        server,
        answers_pings: script.answers_pings,
        conns: HashMap::new(),
        kept: HashMap::new(),
        chosen: None,
        record: file.starts_with("js_") && records(),
        rewrites: Vec::new(),
    };
    for step in &script.steps {
        if let Err(error) = stage.act(step) {
            return Err(format!("{}.txt:{} on {shards} shard(s): {error}", script.name, step.line));
        }
        if !stage.server.is_running() {
            let log = stage.server.log_text();
            return Err(format!("{file}:{}: the server ended:\n{log}", step.line));
        }
    }
    if !stage.rewrites.is_empty() {
        rewrite(path, &stage.rewrites).map_err(|error| format!("{file}: {error}"))?;
    }
    stage.finish().map_err(|error| format!("{file} on {shards} shard(s): {error}"))
}

/// The part of the configuration that most transcripts about JetStream need.
const JETSTREAM: &str = "\njetstream { store_dir: \"{dir}/js\" }\n";

/// Whether lines that differ are rewritten, which only the oracle may cause.
fn records() -> bool {
    oracle().is_some() && std::env::var_os("TRANSCRIPT_RECORD").is_some()
}

fn rewrite(path: &Path, lines: &[(usize, String)]) -> std::io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let mut all: Vec<String> = text.lines().map(String::from).collect();
    for (number, line) in lines {
        if let Some(old) = all.get_mut(number - 1) {
            let head = old.find('=').unwrap_or_default();
            let marks = old[head..].bytes().take_while(|byte| *byte == b'=').count();
            *old = format!("{} {line}", &old[..head + marks]).trim_end().to_owned();
        }
    }
    std::fs::write(path, all.join("\n") + "\n")
}

/// A connection and what its placeholders stand for.
struct Actor {
    conn: Conn,
    known: Known,
    mail: Mail,
}

impl Actor {
    fn new(conn: Conn) -> Self {
        Self { conn, known: Known::default(), mail: Mail::default() }
    }
}

struct Stage {
    server: Server,
    answers_pings: bool,
    conns: HashMap<String, Actor>,
    /// What placeholders took on any connection.
    kept: HashMap<String, String>,
    /// Who of several got the message that is being compared.
    chosen: Option<(Vec<String>, String)>,
    /// Whether lines that differ are rewritten, and which.
    record: bool,
    rewrites: Vec<(usize, String)>,
}

impl Stage {
    fn act(&mut self, step: &Step) -> Result<(), String> {
        if !matches!(step.action, Action::Expect { .. }) {
            self.chosen = None;
        }
        match &step.action {
            Action::Open(name) => self.open(name),
            Action::Connect(name) => {
                self.open(name)?;
                self.take_info(name).map(drop)
            }
            Action::Send { conn, text, ends_line } => self.send(conn, text, *ends_line),
            Action::Expect { conns, text } => self.expect(conns, text),
            Action::Info { conn, checks } => self.check_info(conn, checks),
            Action::InfoKeys { conn, keys } => {
                let found = keys_in_order(&self.take_info(conn)?);
                if keys_fit(keys, &found) { Ok(()) } else { Err(format!("the keys are {found:?}")) }
            }
            Action::Sync(name) => {
                self.send(name, "PING", true)?;
                self.expect(std::slice::from_ref(name), "PONG")
            }
            Action::Closed(name) => self.closed(name),
            Action::Refused(name) => self.refused(name),
            Action::Close(name) => self.conns.remove(name).map(drop).ok_or_else(|| unknown(name)),
            Action::Reason { conn, text } => self.reason(conn, text),
            Action::Reload(config) => {
                let line = self.server.reload(&text::config(config)?);
                if line.contains("Reloaded server configuration") { Ok(()) } else { Err(line) }
            }
            Action::Signal(name) => self.signal(name),
            Action::Log(text) => {
                self.server.wait_log(text);
                Ok(())
            }
            _ => self.act_on_messages(step),
        }
    }

    fn act_on_messages(&mut self, step: &Step) -> Result<(), String> {
        match &step.action {
            Action::Login { conn, fields } => {
                self.open(conn)?;
                self.take_info(conn)?;
                self.raw(conn, &greeting(conn, fields))
            }
            Action::Publish { conn, text, asks } => self.publish(conn, text, *asks),
            Action::Got { conn, from, text, exact } => {
                self.got(step.line, conn, from, text, *exact)
            }
            Action::Listen { conn, name, subject } => {
                self.raw(conn, &format!("SUB {subject} {name}\r\n"))
            }
            Action::Drop { conn, name } => self.raw(conn, &format!("UNSUB {name}\r\n")),
            Action::Fill { conn, count, text } => self.fill(conn, *count, text),
            Action::Until { conn, wanted, text } => self.until(conn, wanted, text),
            Action::Restart => {
                self.conns.clear();
                self.server.restart();
                Ok(())
            }
            other => Err(format!("not a step of messages: {other:?}")),
        }
    }

    fn raw(&mut self, name: &str, bytes: &str) -> Result<(), String> {
        self.actor(name)?.conn.try_send(bytes).map_err(|error| error.to_string())
    }

    fn publish(&mut self, name: &str, text: &str, asks: bool) -> Result<(), String> {
        let actor = self.actor(name)?;
        let bytes = actor.mail.publish(name, text, &actor.known, asks)?;
        actor.conn.try_send(bytes).map_err(|error| error.to_string())
    }

    fn receive(&mut self, name: &str, from: &str) -> Result<Message, String> {
        let limit = if self.record { Duration::from_secs(3) } else { DEADLINE };
        let sid = if from.is_empty() { ANSWERS } else { from };
        let actor = self.actor(name)?;
        let message = actor.mail.next(&mut actor.conn, sid, limit)?;
        shapes::check(&message.body)?;
        Ok(message)
    }

    fn got(
        &mut self,
        line: usize,
        name: &str,
        from: &str,
        wanted: &str,
        exact: bool,
    ) -> Result<(), String> {
        let message = match self.receive(name, from) {
            Ok(message) => message,
            Err(error) if self.record => {
                self.rewrites.push((line, format!("!!! {error}")));
                return Ok(());
            }
            Err(error) => return Err(format!("wanted {wanted:?}, but {error}")),
        };
        if !message.reply.is_empty() {
            self.keep("reply", &message.reply);
        }
        let fits = message.matches(wanted, &self.actor(name)?.known, exact);
        match fits {
            Ok(Some(captures)) => {
                captures.iter().for_each(|(name, text)| self.keep(name, text));
                Ok(())
            }
            _ if self.record => {
                self.rewrites.push((line, message.text(!exact)));
                Ok(())
            }
            Ok(None) => Err(format!("wanted {wanted}\n   came {}", message.text(false))),
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self, name: &str, text: &str) {
        self.kept.insert(String::from(name), String::from(text));
        for actor in self.conns.values_mut() {
            actor.known.kept.insert(String::from(name), String::from(text));
        }
    }

    fn fill(&mut self, name: &str, count: u64, text: &str) -> Result<(), String> {
        for i in 1..=count {
            self.publish(name, &text.replace("${i}", &i.to_string()), true)?;
            let answer = self.receive(name, "")?.text(false);
            if answer.contains("\"error\"") || answer.starts_with('[') {
                return Err(format!("number {i}: {answer}"));
            }
        }
        Ok(())
    }

    fn until(&mut self, name: &str, wanted: &str, text: &str) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.publish(name, text, true)?;
            let answer = self.receive(name, "")?.text(false);
            if answer.contains(wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("never {wanted}, at last {answer}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Nothing may be left that the transcript did not mention.
    fn finish(&mut self) -> Result<(), String> {
        for (name, actor) in &mut self.conns {
            if actor.mail.is_used() {
                let left = actor.mail.leftovers(&mut actor.conn)?;
                if !left.is_empty() {
                    return Err(format!("{name} got at the end: {left:#?}"));
                }
            }
        }
        Ok(())
    }

    fn actor(&mut self, name: &str) -> Result<&mut Actor, String> {
        self.conns.get_mut(name).ok_or_else(|| unknown(name))
    }

    fn open(&mut self, name: &str) -> Result<(), String> {
        let mut conn = Conn::try_open(self.server.port).map_err(|error| error.to_string())?;
        conn.answers_pings = self.answers_pings;
        let mut actor = Actor::new(conn);
        actor.known.kept.clone_from(&self.kept);
        self.conns.insert(String::from(name), actor);
        Ok(())
    }

    fn take_info(&mut self, name: &str) -> Result<String, String> {
        let actor = self.actor(name)?;
        let line = actor.conn.line().map_err(|missing| format!("no INFO but {missing:?}"))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let json = line.strip_prefix("INFO ").and_then(|rest| rest.strip_suffix("} "));
        let json = json.map(|body| format!("{body}}}")).ok_or_else(|| format!("came: {line}"))?;
        let fields: serde_json::Value =
            serde_json::from_str(&json).map_err(|error| format!("{error} in {json}"))?;
        let text_of = |key: &str| fields[key].as_str().map(String::from).unwrap_or_default();
        if let Some(nonce) = fields["nonce"].as_str() {
            actor.known.nonce = String::from(nonce);
        }
        actor.known.server_id = text_of("server_id");
        actor.known.cid = fields["client_id"].to_string();
        actor.conn.info = fields;
        Ok(json)
    }

    fn check_info(&mut self, name: &str, checks: &[InfoCheck]) -> Result<(), String> {
        let json = self.take_info(name)?;
        let fields = self.actor(name)?.conn.info.clone();
        for check in checks {
            let holds = match check {
                InfoCheck::Equal(key, value) => fields.get(key) == Some(value),
                InfoCheck::Present(key) => fields.get(key).is_some(),
                InfoCheck::Absent(key) => fields.get(key).is_none(),
            };
            if !holds {
                return Err(format!("{check:?} does not hold in {json}"));
            }
        }
        Ok(())
    }

    fn send(&mut self, name: &str, text: &str, ends_line: bool) -> Result<(), String> {
        let actor = self.actor(name)?;
        let mut bytes = text::bytes(text, &actor.known)?;
        if ends_line {
            bytes.extend_from_slice(b"\r\n");
        }
        // A server that has closed is found out by the next line that is expected.
        drop(actor.conn.try_send(bytes));
        Ok(())
    }

    fn expect(&mut self, names: &[String], wanted: &str) -> Result<(), String> {
        let name = self.choose(names)?;
        let actor = self.actor(&name)?;
        let line = match actor.conn.line() {
            Ok(line) => line,
            Err(missing) => {
                let rest = actor.conn.pending_text();
                return Err(format!("wanted {wanted:?}, came {missing:?} after {rest:?}"));
            }
        };
        if let Some(captures) = text::captured(wanted, &actor.known, &line)? {
            captures.iter().for_each(|(name, text)| self.keep(name, text));
            return Ok(());
        }
        Err(format!("wanted {wanted:?}\n   came {:?}", String::from_utf8_lossy(&line)))
    }

    /// Which connection the next line is read from: the one named, or the first of several that
    /// has something. The following lines of the same group come from the same one.
    fn choose(&mut self, names: &[String]) -> Result<String, String> {
        if let [name] = names {
            self.chosen = None;
            return Ok(name.clone());
        }
        if let Some((group, name)) = &self.chosen
            && group == names
            && self.conns.get(name).is_some_and(|actor| actor.conn.has_pending())
        {
            return Ok(name.clone());
        }
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            for name in names {
                if self.actor(name)?.conn.wait_pending(Duration::from_millis(5)) {
                    self.chosen = Some((names.to_vec(), name.clone()));
                    return Ok(name.clone());
                }
            }
        }
        Err(format!("none of {names:?} got anything"))
    }

    fn closed(&mut self, name: &str) -> Result<(), String> {
        let actor = self.actor(name)?;
        match actor.conn.line() {
            Err(Missing::Closed) if actor.conn.pending_text().is_empty() => Ok(()),
            Err(missing) => Err(format!("{missing:?} after {:?}", actor.conn.pending_text())),
            Ok(line) => Err(format!("not closed, came {:?}", String::from_utf8_lossy(&line))),
        }
    }

    fn refused(&mut self, name: &str) -> Result<(), String> {
        match Conn::try_open(self.server.port) {
            Err(_) => Ok(()),
            Ok(conn) => {
                self.conns.insert(String::from(name), Actor::new(conn));
                self.closed(name)
            }
        }
    }

    fn reason(&mut self, name: &str, wanted: &str) -> Result<(), String> {
        let path = format!("/connz?state=closed&cid={}", self.actor(name)?.known.cid);
        let server = &self.server;
        let reason = poll("the closed connection in /connz", || {
            let page = http::json(server, &path);
            page["connections"][0]["reason"].as_str().map(String::from)
        });
        if reason == wanted { Ok(()) } else { Err(format!("the reason is {reason:?}")) }
    }

    fn signal(&self, name: &str) -> Result<(), String> {
        let signal = match name {
            "HUP" => Signal::HUP,
            "USR1" => Signal::USR1,
            "USR2" => Signal::USR2,
            _ => return Err(format!("unknown signal {name}")),
        };
        self.server.signal(signal);
        Ok(())
    }
}

fn unknown(name: &str) -> String {
    format!("no connection {name}")
}

/// Whether the keys are the wanted ones in order; wanted ones in parentheses may be missing.
fn keys_fit(wanted: &[String], found: &[String]) -> bool {
    let mut found = found.iter().peekable();
    let all = wanted.iter().all(|want| {
        let optional = want.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let key = optional.unwrap_or(want);
        found.next_if(|next| *next == key).is_some() || optional.is_some()
    });
    all && found.next().is_none()
}

/// The keys of a JSON object on its top level, in the order they stand in the text.
fn keys_in_order(json: &str) -> Vec<String> {
    let (mut keys, mut depth, mut rest) = (Vec::new(), 0_usize, json);
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let mark = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match mark {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {
                let end = rest.find('"').unwrap_or(rest.len());
                let (text, after) = rest.split_at(end);
                rest = after.get(1..).unwrap_or_default();
                if depth == 1 && rest.starts_with(':') {
                    keys.push(String::from(text));
                }
            }
        }
    }
    keys
}
