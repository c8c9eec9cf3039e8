//! What clients wait for, and what the answers tell the model.

use serde_json::Value;

use super::consumer::Policy;
use super::model::{Being, Config, Fate, Model};
use super::world::World;
use crate::client::Message;

/// A request that has not been answered.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A message, or the last one of a batch: its number.
    Publish(usize),
    CreateStream(usize),
    UpdateStream(usize, Config),
    DeleteStream(usize),
    /// Stream and position of the purge.
    Purge(usize, usize),
    /// Stream, sequence and when it was sent.
    Delete(usize, u64, u64),
    CreateConsumer(usize, usize),
    DeleteConsumer(usize, usize),
    /// Stream, consumer, message, sequence, when it was sent.
    Ack(usize, usize, usize, u64, u64),
    /// It must be refused.
    Refused(String),
    /// Whoever asked takes the answer itself.
    Raw,
}

impl Ask {
    /// The stream that it is about.
    pub(crate) fn stream(&self, model: &Model) -> Option<usize> {
        match self {
            Self::Publish(id) => model.sent.get(*id).map(|sent| sent.stream),
            Self::CreateStream(at)
            | Self::UpdateStream(at, _)
            | Self::DeleteStream(at)
            | Self::Purge(at, _)
            | Self::Delete(at, ..)
            | Self::CreateConsumer(at, _)
            | Self::DeleteConsumer(at, _)
            | Self::Ack(at, ..) => Some(*at),
            Self::Refused(_) | Self::Raw => None,
        }
    }
}

/// The number of the message that a payload begins with.
pub(crate) fn number_of(payload: &[u8]) -> Option<usize> {
    let end = payload.iter().position(|byte| *byte == b':')?;
    std::str::from_utf8(payload.get(..end)?).ok()?.parse().ok()
}

/// Longest time in which an answer must come while another stream hangs, ns.
const WAIT_NS_MAX: u64 = 4_000_000_000;
/// Errors of the API that say for certain that nothing was stored.
const SURE_ERRORS: [u64; 14] = [
    10_054, 10_060, 10_070, 10_071, 10_077, 10_164, 10_047, 10_053, 10_158, 10_174, 10_175, 10_176,
    10_199, 10_200,
];

/// The error of a request that cannot be written.
const NO_SPACE: u64 = 10_023;
/// Errors of the API that speak of the disk.
const DISK_ERRORS: [u64; 2] = [NO_SPACE, 10_047];

impl World {
    /// A message for a client: a delivery of a consumer, or an answer.
    pub(crate) fn handle_message(&mut self, at: usize, m: &Message) -> Result<(), String> {
        if m.reply.starts_with("$JS.ACK.") {
            return self.handle_delivery(at, m);
        }
        let number = m.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        let Some(number) = number else { return Ok(()) };
        let Some((_, _, ask)) = self.asks.get(&number).cloned() else {
            return Ok(());
        };
        if matches!(ask, Ask::Raw) {
            self.raw.push(m.clone());
            if !self.raw_is_many || is_last(m) {
                self.asks.remove(&number);
            }
            return Ok(());
        }
        let asked = self.asks.remove(&number).map_or(0, |(_, asked_ns, _)| asked_ns);
        self.judge_waiting(&ask, self.now.mono_ns - asked)?;
        self.handle_answer(ask, m)
    }

    /// A stream whose disk hangs holds up no other.
    fn judge_waiting(&self, ask: &Ask, waited_ns: u64) -> Result<(), String> {
        let Some(at) = ask.stream(&self.model) else { return Ok(()) };
        let is_held = self.hung.is_empty() || self.hung.contains(&at) || self.was_full;
        let is_plain = matches!(ask, Ask::Publish(_) | Ask::Ack(..) | Ask::Delete(..));
        if is_held || !is_plain || waited_ns < WAIT_NS_MAX {
            return Ok(());
        }
        let ms = waited_ns / 1_000_000;
        Err(format!("{ask:?} was answered after {ms} ms while stream {:?} hung", self.hung))
    }

