//! The text format of a protocol transcript, from lines to steps.
//!
//! ```text
//! # What the transcript proves.
//! config:
//!     max_payload: 100          (indented lines: the configuration file)
//! flags: --user u               (command-line arguments)
//! pings: manual                 (the server's PINGs are lines like others)
//! ---
//! C1 connect                    open, read the greeting
//! C1 open                       open, read nothing
//! C1> SUB a 1                   send the line and CR LF
//! C1>| SUB a                    send exactly this
//! C1< MSG a 1 2                 this line, and CR LF, must come next
//! C1|C2< MSG q 1 2              exactly one of the two gets it; the lines that follow with the
//!                               same names belong to that one
//! C1 info jetstream="x" nonce !ldm     an INFO must come next; fields equal, present, absent
//! C1 info-keys server_id (xkey)        an INFO with these keys in this order, (some) optional
//! C1 sync                       PING, and nothing but PONG comes
//! C1 closed                     the server closes, nothing else comes
//! C1 refused                    the server closes a connection just opened, or does not open it
//! C1 close                      the client closes
//! C1 reason Parse Error         what /connz tells of the closed connection
//! reload:
//!     max_payload: 200          a new configuration, reloaded
//! signal USR2
//! log Entering lame duck mode   a line with this text is logged
//! restart                       the server ends by SIGTERM and starts again on what it stored
//! ```
//!
//! Transcripts about JetStream speak of whole messages. One is written as
//! `<SUBJECT REPLY> [STATUS | NAME: VALUE | ...] BODY`: the first part is left out for an answer
//! on the connection's own inbox, the second for a message without headers.
//!
//! ```text
//! C1 login {"user":"u"}         open, log in with these fields, take messages from now on
//! C1 ask foo [Nats-Msg-Id: a] x publish to foo with an inbox to answer to
//! C1 put foo <reply> x          publish without one
//! C1= {"stream":"S","seq":1}    the next answer; JSON token by token
//! C1== {"stream":"S","seq":1}   the next answer, byte by byte
//! C1 listen D foo.> [queue]     a subscription named D
//! C1.D= <foo.a r> hello         its next message
//! C1 drop D                     UNSUB
//! C1 do foo x                   ask; the answer must come and be no error
//! C1 fill 10 foo.${i} x         ask ten times; every answer must come and be no error
//! C1 until "messages":0 ask $JS.API.STREAM.INFO.S     ask again until the answer has this text
//! ```
//!
//! At the end no message may be left that was not compared. `${num}`, `${id}` and `${time}` are
//! runs of digits, of letters and digits, and a time; `${any=NAME}` and so on keep what they took
//! under a name for `${NAME}`; `${reply}` is the reply subject of the last message compared. With
//! `TRANSCRIPT_RECORD` set and nats-server named as the oracle, `=` lines that differ are
//! rewritten to what came, in files whose names begin with `js_`.
//!
//! In lines to send and to expect, `\r \n \t \0 \\ \xHH` are bytes, `${any}` is a run of other
//! bytes, `${cid}` this connection's number, `${server_id}` the server's, `${TEXT*N}` the text N
//! times, `${nkey:NAME}` and `${sig:NAME}` a public key and its signature of the nonce. In the
//! configuration `${nkey:NAME}` and `${bcrypt:TEXT}` work too.

use std::path::Path;

/// One step of a transcript.
#[derive(Debug)]
pub(crate) enum Action {
    Connect(String),
    Open(String),
    Send {
        conn: String,
        text: String,
        ends_line: bool,
    },
    Expect {
        conns: Vec<String>,
        text: String,
    },
    Info {
        conn: String,
        checks: Vec<InfoCheck>,
    },
    InfoKeys {
        conn: String,
        keys: Vec<String>,
    },
    Sync(String),
    Closed(String),
    Refused(String),
    Close(String),
    Reason {
        conn: String,
        text: String,
    },
    Reload(String),
    Signal(String),
    Log(String),
    /// Opens, reads the greeting and logs in with these fields, for whole messages from then on.
    Login {
        conn: String,
        fields: String,
    },
    /// Publishes with an inbox to answer to, or without.
    Publish {
        conn: String,
        text: String,
        asks: bool,
    },
    /// The next message of a subscription must be this one; an empty name is the inbox.
    Got {
        conn: String,
        from: String,
        text: String,
        exact: bool,
    },
    Listen {
        conn: String,
        name: String,
        subject: String,
    },
    Drop {
        conn: String,
        name: String,
    },
    /// Asks with `${i}` from 1 to `count`; every answer must come, none an error.
    Fill {
        conn: String,
        count: u64,
        text: String,
    },
    /// Asks again and again until the answer has this text.
    Until {
        conn: String,
        wanted: String,
        text: String,
    },
    Restart,
}

/// One demand on the fields of an INFO.
#[derive(Debug)]
pub(crate) enum InfoCheck {
    Equal(String, serde_json::Value),
    Present(String),
    Absent(String),
}

/// A step and the line it stands on.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) action: Action,
}

/// A whole transcript.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) config: String,
    pub(crate) flags: Vec<String>,
    pub(crate) answers_pings: bool,
    pub(crate) steps: Vec<Step>,
}

