//! Dead letters: a message that has had all its deliveries, or that a client has given up, is
//! stored to another subject before it is done with (an extension, see `docs/JETSTREAM.md`).
//!
//! ```text
//!  given up ─► intent in the state ─► (durable) ─► publish, with an id ─► PubAck ─► done
//!                                        ▲                │
//!                                        └── after a while, without a PubAck
//! ```
//!
//! The intent is kept with the event that ends the message's deliveries, so a crash loses none;
//! the id is always the same for one message, so a repeated publish is stored once.

use store::Read;
use wire::api::timestamp::Timestamp;
use wire::client::encode::push_u64;

use super::state::{Event, Letter};
use super::{Consumer, Cx};
use crate::effect::Level;

/// First time to wait for a PubAck, ns; doubles.
const RETRY_MIN_NS: u64 = 2_000_000_000;
/// Longest time to wait for a PubAck, ns.
const RETRY_MAX_NS: u64 = 60_000_000_000;
/// Time to wait for a payload from the disk, ns.
const READ_NS: u64 = 5_000_000;
/// Letters on their way at the same time.
const ON_WAY_MAX: usize = 256;
/// Bytes kept of the reason that a client gave.
const REASON_MAX: usize = 256;

/// The sending side of a consumer's dead letters.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// New ones are in the state, and not durable.
    pub(super) is_fresh: bool,
    /// When what is not stored is sent again, monotonic ns; 0 is never.
    pub(super) due_ns: u64,
    wait_ns: u64,
}

impl Letters {
    /// Sends everything that is not stored at the next occasion.
    pub(super) fn hurry(&mut self, now_ns: u64) {
        self.due_ns = now_ns.max(1);
        self.wait_ns = 0;
    }
}

impl Consumer {
    /// Notes that a message is to be stored elsewhere; `reason` is what a client gave it up for,
    /// `None` is that it had all its deliveries. False when the consumer keeps no dead letters.
    pub(super) fn make_letter(
        &mut self,
        seq: u64,
        count: u32,
        reason: Option<&[u8]>,
        cx: &mut Cx<'_, '_>,
    ) -> bool {
        if self.settings.dead_letter.is_none() {
            return false;
        }
        let event = Event::LetterMade { stream: seq, count, is_terminated: reason.is_some() };
        self.state.apply(event);
        self.journal.note(&event, cx.ctx.mono_ns);
        if let Some(text) = reason.filter(|text| !text.is_empty())
            && let Some(letter) = self.state.letters.get_mut(&seq)
        {
            let text = text.get(..REASON_MAX.min(text.len())).unwrap_or_default();
            letter.reason = text.iter().map(|b| if *b < b' ' { b' ' } else { *b }).collect();
            // No event has the text.
            self.journal.note_whole(cx.ctx.mono_ns);
        }
        self.journal.note_confirmation(cx.ctx.mono_ns);
        self.letters.get_or_insert_default().is_fresh = true;
        true
    }

    /// There are dead letters that become durable with what is written next. Asks once.
    pub(crate) fn take_fresh_letters(&mut self) -> bool {
        self.letters.as_mut().is_some_and(|letters| std::mem::take(&mut letters.is_fresh))
    }

    /// Dead letters are to be sent now.
    pub(crate) fn has_due_letters(&self, now_ns: u64) -> bool {
        self.letters.as_ref().is_some_and(|letters| (1..=now_ns).contains(&letters.due_ns))
    }

    /// Sends the dead letters that are not stored; `inbox` is the beginning of where their
    /// PubAcks come to, and the sequence its end.
    pub(crate) fn send_letters(&mut self, inbox: &[u8], cx: &mut Cx<'_, '_>) {
        let Some(to) = self.settings.dead_letter.clone() else {
            // The configuration asks for none any more.
            return self.drop_letters(cx);
        };
        let seqs: Vec<u64> = self.state.letters.keys().copied().take(ON_WAY_MAX).collect();
        let mut is_reading = false;
        for seq in seqs {
            match self.send_letter(seq, &to, inbox, cx) {
                Sent::Yes => {}
                Sent::Reading => is_reading = true,
                Sent::Gone => {
                    let text = format!(
                        "JetStream consumer '{} > {} > {}': message {seq} left the stream before \
                         its dead letter was stored",
                        cx.account_name, self.stream, self.name
                    );
                    cx.fx.log(Level::Warn, text);
                    self.finish_letter(seq, cx);
                }
            }
        }
        let letters = self.letters.get_or_insert_default();
        let now_ns = cx.ctx.mono_ns;
        if self.state.letters.is_empty() {
            letters.due_ns = 0;
        } else if is_reading {
            letters.due_ns = now_ns.saturating_add(READ_NS);
        } else {
            letters.wait_ns = (2 * letters.wait_ns).clamp(RETRY_MIN_NS, RETRY_MAX_NS);
            letters.due_ns = now_ns.saturating_add(letters.wait_ns);
        }
    }