    fn handle_answer(&mut self, ask: Ask, m: &Message) -> Result<(), String> {
        let no_responders = m.header.starts_with(b"NATS/1.0 503");
        let json: Value = serde_json::from_slice(&m.payload).unwrap_or(Value::Null);
        let error = json.get("error").map(|error| error["err_code"].as_u64().unwrap_or(0));
        let failed = no_responders || error.is_some();
        let tick = self.model.next_tick();
        if failed || self.trace {
            let text = String::from_utf8_lossy(&m.payload).into_owned();
            self.note(format!(
                "answer to {ask:?}: {text} {}",
                if no_responders { "503" } else { "" }
            ));
        }
        if self.is_undecided(&ask, error) {
            return Ok(());
        }
        match ask {
            Ask::Publish(id) => return self.handle_published(id, no_responders, error, &json),
            Ask::CreateStream(at) => {
                let stream = &mut self.model.streams[at];
                stream.being = if failed { Being::Absent } else { Being::Present };
                stream.made_ns = self.now.mono_ns;
                self.model.created += usize::from(!failed);
            }
            Ask::UpdateStream(at, config) => {
                let stream = &mut self.model.streams[at];
                if failed {
                    stream.past_configs.push(config);
                } else {
                    stream.configure(config);
                }
                stream.update = None;
            }
            Ask::DeleteStream(at) => return self.handle_stream_deleted(at, failed),
            Ask::Purge(at, which) => return self.handle_purged(at, which, (tick, failed), &json),
            Ask::Delete(at, seq, sent) if !failed => {
                let stream = &mut self.model.streams[at];
                if stream.fenced.is_some_and(|fenced| sent > fenced) {
                    return Err(format!("deleted {seq} of stream {at} after its disk failed"));
                }
                stream.deleted.insert(seq);
            }
            Ask::CreateConsumer(at, which) => {
                let consumer = &mut self.model.streams[at].consumers[which];
                consumer.being = if failed { Being::Absent } else { Being::Present };
                consumer.created_tick = tick;
            }
            Ask::DeleteConsumer(at, which) => {
                let consumer = &mut self.model.streams[at].consumers[which];
                consumer.being = if failed { Being::Present } else { Being::Absent };
            }
            Ask::Ack(at, which, id, seq, sent) if !failed => {
                let stream = &mut self.model.streams[at];
                if stream.fenced.is_some_and(|fenced| sent > fenced) {
                    return Err(format!("ack of {seq} confirmed after stream {at} failed"));
                }
                stream.consumers[which].note_settled(id, seq);
                self.model.confirmed += 1;
            }
            Ask::Delete(at, seq, _) if error == Some(NO_SPACE) => self.handle_not_deleted(at, seq),
            Ask::Delete(..) | Ask::Ack(..) => {}
            Ask::Refused(subject) => {
                if !failed {
                    return Err(format!("{subject} should have been refused: {json}"));
                }
            }
            Ask::Raw => {}
        }
        Ok(())
    }

    /// The disk failed: nobody knows what a restart will find. What is refused because the disk is
    /// full changes nothing.
    fn is_undecided(&self, ask: &Ask, error: Option<u64>) -> bool {
        let is_fenced = ask.stream(&self.model).is_some_and(|at| {
            let stream = &self.model.streams[at];
            stream.fenced.is_some() || stream.being == Being::Coming
        });
        error.is_some_and(|code| DISK_ERRORS.contains(&code))
            && is_fenced
            && !matches!(ask, Ask::Publish(_) | Ask::Refused(_))
    }

    /// A message stays, unless it was to be deleted twice.
    fn handle_not_deleted(&mut self, at: usize, seq: u64) {
        let same = |(_, _, ask): &(usize, u64, Ask)| match ask {
            Ask::Delete(other, number, _) => (*other, *number) == (at, seq),
            _ => false,
        };
        if !self.asks.values().any(same) {
            self.model.streams[at].maybe_deleted.remove(&seq);
        }
    }

    fn handle_stream_deleted(&mut self, at: usize, failed: bool) -> Result<(), String> {
        let stream = &mut self.model.streams[at];
        if failed {
            stream.being = Being::Present;
            return self.judge_refusal("a stream's deletion", at);
        }
        stream.being = Being::Absent;
        let mut sent = std::mem::take(&mut self.model.sent);
        self.model.streams[at].forget(&mut sent);
        self.model.sent = sent;
        Ok(())
    }

    fn handle_purged(
        &mut self,
        at: usize,
        which: usize,
        (tick, failed): (u64, bool),
        json: &Value,
    ) -> Result<(), String> {
        let stream = &mut self.model.streams[at];
        let fenced = stream.fenced;
        let Some(purge) = stream.purges.get_mut(which) else { return Ok(()) };
        purge.answered = Some(tick);
        purge.refused = failed;
        purge.is_sure = !failed;
        let took = json["purged"].as_u64().unwrap_or(0) > 0;
        if !failed && took && fenced.is_some_and(|fenced| purge.sent > fenced) {
            return Err(format!("a purge of stream {at} succeeds after its disk failed"));
        }
        Ok(())
    }

    /// Whether a request may have failed.
    fn judge_refusal(&self, what: &str, at: usize) -> Result<(), String> {
        let stream = &self.model.streams[at];
        if stream.fenced.is_some() || stream.is_damaged || self.disk.is_full {
            return Ok(());
        }
        Err(format!("{what} was refused: {}", stream.name))
    }

