//! Which message is next, and its delivery.

use store::Read;
use wire::client::encode::push_u64;

use super::pull::{Choice, choose};
use super::settings::Ack;
use super::state::{Event, Place};
use super::{Budget, Consumer, Cx, Progress};
use crate::effect::{Level, Outgoing};

/// How long a consumer waits before it asks a failing disk again, ns.
const READ_RETRY_NS: u64 = 250_000_000;

/// A message to be delivered.
#[derive(Clone, Copy, Debug)]
struct Pick {
    seq: u64,
    /// Deliveries, this one included.
    count: u32,
    from: From,
}

/// Where a message to be delivered was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// It is due again.
    Due,
    /// The list of last messages of subjects.
    Ahead,
    /// The stream.
    Stream,
}

/// What comes next.
enum Next {
    Pick(Pick),
    /// The stream has nothing more.
    End,
    /// As much is out as may be, or it is not time.
    Full,
}

/// What became of a message that was picked.
enum Sent {
    Yes(usize),
    /// It is no longer there.
    Gone,
    /// It comes from the disk first.
    Reading,
    /// The disk does not give it.
    Failed,
    /// Nobody takes it now.
    NoTaker,
}

impl Consumer {
    /// Delivers what can be delivered now.
    pub fn deliver(&mut self, cx: &mut Cx<'_, '_>, budget: &mut Budget) -> Progress {
        if self.reading {
            return Progress::Reading;
        }
        self.sync(cx);
        if self.is_paused(cx.ctx) {
            self.end_no_waits(cx);
            return Progress::Idle;
        }
        self.pin_somebody(cx);
        loop {
            if budget.is_spent() {
                return Progress::More;
            }
            if !self.has_taker(cx) {
                return Progress::Idle;
            }
            let pick = match self.next(cx) {
                Next::Pick(pick) => pick,
                Next::Full => return Progress::Idle,
                Next::End => {
                    self.end_no_waits(cx);
                    return if self.is_active() { Progress::Hungry } else { Progress::Idle };
                }
            };
            match self.send(&pick, cx) {
                Sent::Yes(bytes) => budget.spend(bytes),
                Sent::Gone => self.skip(&pick),
                Sent::NoTaker if self.waiting.is_empty() => {}
                // Requests wait that this message is not for.
                Sent::NoTaker => {
                    self.end_no_waits(cx);
                    return Progress::Hungry;
                }
                Sent::Reading => {
                    self.reading = true;
                    return Progress::Reading;
                }
                Sent::Failed => {
                    self.put_off(pick.seq, cx);
                    return Progress::Idle;
                }
            }
        }
    }

    /// The disk did not give a message, which is no reason to go past it: it is tried again.
    fn put_off(&mut self, seq: u64, cx: &mut Cx<'_, '_>) {
        self.not_before_ns = cx.ctx.mono_ns.saturating_add(READ_RETRY_NS);
        if self.unread == seq {
            return;
        }
        self.unread = seq;
        let text = format!(
            "JetStream consumer '{} > {} > {}': message {seq} cannot be read; it waits for it",
            cx.account_name, self.stream, self.name
        );
        cx.fx.log(Level::Error, text);
    }

    /// Somebody could take a message now.
    fn has_taker(&mut self, cx: &mut Cx<'_, '_>) -> bool {
        if self.not_before_ns > cx.ctx.mono_ns {
            return false;
        }
        self.not_before_ns = 0;
        if self.push.is_some() { self.push_is_open(cx) } else { !self.waiting.is_empty() }
    }