    fn send_letter(&mut self, seq: u64, to: &[u8], inbox: &[u8], cx: &mut Cx<'_, '_>) -> Sent {
        let Some(letter) = self.state.letters.get(&seq) else { return Sent::Yes };
        let message = match cx.store.get(seq, cx.cache, &mut cx.fx.disk) {
            Read::Message(message) => message,
            Read::Pending | Read::Failed => return Sent::Reading,
            Read::Missing | Read::Damaged => return Sent::Gone,
        };
        let origin = Origin {
            stream: &self.stream,
            consumer: &self.name,
            created_unix_ns: self.created_unix_ns,
            seq,
            subject: message.subject,
            ts_ns: message.ts_ns,
        };
        write_headers(&mut self.headers, message.headers, &origin, letter);
        self.scratch.clear();
        self.scratch.extend_from_slice(inbox);
        push_u64(&mut self.scratch, seq);
        cx.fx.publish(self.account, to, &self.scratch, &self.headers, message.payload);
        Sent::Yes
    }

    /// The answer to a dead letter came; `refused` is why it is not stored.
    pub(crate) fn handle_letter_answer(
        &mut self,
        seq: u64,
        refused: Option<&str>,
        cx: &mut Cx<'_, '_>,
    ) {
        if !self.state.letters.contains_key(&seq) {
            return;
        }
        let Some(refused) = refused else {
            self.finish_letter(seq, cx);
            if let Some(letters) = &mut self.letters {
                letters.wait_ns = 0;
                if !self.state.letters.is_empty() && self.state.letters.len() >= ON_WAY_MAX {
                    letters.hurry(cx.ctx.mono_ns);
                }
            }
            return;
        };
        let text = format!(
            "JetStream consumer '{} > {} > {}': dead letter of message {seq} is not stored yet: \
             {refused}",
            cx.account_name, self.stream, self.name
        );
        cx.fx.log(Level::Warn, text);
    }

    /// A dead letter is stored, or will never be: the message may leave the stream.
    fn finish_letter(&mut self, seq: u64, cx: &mut Cx<'_, '_>) {
        let event = Event::LetterDone { stream: seq };
        self.state.apply(event);
        self.journal.note(&event, cx.ctx.mono_ns);
        // In the log it stands before the message's removal, which is written in this turn.
        self.journal.note_confirmation(cx.ctx.mono_ns);
        cx.settled.push(seq);
    }

    fn drop_letters(&mut self, cx: &mut Cx<'_, '_>) {
        let seqs: Vec<u64> = self.state.letters.keys().copied().collect();
        for seq in seqs {
            self.finish_letter(seq, cx);
        }
        if let Some(letters) = &mut self.letters {
            letters.due_ns = 0;
        }
    }
}

/// What became of a letter.
enum Sent {
    Yes,
    /// The message comes from the disk first.
    Reading,
    /// The message is no longer there.
    Gone,
}

/// Where a dead letter comes from.
struct Origin<'a> {
    stream: &'a str,
    consumer: &'a str,
    created_unix_ns: i64,
    seq: u64,
    subject: &'a [u8],
    ts_ns: i64,
}

/// The headers of a dead letter: those of the message, without the ones that tell a stream what to
/// do, and where it comes from.
fn write_headers(out: &mut Vec<u8>, original: &[u8], origin: &Origin<'_>, letter: &Letter) {
    out.clear();
    out.extend_from_slice(b"NATS/1.0\r\n");
    let mut lines = original.split(|byte| *byte == b'\n');
    // The version, with a status that is none of a letter.
    lines.next();
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_for_streams =
            line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"nats-"));
        if !line.is_empty() && !is_for_streams {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
    let mut push = |key: &str, value: &[u8]| {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    let id = format!(
        "{}.{}.{:x}.{}",
        origin.stream, origin.consumer, origin.created_unix_ns, origin.seq
    );
    push("Nats-Msg-Id", id.as_bytes());
    let reason = if letter.is_terminated { "terminated" } else { "max_deliver" };
    push("Shearwater-Dead-Letter-Reason", reason.as_bytes());
    if !letter.reason.is_empty() {
        push("Shearwater-Dead-Letter-Text", &letter.reason);
    }
    push("Shearwater-Dead-Letter-Deliveries", letter.count.to_string().as_bytes());
    push("Shearwater-Dead-Letter-Stream", origin.stream.as_bytes());
    push("Shearwater-Dead-Letter-Consumer", origin.consumer.as_bytes());
    push("Shearwater-Dead-Letter-Sequence", origin.seq.to_string().as_bytes());
    push("Shearwater-Dead-Letter-Subject", origin.subject);
    let mut time = String::new();
    Timestamp(origin.ts_ns).push(&mut time);
    push("Shearwater-Dead-Letter-Time", time.as_bytes());
    out.extend_from_slice(b"\r\n");
}