    fn handle_published(
        &mut self,
        id: usize,
        no_responders: bool,
        error: Option<u64>,
        json: &Value,
    ) -> Result<(), String> {
        if no_responders {
            self.model.sent[id].fate = Fate::Refused;
            return Ok(());
        }
        if let Some(code) = error {
            self.model.refused += 1;
            let is_sure = SURE_ERRORS.contains(&code);
            let fate = if is_sure { Fate::Refused } else { Fate::Doubt };
            if self.model.sent[id].batch.is_none() {
                self.model.sent[id].fate = fate;
            }
            return Ok(());
        }
        let (Some(stream), Some(seq)) = (json["stream"].as_str(), json["seq"].as_u64()) else {
            return Err(format!("message {id}: no acknowledgement: {json}"));
        };
        let is_duplicate = json["duplicate"].as_bool().unwrap_or(false);
        let Some(batch) = self.model.sent[id].batch else {
            return self.model.handle_pub_ack(id, stream, seq, is_duplicate);
        };
        let members: Vec<usize> =
            (0..=id).rev().take_while(|at| self.model.sent[*at].batch == Some(batch)).collect();
        for (back, member) in members.into_iter().enumerate() {
            self.model.handle_pub_ack(member, stream, seq - back as u64, false)?;
        }
        self.model.batches += 1;
        Ok(())
    }

    /// A message of a consumer.
    fn handle_delivery(&mut self, at: usize, m: &Message) -> Result<(), String> {
        let words: Vec<&str> = m.reply.split('.').collect();
        let [_, _, stream, consumer, times, seq, ..] = words.as_slice() else {
            return Err(format!("no reply of a consumer: {}", m.reply));
        };
        let who = format!("client {at}: {stream} > {consumer}, sequence {seq}, delivery {times}");
        let Some(place) = self.model.streams.iter().position(|s| s.name == *stream) else {
            return Err(format!("{who}: no such stream"));
        };
        let seq: u64 = seq.parse().map_err(|_| format!("{who}: no sequence"))?;
        let id = number_of(&m.payload);
        let Some((id, sent)) = id.and_then(|id| Some((id, self.model.sent.get(id)?))) else {
            return Err(format!("{who}: nobody published that"));
        };
        let who = format!("{who}, message {id}");
        let is_intact = sent.stream == place
            && sent.subject == m.subject
            && sent.payload == m.payload
            && without_batch(&sent.headers) == without_batch(&String::from_utf8_lossy(&m.header));
        if !is_intact {
            return Err(format!("{who}: not as it was published"));
        }
        let known = self.model.streams[place].by_seq.get(&seq);
        if known.is_some_and(|other| *other != id) || sent.seq.is_some_and(|other| other != seq) {
            return Err(format!("{who}: known are {known:?} there, and it at {:?}", sent.seq));
        }
        if sent.fate == Fate::Refused {
            return Err(format!("{who}: had been refused"));
        }
        let being = self.model.streams[place].being;
        if sent.fate == Fate::Gone && being == Being::Present {
            return Err(format!("{who}: was gone before"));
        }
        let subject = sent.subject.clone();
        let stream = &self.model.streams[place];
        if sent.era < stream.era {
            // Of the stream that had this name before.
            return Ok(());
        }
        let Some(which) = stream.consumers.iter().position(|c| c.name == *consumer) else {
            return Err(format!("{who}: no such consumer"));
        };
        self.judge_tended((place, which), seq).map_err(|rule| format!("{who}: {rule}"))?;
        let stream = &mut self.model.streams[place];
        let known = &mut stream.consumers[which];
        if !known.takes(&subject) {
            return Err(format!("{who}: {subject} does not fit its filter {:?}", known.filter));
        }
        if known.owner != Some(at) && known.being != Being::Absent {
            return Err(format!("{who}: the client has not asked for it"));
        }
        if known.being == Being::Present && known.has_settled(id, seq) && !stream.is_damaged {
            return Err(format!("{who}: its acknowledgement had been confirmed"));
        }
        let times: usize = times.parse().map_err(|_| format!("{who}: no count"))?;
        if known.deliver_max > 0 && times > known.deliver_max {
            return Err(format!("{who}: it gives up after {}", known.deliver_max));
        }
        *known.delivered.entry(id).or_default() += 1;
        known.drained.insert(id);
        if known.policy != Policy::None {
            known.unsettled.retain(|(other, ..)| *other != id);
            known.unsettled.push((id, seq, m.reply.clone()));
        }
        self.model.delivered += 1;
        if self.trace {
            self.note(format!("{who} to {at}"));
        }
        if times != 1 {
            self.model.redelivered += 1;
        }
        Ok(())
    }
}

/// Headers that a stream may store otherwise than they were sent.
pub(crate) fn without_batch(headers: &str) -> String {
    headers.lines().filter(|line| !line.starts_with("Nats-Batch")).collect::<Vec<_>>().join("\n")
}

/// The last answer to a request for several messages.
fn is_last(m: &Message) -> bool {
    m.header.starts_with(b"NATS/1.0 ") && !m.header.starts_with(b"NATS/1.0\r\n")
}
