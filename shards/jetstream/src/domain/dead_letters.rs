//! The dead letters of a stream's consumers: when they go, and what comes back.

use serde::Deserialize;

use super::Shop;
use super::home::Home;
use super::parcel::Request;
use crate::effect::{Endpoint, Interest};

/// The number of the inbox among those of the stream's own requests.
pub(super) const NUMBER: u32 = u32::MAX;

/// What a stream says to a publish.
#[derive(Deserialize)]
struct PubAck {
    seq: Option<u64>,
    error: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    description: String,
}

/// What an answer says against the letter; `None` when it is stored.
fn refusal(body: &[u8]) -> Option<String> {
    match serde_json::from_slice(body) {
        Ok(PubAck { error: Some(error), .. }) => Some(error.description),
        Ok(PubAck { seq: Some(1..), .. }) => None,
        _ => Some("the answer is not one of a stream".to_owned()),
    }
}

impl Home {
    /// Where the answers for one consumer come to.
    fn letter_inbox(&mut self, slot: u32, shop: &mut Shop<'_, '_>) -> Vec<u8> {
        let account = self.stream.id.account;
        let endpoint = Endpoint::Reply(self.stream.id.slot, NUMBER);
        let inbox = self.letter_inbox.get_or_insert_with(|| {
            let inbox = [b"_INBOX.", shop.ids.next_id().as_slice(), b"."].concat();
            let subject = [inbox.as_slice(), b">"].concat().into();
            shop.fx.interests.push(Interest::Subscribe { account, subject, endpoint });
            inbox.into()
        });
        [inbox, slot.to_string().as_bytes(), b"."].concat()
    }

    /// Sends what a consumer has given up.
    pub(super) fn send_letters(&mut self, slot: u32, shop: &mut Shop<'_, '_>) {
        let inbox = self.letter_inbox(slot, shop);
        self.with(slot, shop, |consumer, cx| consumer.send_letters(&inbox, cx));
        self.arm(slot);
    }

    /// Sends again what was not answered.
    pub(super) fn send_due_letters(&mut self, slot: u32, shop: &mut Shop<'_, '_>) {
        let now_ns = shop.ctx.mono_ns;
        let consumer = self.consumers.get(slot as usize);
        if consumer.is_some_and(|consumer| consumer.has_due_letters(now_ns)) {
            self.send_letters(slot, shop);
        }
    }

    /// The answer to a dead letter.
    pub(super) fn handle_letter_answer(&mut self, m: &Request<'_>, shop: &mut Shop<'_, '_>) {
        let inbox = self.letter_inbox.as_deref().unwrap_or_default();
        let rest = m.subject.strip_prefix(inbox).and_then(|rest| std::str::from_utf8(rest).ok());
        let Some((slot, seq)) = rest.and_then(|rest| rest.split_once('.')) else { return };
        let (Ok(slot), Ok(seq)) = (slot.parse(), seq.parse()) else { return };
        let refused = refusal(m.body);
        self.with(slot, shop, |consumer, cx| {
            consumer.handle_letter_answer(seq, refused.as_deref(), cx);
        });
        self.arm(slot);
    }

    /// Nothing is sent any more.
    pub(super) fn close_letters(&mut self, shop: &mut Shop<'_, '_>) {
        if let Some(inbox) = self.letter_inbox.take() {
            let account = self.stream.id.account;
            let endpoint = Endpoint::Reply(self.stream.id.slot, NUMBER);
            let subject = [&inbox, b">".as_slice()].concat().into();
            shop.fx.interests.push(Interest::Unsubscribe { account, subject, endpoint });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sequence_says_that_a_letter_is_stored() {
        assert_eq!(refusal(br#"{"stream":"D","seq":7}"#), None);
        assert_eq!(refusal(br#"{"stream":"D","seq":7,"duplicate": true}"#), None);
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages"},"stream":"D","seq":0}"#;
        assert_eq!(refusal(full).as_deref(), Some("maximum messages"));
        for other in [&b""[..], b"ok", b"{}", br#"{"seq":0}"#] {
            assert!(refusal(other).is_some());
        }
    }
}