    fn next(&mut self, cx: &mut Cx<'_, '_>) -> Next {
        while let Some(seq) = self.due.front().copied() {
            if !self.due_set.contains(&seq) || !self.state.pending.contains_key(&seq) {
                self.drop_due();
                continue;
            }
            let before = self.state.deliveries(seq);
            if self.settings.deliver_max > 0 && before >= self.settings.deliver_max {
                self.drop_due();
                self.exhaust(seq, before, cx);
                continue;
            }
            return Next::Pick(Pick { seq, count: before + 1, from: From::Due });
        }
        let pending_max = self.settings.ack_pending_max;
        if pending_max > 0 && self.state.pending.len() >= pending_max {
            return Next::Full;
        }
        // What is not durable may be gone after a crash, and its sequence another message's.
        let durable = cx.store.durable_seq();
        if let Some(seq) = self.state.ahead.front().copied() {
            if seq > durable {
                return Next::End;
            }
            return Next::Pick(Pick { seq, count: 1, from: From::Ahead });
        }
        let next = cx.store.next(self.filter, self.state.looked_at + 1);
        let Some(seq) = next.filter(|seq| *seq <= durable) else {
            let looked_at = next.map_or(cx.store.last_seq(), |seq| seq - 1).min(durable);
            self.state.looked_at = self.state.looked_at.max(looked_at);
            return Next::End;
        };
        if !self.is_time_for(seq, cx) {
            return Next::Full;
        }
        Next::Pick(Pick { seq, count: 1, from: From::Stream })
    }

    /// For the pace of the original: whether a message's time has come.
    fn is_time_for(&mut self, seq: u64, cx: &Cx<'_, '_>) -> bool {
        let (true, Some((stamp, sent_ns))) = (self.settings.original_pace, self.pace) else {
            return true;
        };
        let Some(time) = cx.store.time_of(seq) else { return true };
        let pause_ns = u64::try_from(time.saturating_sub(stamp)).unwrap_or(0);
        let at_ns = sent_ns.saturating_add(pause_ns);
        if at_ns > cx.ctx.mono_ns {
            self.not_before_ns = at_ns;
            return false;
        }
        true
    }

    pub(super) fn drop_due(&mut self) {
        if let Some(seq) = self.due.pop_front() {
            self.due_set.remove(&seq);
        }
    }

    /// A picked message is not in the stream any more.
    fn skip(&mut self, pick: &Pick) {
        match pick.from {
            From::Due => {
                self.drop_due();
                self.state.forget(pick.seq);
            }
            From::Ahead => {
                self.state.ahead.pop_front();
            }
            From::Stream => self.pass(pick.seq),
        }
    }

    /// The stream was looked at up to here.
    fn pass(&mut self, seq: u64) {
        self.state.looked_at = self.state.looked_at.max(seq);
        if seq <= self.counted.up_to {
            self.counted.count = self.counted.count.saturating_sub(1);
        }
    }

    fn send(&mut self, pick: &Pick, cx: &mut Cx<'_, '_>) -> Sent {
        let message = match cx.store.get(pick.seq, cx.cache, &mut cx.fx.disk) {
            Read::Message(message) => message,
            Read::Pending => return Sent::Reading,
            Read::Missing | Read::Damaged => return Sent::Gone,
            Read::Failed => return Sent::Failed,
        };
        let place = Place { consumer: self.state.delivered.consumer + 1, stream: pick.seq };
        let left = match pick.from {
            From::Due => self.counted.count + self.state.ahead.len() as u64,
            From::Ahead => self.counted.count + self.state.ahead.len() as u64 - 1,
            From::Stream => self.counted.count.saturating_sub(1),
        };
        write_ack(&mut self.scratch, &self.ack_prefix, pick.count, place, message.ts_ns, left);
        let (headers, payload) = if self.settings.headers_only {
            write_size_header(&mut self.headers, message.headers, message.payload.len());
            (self.headers.as_slice(), &[][..])
        } else {
            (message.headers, message.payload)
        };
        let bytes = message.subject.len() + self.scratch.len() + headers.len() + payload.len();
        let taker = match &mut self.push {
            Some(push) => {
                push.note_sent(bytes, cx.ctx.mono_ns);
                None
            }
            None => {
                let choice = Choice {
                    ctx: cx.ctx,
                    account: self.account,
                    settings: &self.settings,
                    pin: self.pin.as_deref(),
                    bytes,
                    backlog: (self.counted.count, self.state.pending.len()),
                };
                match choose(&mut self.waiting, &choice, cx.fx) {
                    Some(at) => Some(at),
                    None => return Sent::NoTaker,
                }
            }
        };
        let to = match taker {
            Some(at) => self.waiting.get(at).map_or(&[][..], |request| &*request.reply),
            None => &*self.settings.deliver_subject,
        };
        let pinned;
        let mut headers = headers;
        if let Some(pin) = self.pin.as_ref().filter(|_| taker.is_some()) {
            let mut block = headers.to_vec();
            super::group::push_pin_header(&mut block, &pin.id);
            pinned = block;
            headers = &pinned;
        }
        cx.fx.deliver(&Outgoing {
            account: self.account,
            to,
            subject: message.subject,
            reply: &self.scratch,
            headers,
            payload,
        });
        let stamp = message.ts_ns;
        self.note_sent(pick, place, stamp, cx);
        match taker {
            Some(at) => self.settle_request(at, bytes, cx),
            None => self.ask_receiver(cx),
        }
        Sent::Yes(bytes)
    }