impl Script {
    /// Reads a transcript; an error names the line.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut script = Self {
            name,
            config: String::new(),
            flags: Vec::new(),
            answers_pings: true,
            steps: Vec::new(),
        };
        let lines: Vec<&str> = text.lines().collect();
        let Some(body) = lines.iter().position(|line| *line == "---") else {
            return Err(String::from("no --- line"));
        };
        if !lines.first().is_some_and(|line| line.starts_with("# ")) {
            return Err(String::from("line 1: says not what it proves"));
        }
        script.read_header(&lines[..body])?;
        script.read_steps(&lines, body + 1)?;
        Ok(script)
    }

    fn read_header(&mut self, lines: &[&str]) -> Result<(), String> {
        let mut next = 0;
        while let Some(line) = lines.get(next) {
            next += 1;
            if *line == "config:" {
                self.config = take_indented(lines, &mut next);
            } else if let Some(flags) = line.strip_prefix("flags: ") {
                self.flags = flags.split_whitespace().map(String::from).collect();
            } else if *line == "pings: manual" {
                self.answers_pings = false;
            } else if !line.is_empty() && !line.starts_with('#') {
                return Err(format!("line {next}: {line}"));
            }
        }
        Ok(())
    }

    fn read_steps(&mut self, lines: &[&str], first: usize) -> Result<(), String> {
        let mut next = first;
        while let Some(line) = lines.get(next) {
            next += 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let at = next;
            let action = if *line == "reload:" {
                Some(Action::Reload(take_indented(lines, &mut next)))
            } else {
                read_action(line)
            };
            let action = action.ok_or_else(|| format!("line {at}: {line}"))?;
            self.steps.push(Step { line: at, action });
        }
        Ok(())
    }
}

fn take_indented(lines: &[&str], next: &mut usize) -> String {
    let mut text = String::new();
    while let Some(line) = lines.get(*next) {
        let Some(inner) = line.strip_prefix("    ") else {
            break;
        };
        text.push_str(inner);
        text.push('\n');
        *next += 1;
    }
    text
}

fn read_action(line: &str) -> Option<Action> {
    if let Some(name) = line.strip_prefix("signal ") {
        return Some(Action::Signal(String::from(name)));
    }
    if let Some(text) = line.strip_prefix("log ") {
        return Some(Action::Log(String::from(text)));
    }
    if line == "restart" {
        return Some(Action::Restart);
    }
    let end = line.find([' ', '>', '<', '='])?;
    let (names, rest) = line.split_at(end);
    let conn = String::from(names);
    if let Some(text) = rest.strip_prefix(">|") {
        let text = String::from(text.strip_prefix(' ').unwrap_or(text));
        return Some(Action::Send { conn, text, ends_line: false });
    }
    if let Some(text) = rest.strip_prefix('>') {
        let text = String::from(text.strip_prefix(' ').unwrap_or(text));
        return Some(Action::Send { conn, text, ends_line: true });
    }
    if let Some(text) = rest.strip_prefix('<') {
        let text = String::from(text.strip_prefix(' ').unwrap_or(text));
        let conns = names.split('|').map(String::from).collect();
        return Some(Action::Expect { conns, text });
    }
    if let Some(text) = rest.strip_prefix('=') {
        let (conn, from) = names.split_once('.').unwrap_or((names, ""));
        let (conn, from) = (String::from(conn), String::from(from));
        let exact = text.starts_with('=');
        let text = String::from(text.trim_start_matches('=').trim_start());
        return Some(Action::Got { conn, from, text, exact });
    }
    let rest = rest.trim_start();
    read_verb(conn.clone(), rest.trim_end()).or_else(|| read_message_verb(conn, rest))
}

fn read_message_verb(conn: String, rest: &str) -> Option<Action> {
    let (verb, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let own = |text: &str| String::from(text);
    Some(match verb {
        "login" => Action::Login { conn, fields: own(text) },
        "ask" | "put" => Action::Publish { conn, text: own(text), asks: verb == "ask" },
        "listen" => {
            let (name, subject) = text.split_once(' ')?;
            Action::Listen { conn, name: own(name), subject: own(subject) }
        }
        "drop" => Action::Drop { conn, name: own(text) },
        "do" => Action::Fill { conn, count: 1, text: own(text) },
        "fill" => {
            let (count, text) = text.split_once(' ')?;
            Action::Fill { conn, count: count.parse().ok()?, text: own(text) }
        }
        "until" => {
            let (wanted, text) = text.split_once(" ask ")?;
            Action::Until { conn, wanted: own(wanted), text: own(text) }
        }
        _ => return None,
    })
}

fn read_verb(conn: String, rest: &str) -> Option<Action> {
    let (verb, text) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(match verb {
        "connect" => Action::Connect(conn),
        "open" => Action::Open(conn),
        "sync" => Action::Sync(conn),
        "closed" => Action::Closed(conn),
        "refused" => Action::Refused(conn),
        "close" => Action::Close(conn),
        "reason" => Action::Reason { conn, text: String::from(text) },
        "info-keys" => {
            Action::InfoKeys { conn, keys: text.split_whitespace().map(String::from).collect() }
        }
        "info" => {
            let checks = text.split_whitespace().map(read_check).collect::<Option<_>>()?;
            Action::Info { conn, checks }
        }
        _ => return None,
    })
}

fn read_check(text: &str) -> Option<InfoCheck> {
    if let Some(key) = text.strip_prefix('!') {
        return Some(InfoCheck::Absent(String::from(key)));
    }
    let Some((key, value)) = text.split_once('=') else {
        return Some(InfoCheck::Present(String::from(text)));
    };
    Some(InfoCheck::Equal(String::from(key), serde_json::from_str(value).ok()?))
}
