//! What the server promised, written down outside of it: the acknowledgements that writers and
//! readers got, and what is in doubt because an answer never came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::json;

use super::Dice;
use super::api;
use super::client::Client;
use super::content::Origin;

/// Somebody who publishes, and what came of it.
pub(super) struct Writer {
    pub(super) writer: usize,
    pub(super) stream: &'static str,
    /// Whether each message has an id, so that it can be sent again.
    has_ids: bool,
    /// How many messages may wait for their acknowledgements.
    window: usize,
    next: u64,
    /// The sequence of each message that is known to be stored.
    pub(super) stored: BTreeMap<u64, u64>,
    /// Messages that were sent and of which nothing is known, in the order of sending.
    pub(super) doubtful: VecDeque<u64>,
}

impl Writer {
    pub(super) fn new(writer: usize, stream: &'static str, has_ids: bool, window: usize) -> Self {
        let (stored, doubtful) = (BTreeMap::new(), VecDeque::new());
        Self { writer, stream, has_ids, window, next: 0, stored, doubtful }
    }

    fn subject(&self) -> String {
        format!("{}.{}", self.stream, self.writer)
    }

    fn headers(&self, number: u64) -> Vec<String> {
        if !self.has_ids {
            return Vec::new();
        }
        vec![format!("Nats-Msg-Id: {}-{number}", self.writer)]
    }

    /// Publishes until the connection ends or `go_on`, asked after each acknowledgement, says no.
    pub(super) fn write(&mut self, port: u16, go_on: impl Fn() -> bool) {
        let Some(mut client) = Client::try_new(port) else { return };
        loop {
            while self.doubtful.len() < self.window {
                let number = self.next;
                let origin = Origin { writer: self.writer, number };
                let reply = format!("{}.{number}", client.inbox);
                let headers = self.headers(number);
                // Part of it may have reached the server even if this fails.
                self.next += 1;
                self.doubtful.push_back(number);
                let sent = client.publish(&self.subject(), &reply, &headers, &origin.payload());
                if sent.is_err() {
                    return;
                }
            }
            let Some(message) = client.message() else { return };
            let number: u64 = message.subject.rsplit('.').next().unwrap().parse().unwrap();
            let answer = message.json();
            let seq = answer["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"));
            assert!(answer["duplicate"].is_null(), "{number} was sent once: {answer}");
            self.note_stored(number, seq);
            if !go_on() {
                return;
            }
        }
    }

    /// Message `number` is known to be at `seq`: after all earlier ones of this writer.
    pub(super) fn note_stored(&mut self, number: u64, seq: u64) {
        let who = self.writer;
        self.doubtful.retain(|other| *other != number);
        if let Some(known) = self.stored.insert(number, seq) {
            assert_eq!(known, seq, "message {number} of writer {who} is stored twice");
        }
        let before = self.stored.range(..number).next_back();
        assert!(before.is_none_or(|(_, at)| *at < seq), "{who}: {number} at {seq}, {before:?}");
        let after = self.stored.range(number + 1..).next();
        assert!(after.is_none_or(|(_, at)| *at > seq), "{who}: {number} at {seq}, {after:?}");
    }

    /// Sends what is in doubt again: with its id it must be stored once, whatever became of the
    /// first try. And some of what is not in doubt, which must be known as a duplicate unless it
    /// has left the stream since: the window is made from what is stored, as nats-server does it.
    pub(super) fn send_again(&mut self, client: &mut Client, dice: &mut Dice) {
        if !self.has_ids {
            return;
        }
        let newest = self.stored.keys().next_back().copied().unwrap_or(0);
        let known: Vec<u64> = (0..3)
            .map(|_| newest.saturating_sub(dice.below(200)))
            .filter(|number| self.stream != "WORK" && self.stored.contains_key(number))
            .collect();
        let doubtful: Vec<u64> = self.doubtful.iter().copied().collect();
        for number in doubtful.into_iter().chain(known) {
            let origin = Origin { writer: self.writer, number };
            let headers = self.headers(number);
            let answer = client.try_request(&self.subject(), &headers, &origin.payload());
            let answer = answer.expect("an answer").json();
            let seq = answer["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"));
            if let Some(known) = self.stored.get(&number) {
                assert_eq!((seq, answer["duplicate"].as_bool()), (*known, Some(true)), "{answer}");
            }
            self.note_stored(number, seq);
        }
    }

    /// After everything in the stream was read: what is still in doubt has been lost, with all
    /// that was sent after it.
    pub(super) fn forget_doubtful(&mut self) {
        let Some(first) = self.doubtful.front() else { return };
        let after = self.stored.range(first..).next();
        let who = self.writer;
        assert_eq!(after, None, "{who}: stored, but {first}, which was sent before, is not");
        self.doubtful.clear();
    }
}

/// Somebody who consumes, settling each message with an acknowledgement that is answered.
pub(super) struct Reader {
    pub(super) stream: &'static str,
    pub(super) consumer: &'static str,
    /// What was delivered at each sequence.
    pub(super) seen: BTreeMap<u64, Origin>,
    /// Sequences whose acknowledgement was answered.
    pub(super) settled: BTreeSet<u64>,
    /// Sequences whose acknowledgement was sent.
    pub(super) acked: BTreeSet<u64>,
    /// Deliveries of messages that were lost with the server, unacknowledged, so that another
    /// message got their sequence. They are not promised to anybody, but worth a count.
    pub(super) phantoms: u64,
}

