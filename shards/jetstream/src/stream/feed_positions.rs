//! Where sources go on after a start. The messages say so themselves in `Nats-Stream-Source`;
//! for sources whose messages have left, or are far back, there is a note beside the messages.
//!
//! ```text
//! note   own sequence u64 | for each source: seq u64, name length u16, identity length u16,
//!        name, identity
//! ```

use store::{ALL, Read};
use wire::headers;

use super::index_name::parse_origin;
use super::{Cx, Stream};

/// The key of the note.
pub const NOTE_KEY: &[u8] = b"o";
/// A note is written at the latest after so many messages from sources,
const NOTE_MESSAGES: u32 = 256;
/// and so long after the first of them, ns.
const NOTE_NS: u64 = 250_000_000;
/// Messages that one call looks at.
const STEP: usize = 2048;

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*take(rest, 8)?.first_chunk::<8>()?))
}

fn take_len(rest: &mut &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(*take(rest, 2)?.first_chunk::<2>()?)))
}

impl Stream {
    /// A message from a source was stored.
    pub(super) fn count_fed(&mut self, cx: &Cx<'_, '_>) {
        if self.config.sources.is_empty() {
            return;
        }
        self.feeds.unnoted += 1;
        if self.feeds.unnoted >= NOTE_MESSAGES {
            self.note_feeds();
        } else {
            let due_ns = cx.ctx.mono_ns.saturating_add(NOTE_NS);
            self.feeds.note_due_ns.get_or_insert(due_ns);
        }
    }

    /// Writes how far the sources are.
    pub(super) fn note_feeds(&mut self) {
        self.feeds.note_due_ns = None;
        self.feeds.unnoted = 0;
        if self.feeds.all.iter().all(|feed| feed.is_mirror) {
            return;
        }
        self.feeds.noted_seq = self.store.last_seq();
        let mut note = self.feeds.noted_seq.to_le_bytes().to_vec();
        for feed in self.feeds.all.iter().filter(|feed| !feed.is_mirror) {
            let (name, identity) = (feed.index_name.as_bytes(), feed.identity.as_bytes());
            note.extend_from_slice(&feed.stream_seq.to_le_bytes());
            for part in [name, identity] {
                note.extend_from_slice(&(part.len() as u16).to_le_bytes());
            }
            note.extend_from_slice(name);
            note.extend_from_slice(identity);
        }
        self.store.put_note(NOTE_KEY, &note);
    }

    /// Bytes of what [`Self::note_feeds`] writes, at most.
    pub(super) fn feed_note_bytes(&self) -> usize {
        let sources = self.feeds.all.iter().filter(|feed| !feed.is_mirror);
        sources.map(|feed| 12 + feed.index_name.len() + feed.identity.len()).sum()
    }

    /// Reads the note, at start.
    pub(super) fn recover_feeds(&mut self, mut note: &[u8]) {
        let rest = &mut note;
        let Some(noted_seq) = take_u64(rest) else { return };
        self.feeds.noted_seq = noted_seq;
        self.feeds.recovered.clear();
        while let Some(seq) = take_u64(rest) {
            let Some((name_len, identity_len)) = take_len(rest).zip(take_len(rest)) else { break };
            let Some((name, identity)) = take(rest, name_len).zip(take(rest, identity_len)) else {
                break;
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.feeds.recovered.insert(text(name), (seq, text(identity)));
        }
    }

    /// Finds where sources go on that do not know it: from the note, and from the messages that
    /// were stored after it. False if there is more to look at.
    pub(super) fn locate_feeds(&mut self, cx: &mut Cx<'_, '_>) -> bool {
        // A mirror is where its own last message is.
        if self.feeds.is_located || self.feeds.all.iter().all(|feed| feed.is_mirror) {
            self.feeds.is_located = true;
            return true;
        }
        for feed in self.feeds.all.iter_mut().filter(|feed| !feed.is_mirror) {
            if feed.stream_seq == 0
                && let Some((seq, identity)) = self.feeds.recovered.get(&feed.index_name)
            {
                feed.stream_seq = *seq;
                feed.identity.clone_from(identity);
            }
        }
        let mut at = self.feeds.located_down_to.unwrap_or_else(|| self.store.last_seq());
        let mut left = STEP;
        while let Some(seq) = self.store.previous(ALL, at).filter(|&seq| seq > self.feeds.noted_seq)
        {
            if left == 0 {
                self.feeds.located_down_to = Some(at);
                return false;
            }
            left -= 1;
            match self.store.get(seq, cx.cache, &mut cx.fx.disk) {
                Read::Pending => {
                    self.is_reading = true;
                    self.feeds.located_down_to = Some(at);
                    return false;
                }
                Read::Message(message) => {
                    if let Some(origin) =
                        headers::get(message.headers, b"Nats-Stream-Source").and_then(parse_origin)
                    {
                        let feed = self.feeds.all.iter_mut().find(|feed| {
                            !feed.is_mirror
                                && origin.index_name.as_deref().map_or_else(
                                    || feed.index_name.split(' ').next() == Some(origin.stream),
                                    |name| name == feed.index_name,
                                )
                        });
                        if let Some(feed) = feed
                            && origin.seq > feed.stream_seq
                        {
                            feed.stream_seq = origin.seq;
                            origin.identity.unwrap_or_default().clone_into(&mut feed.identity);
                        }
                    }
                }
                Read::Missing | Read::Damaged | Read::Failed => {}
            }
            at = seq.saturating_sub(1);
        }
        self.feeds.located_down_to = None;
        self.feeds.is_located = true;
        true
    }
}
