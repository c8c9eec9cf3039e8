//! Acknowledgements that wait until their messages are durable.
//!
//! An answer is written when its message is stored, and sent when the store says that everything
//! up to its sequence is on disk. Answers leave in the order in which they were written.

use std::collections::VecDeque;

use crate::effect::Effects;

/// Messages that are stored and not durable at most, if nothing else is configured; more are
/// refused with error 10167.
pub const UNDURABLE_MESSAGES_MAX: usize = 100_000;
/// Bytes of such messages at most.
pub const UNDURABLE_BYTES_MAX: usize = 128 << 20;
/// Messages that are counted together.
const RUN_MESSAGES: u32 = 64;

/// One answer.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// Everything up to here must be durable first.
    seq: u64,
    reply_len: u32,
    /// Of the body, the bytes of a header block that stands before it.
    block_len: u32,
    body_len: u32,
}

/// Stored messages that follow each other and are not durable.
#[derive(Clone, Copy, Debug)]
struct Run {
    last_seq: u64,
    messages: u32,
    bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct AckQueue {
    /// Reply subjects and bodies, one behind the other.
    bytes: Vec<u8>,
    /// Where the first answer begins.
    head: usize,
    answers: VecDeque<Answer>,
    runs: VecDeque<Run>,
    undurable_messages: usize,
    undurable_bytes: usize,
}

impl AckQueue {
    /// Queues an answer that `write` appends.
    pub(super) fn push(&mut self, seq: u64, reply: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.push_with_block(seq, reply, b"", write);
    }

    /// Queues an answer with a header block and a body that `write` appends.
    pub(super) fn push_with_block(
        &mut self,
        seq: u64,
        reply: &[u8],
        block: &[u8],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.bytes.extend_from_slice(reply);
        self.bytes.extend_from_slice(block);
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.answers.push_back(Answer {
            seq,
            reply_len: reply.len() as u32,
            block_len: block.len() as u32,
            body_len: (self.bytes.len() - before) as u32,
        });
    }

    /// Counts a stored message until it is durable.
    pub(super) fn count(&mut self, seq: u64, bytes: usize) {
        self.undurable_messages += 1;
        self.undurable_bytes += bytes;
        match self.runs.back_mut() {
            Some(run) if run.messages < RUN_MESSAGES => {
                run.last_seq = seq;
                run.messages += 1;
                run.bytes += bytes;
            }
            _ => self.runs.push_back(Run { last_seq: seq, messages: 1, bytes }),
        }
    }

    /// No answer waits.
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether no further message may be taken before some are durable, when `messages_max` may
    /// wait for that.
    pub(super) const fn is_full(&self, messages_max: usize) -> bool {
        self.undurable_messages >= messages_max || self.undurable_bytes >= UNDURABLE_BYTES_MAX
    }

    /// Sends the answers whose messages are durable.
    pub(super) fn send(&mut self, durable_seq: u64, account: u32, fx: &mut Effects) {
        while let Some(run) = self.runs.front().filter(|run| run.last_seq <= durable_seq) {
            self.undurable_messages -= run.messages as usize;
            self.undurable_bytes -= run.bytes;
            self.runs.pop_front();
        }
        while let Some(answer) = self.answers.front().filter(|a| a.seq <= durable_seq).copied() {
            let (reply, block, body) = self.parts(&answer);
            fx.publish(account, reply, b"", block, body);
            self.pop(&answer);
        }
        self.trim();
    }

    /// Answers everything that waits with an error instead.
    pub(super) fn refuse(&mut self, error: &[u8], account: u32, fx: &mut Effects) {
        while let Some(answer) = self.answers.front().copied() {
            let (reply, block, _) = self.parts(&answer);
            // What has a header block is no publisher's and hears nothing.
            if block.is_empty() {
                fx.publish(account, reply, b"", b"", error);
            }
            self.pop(&answer);
        }
        self.runs.clear();
        (self.undurable_messages, self.undurable_bytes) = (0, 0);
        self.trim();
    }

    fn parts(&self, answer: &Answer) -> (&[u8], &[u8], &[u8]) {
        let rest = self.bytes.get(self.head..).unwrap_or_default();
        let (reply, rest) = rest.split_at_checked(answer.reply_len as usize).unwrap_or_default();
        let (block, rest) = rest.split_at_checked(answer.block_len as usize).unwrap_or_default();
        (reply, block, rest.get(..answer.body_len as usize).unwrap_or_default())
    }

    fn pop(&mut self, answer: &Answer) {
        self.answers.pop_front();
        let lens = [answer.reply_len, answer.block_len, answer.body_len];
        self.head += lens.iter().map(|&len| len as usize).sum::<usize>();
    }

    /// Gives the room of sent answers back.
    fn trim(&mut self) {
        if self.answers.is_empty() {
            self.bytes.clear();
            self.head = 0;
        } else if self.head > self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }

    /// Answers that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(fx: &mut Effects) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let all = (0..fx.sends())
            .filter_map(|at| fx.outgoing(at))
            .map(|m| (text(m.to), text(m.payload)))
            .collect();
        fx.clear_sends();
        all
    }

    #[test]
    fn answers_wait_for_the_disk_and_keep_their_order() {
        let (mut queue, mut fx) = (AckQueue::default(), Effects::default());
        for seq in 1..=200_u64 {
            queue.count(seq, 10);
            queue.push(seq, format!("r{seq}").as_bytes(), |out| {
                out.extend_from_slice(seq.to_string().as_bytes());
            });
        }
        queue.send(0, 1, &mut fx);
        assert!(sent(&mut fx).is_empty());
        queue.send(2, 1, &mut fx);
        let pair = |n: u64| (format!("r{n}"), n.to_string());
        assert_eq!(sent(&mut fx), [pair(1), pair(2)]);
        queue.send(150, 1, &mut fx);
        assert_eq!(sent(&mut fx), (3..=150).map(pair).collect::<Vec<_>>());
        assert_eq!(queue.len(), 50);
        queue.refuse(b"no", 1, &mut fx);
        let refused = sent(&mut fx);
        assert_eq!(refused.first(), Some(&("r151".to_owned(), "no".to_owned())));
        assert_eq!(refused.len(), 50);
        assert!(queue.bytes.is_empty() && queue.undurable_bytes == 0);
    }

    #[test]
    fn too_much_that_is_not_durable_is_too_much() {
        let (mut queue, mut fx) = (AckQueue::default(), Effects::default());
        for seq in 1..=UNDURABLE_MESSAGES_MAX as u64 {
            assert!(!queue.is_full(UNDURABLE_MESSAGES_MAX));
            queue.count(seq, 1);
        }
        assert!(queue.is_full(UNDURABLE_MESSAGES_MAX));
        queue.send(64, 1, &mut fx);
        assert!(!queue.is_full(UNDURABLE_MESSAGES_MAX));
        queue.count(u64::MAX, UNDURABLE_BYTES_MAX);
        assert!(queue.is_full(UNDURABLE_MESSAGES_MAX));
    }
}
