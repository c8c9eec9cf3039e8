//! The model: what was published, who must and who may have it, and in which order.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::client::{Client, Frame, Message};

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which rule, and how.
    pub rule: String,
    /// The last steps before it was found.
    pub steps: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.rule)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

/// A published message; its number is its place among all.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) publisher: usize,
    /// Counts the publisher's messages from 1.
    pub(crate) sequence: u64,
    /// The step at which it was sent.
    pub(crate) sent_at: usize,
    pub(crate) account: usize,
    pub(crate) subject: String,
    pub(crate) reply: String,
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// Subscriptions that were confirmed when it was sent: client and sid.
    pub(crate) due: Vec<(usize, u64)>,
}

/// All that was published and delivered.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Published>,
    /// Deliveries of each message: client and sid.
    deliveries: HashMap<usize, Vec<(usize, u64)>>,
    /// The last sequence that a plain subscription had: publisher, client, sid.
    last: HashMap<(usize, usize, u64), u64>,
    /// The queue groups that had a message already.
    groups: HashSet<(usize, String)>,
    /// Messages that were answered with 503.
    pub(crate) unheard: HashSet<usize>,
    pub(crate) delivered: usize,
}

/// The message number that a text begins with.
fn number_of(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}

impl Oracle {
    /// Holds what a client has read against the model.
    ///
    /// # Errors
    /// The rule that the frame breaks.
    pub(crate) fn judge(
        &mut self,
        clients: &mut [Client],
        at: usize,
        frame: Frame,
    ) -> Result<(), String> {
        let client = &mut clients[at];
        match frame {
            Frame::Info => {}
            Frame::Ping => client.send(b"PONG\r\n"),
            Frame::Ok => {
                client.oks += 1;
                if client.oks > client.oks_due {
                    return Err(format!("client {at} got a +OK too many"));
                }
            }
            Frame::Err(text) => {
                let own_fault = client.spoiled.is_some()
                    && ["'Unknown Protocol Operation'", "'Authorization Violation'"]
                        .contains(&text.as_str());
                if !own_fault && text != "'Stale Connection'" {
                    return Err(format!("client {at} did nothing for -ERR {text}"));
                }
            }
            Frame::Pong => {
                if !client.take_pong() {
                    return Err(format!("client {at} got a PONG that it did not ask for"));
                }
            }
            Frame::Msg(message) if message.header.starts_with(b"NATS/1.0 503") => {
                self.judge_unheard(client, at, &message)?;
            }
            Frame::Msg(message) => self.judge_message(client, at, &message)?,
        }
        Ok(())
    }

    /// The answer that nobody listens goes to the requester, once.
    fn judge_unheard(&mut self, client: &Client, at: usize, m: &Message) -> Result<(), String> {
        let number = m.subject.strip_prefix("_R.").and_then(|rest| number_of(rest.as_bytes()));
        let asked = number.and_then(|number| Some((number, self.messages.get(number)?)));
        let Some((number, request)) = asked else {
            return Err(format!("client {at} got 503 for no request: {}", m.subject));
        };
        let header = format!("NATS/1.0 503\r\nNats-Subject: {}\r\n\r\n", request.subject);
        let fits = request.publisher == at
            && client.headers
            && client.subs.get(&m.sid).is_some_and(|sub| sub.takes(&m.subject))
            && m.header == header.as_bytes()
            && m.payload.is_empty();
        if !fits {
            return Err(format!("client {at}: this 503 is not for it: {m:?}"));
        }
        if !self.unheard.insert(number) {
            return Err(format!("message {number} was answered 503 twice"));
        }
        Ok(())
    }