/// How many messages a reader asks for at once.
const PULL: usize = 10;

impl Reader {
    pub(super) fn new(stream: &'static str, consumer: &'static str) -> Self {
        let (seen, settled, acked) = Default::default();
        Self { stream, consumer, seen, settled, acked, phantoms: 0 }
    }

    /// Pulls and settles until the connection ends, or `is_done` says so after a status or an
    /// answered acknowledgement.
    pub(super) fn read(&mut self, port: u16, mut is_done: impl FnMut(&Self) -> bool) {
        let Some(mut client) = Client::try_new(port) else { return };
        let mut wanted = 0;
        loop {
            if wanted == 0 {
                let subject =
                    format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.consumer);
                let reply = format!("{}.p", client.inbox);
                let body = format!("{{\"batch\":{PULL},\"expires\":500000000}}");
                if client.publish(&subject, &reply, &[], body.as_bytes()).is_err() {
                    return;
                }
                wanted = PULL;
            }
            let Some(message) = client.message() else { return };
            let Some(token) = message.subject.strip_prefix(&client.inbox) else {
                wanted -= 1;
                let seq = self.take(&message.reply, &message.payload);
                let answer = format!("{}.{seq}", client.inbox);
                if client.publish(&message.reply, &answer, &[], b"+ACK").is_err() {
                    return;
                }
                continue;
            };
            if token == ".p" {
                assert!([404, 408].contains(&message.status()), "{message:?}");
                wanted = 0;
            } else {
                assert_eq!(message.payload, b"", "{message:?}");
                self.settled.insert(token[1..].parse().unwrap());
            }
            if is_done(self) {
                return;
            }
        }
    }

    /// A delivery, and its sequence.
    fn take(&mut self, reply: &str, payload: &[u8]) -> u64 {
        let seq: u64 = reply.split('.').nth(5).unwrap().parse().unwrap();
        let origin = Origin::of(payload);
        let name = self.consumer;
        assert!(!self.settled.contains(&seq), "{name}: {seq} was settled and comes again: {reply}");
        let before = self.seen.insert(seq, origin);
        self.phantoms += u64::from(before.is_some_and(|before| before != origin));
        self.acked.insert(seq);
        seq
    }
}

/// What a stream holds, by sequence, from `from` on; its sequences have no gaps.
pub(super) fn contents(client: &mut Client, stream: &str, from: u64) -> BTreeMap<u64, Origin> {
    let info = api(client, &format!("STREAM.INFO.{stream}"), "");
    let state = &info["state"];
    let number = |name: &str| state[name].as_u64().unwrap();
    let (first, last) = (number("first_seq"), number("last_seq"));
    if last == 0 {
        return BTreeMap::new();
    }
    assert!(state["num_deleted"].is_null(), "{info}");
    assert_eq!(number("messages"), last + 1 - first, "{info}");
    let mut found = BTreeMap::new();
    let mut next = from.max(first);
    while next <= last {
        let body = json!({ "seq": next, "batch": 500 }).to_string();
        next = fetch(client, stream, &body, &mut found).unwrap_or(next);
    }
    let wanted = from.max(first)..=last;
    assert!(found.keys().copied().eq(wanted), "{stream}: not every sequence is there");
    found
}

/// One batch of direct gets; gives the sequence after the last.
fn fetch(
    client: &mut Client,
    stream: &str,
    body: &str,
    found: &mut BTreeMap<u64, Origin>,
) -> Option<u64> {
    let reply = format!("{}.batch", client.inbox);
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    client.publish(&subject, &reply, &[], body.as_bytes()).unwrap();
    loop {
        let message = client.message().expect("the server stands");
        let status = message.status();
        if status != 0 {
            assert_eq!(status, 204, "{stream} {body}: {message:?}");
            return found.keys().next_back().map(|seq| seq + 1);
        }
        let seq = message.header("Nats-Sequence").unwrap().parse().unwrap();
        found.insert(seq, Origin::of(&message.payload));
    }
}

/// Compares what a stream holds from `from` on with what its writers know, who learn what
/// became of doubtful messages.
pub(super) fn compare(
    client: &mut Client,
    stream: &str,
    from: u64,
    writers: &mut [Writer],
) -> BTreeMap<u64, Origin> {
    let found = contents(client, stream, from);
    for (seq, origin) in &found {
        let writer = writers.iter_mut().find(|writer| writer.writer == origin.writer).unwrap();
        assert_eq!(writer.stream, stream, "{origin:?} in another stream");
        assert!(origin.number < writer.next, "{origin:?} was never sent");
        writer.note_stored(origin.number, *seq);
    }
    let first = found.keys().next().copied().unwrap_or(from);
    for writer in writers.iter_mut().filter(|writer| writer.stream == stream) {
        let who = writer.writer;
        for (number, seq) in writer.stored.iter().rev().take_while(|(_, seq)| **seq >= first) {
            let at = found.get(seq);
            assert!(at.is_some(), "{stream}: {number} of writer {who} at {seq} was acknowledged");
            assert_eq!(at.map(|at| (at.writer, at.number)), Some((who, *number)), "at {seq}");
        }
        writer.forget_doubtful();
    }
    found
}