    /// The state after a delivery.
    fn note_sent(&mut self, pick: &Pick, place: Place, stamp: i64, cx: &mut Cx<'_, '_>) {
        match pick.from {
            From::Due => self.drop_due(),
            // Applying the event takes it from the list.
            From::Ahead => {}
            From::Stream => self.pass(pick.seq),
        }
        let tracked = self.settings.tracks();
        let event =
            Event::Delivered { place, count: pick.count, at_unix_ns: cx.ctx.unix_ns, tracked };
        self.state.apply(event);
        self.journal.note(&event, cx.ctx.mono_ns);
        if tracked {
            if self.settings.ack != Ack::FlowControl {
                let at_ns = cx.ctx.mono_ns.saturating_add(self.settings.wait_ns(pick.count));
                self.arm(pick.seq, at_ns);
            }
        } else {
            cx.settled.push(pick.seq);
        }
        self.last_delivered_unix_ns = cx.ctx.unix_ns;
        // The same message again is no progress.
        if pick.count == 1 {
            self.note_progress(cx.ctx.mono_ns);
        }
        if self.settings.original_pace && pick.from == From::Stream {
            self.pace = Some((stamp, cx.ctx.mono_ns));
        }
    }
}

/// Writes the subject on which a delivery is acknowledged.
fn write_ack(out: &mut Vec<u8>, prefix: &[u8], count: u32, place: Place, stamp: i64, pending: u64) {
    out.clear();
    out.extend_from_slice(prefix);
    push_u64(out, u64::from(count));
    for number in [place.stream, place.consumer, u64::try_from(stamp).unwrap_or(0), pending] {
        out.push(b'.');
        push_u64(out, number);
    }
}

/// The headers of a message whose payload is left out.
fn write_size_header(out: &mut Vec<u8>, headers: &[u8], size: usize) {
    out.clear();
    if headers.is_empty() {
        out.extend_from_slice(b"NATS/1.0\r\n");
    } else {
        out.extend_from_slice(headers.strip_suffix(b"\r\n").unwrap_or(headers));
    }
    out.extend_from_slice(b"Nats-Msg-Size: ");
    push_u64(out, size as u64);
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_subject_has_nine_tokens() {
        let mut out = Vec::new();
        let place = Place { consumer: 7, stream: 9 };
        write_ack(&mut out, b"$JS.ACK.S.C.", 2, place, 1_795_521_025_615_947_378, 4);
        assert_eq!(out, b"$JS.ACK.S.C.2.9.7.1795521025615947378.4");
        assert_eq!(out.split(|byte| *byte == b'.').count(), 9);
    }

    #[test]
    fn the_size_joins_the_headers() {
        let mut out = Vec::new();
        write_size_header(&mut out, b"", 5);
        assert_eq!(out, b"NATS/1.0\r\nNats-Msg-Size: 5\r\n\r\n");
        write_size_header(&mut out, b"NATS/1.0\r\nA: b\r\n\r\n", 0);
        assert_eq!(out, b"NATS/1.0\r\nA: b\r\nNats-Msg-Size: 0\r\n\r\n");
    }
}