    fn judge_message(&mut self, client: &mut Client, at: usize, m: &Message) -> Result<(), String> {
        let Some((number, sent)) =
            number_of(&m.payload).and_then(|number| Some((number, self.messages.get(number)?)))
        else {
            return Err(format!("client {at} got a payload that nobody sent"));
        };
        let who = format!("client {at}, sid {}, message {number} to {}", m.sid, m.subject);
        let Some(sub) = client.subs.get_mut(&m.sid) else {
            return Err(format!("{who}: no such subscription"));
        };
        let header: &[u8] = if client.headers { &sent.header } else { b"" };
        let is_intact = sent.subject == m.subject
            && sent.reply == m.reply
            && sent.payload == m.payload
            && header == m.header;
        if !is_intact {
            return Err(format!("{who}: not as it was sent"));
        }
        let is_own = sent.publisher == at;
        if client.account != sent.account || !sub.takes(&m.subject) || (is_own && !client.echo) {
            return Err(format!("{who}: is not for it"));
        }
        if sub.cap.is_some_and(|cap| sub.received >= cap) {
            return Err(format!("{who}: more than its maximum"));
        }
        sub.received += 1;
        let seen = self.deliveries.entry(number).or_default();
        if seen.contains(&(at, m.sid)) {
            return Err(format!("{who}: twice"));
        }
        seen.push((at, m.sid));
        self.delivered += 1;
        if let Some(queue) = sub.queue.clone() {
            if !self.groups.insert((number, queue)) {
                return Err(format!("{who}: its queue group had it already"));
            }
            return Ok(());
        }
        let last = self.last.insert((sent.publisher, at, m.sid), sent.sequence);
        if last.is_some_and(|last| last >= sent.sequence) {
            return Err(format!("{who}: out of its publisher's order"));
        }
        Ok(())
    }

    /// Holds a world at rest against the model.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(crate) fn judge_rest(&self, clients: &[Client]) -> Result<(), String> {
        for (number, message) in self.messages.iter().enumerate() {
            let had = self.deliveries.get(&number).map(Vec::as_slice).unwrap_or_default();
            if self.unheard.contains(&number) && !had.is_empty() {
                return Err(format!("message {number} was answered 503 but {had:?} had it"));
            }
            let publisher = &clients[message.publisher];
            if publisher.spoiled.is_some_and(|before| message.sequence > before) && !had.is_empty()
            {
                return Err(format!("message {number} came after its publisher's end: {had:?}"));
            }
            if publisher.open || message.sequence <= publisher.sure {
                self.judge_due(clients, number, message, had)?;
            }
        }
        for (at, client) in clients.iter().enumerate().filter(|(_, client)| client.open) {
            if client.pongs != client.pings {
                return Err(format!("client {at} had {} of {} PONGs", client.pongs, client.pings));
            }
            if client.oks != client.oks_due {
                return Err(format!("client {at} had {} of {} +OK", client.oks, client.oks_due));
            }
            if client.spoiled.is_some() {
                return Err(format!("client {at} was not closed for what it sent"));
            }
        }
        Ok(())
    }

    /// Everybody who was due a message and stayed must have had it.
    fn judge_due(
        &self,
        clients: &[Client],
        number: usize,
        message: &Published,
        had: &[(usize, u64)],
    ) -> Result<(), String> {
        for (at, sid) in &message.due {
            let client = &clients[*at];
            let Some(sub) = client.subs.get(sid) else { continue };
            if !client.open || sub.is_over() {
                continue;
            }
            let got = match &sub.queue {
                None => had.contains(&(*at, *sid)),
                Some(queue) => {
                    self.groups.contains(&(number, queue.clone()))
                        || was_lost(clients, message, queue)
                }
            };
            if !got {
                return Err(format!(
                    "message {number} to {} is missing at client {at}, sid {sid} ({} {:?}, max {})",
                    message.subject, sub.pattern, sub.queue, sub.max
                ));
            }
        }
        Ok(())
    }
}

/// A member of the group may have been given the message and have gone before it read it.
fn was_lost(clients: &[Client], message: &Published, queue: &str) -> bool {
    clients.iter().any(|client| {
        client.closed_at.is_some_and(|at| at >= message.sent_at)
            && client.account == message.account
            && client
                .subs
                .values()
                .any(|sub| sub.queue.as_deref() == Some(queue) && sub.takes(&message.subject))
    })
}
