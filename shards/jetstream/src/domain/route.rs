//! The way of a request: answered here, sent to the stream's home, or sent to shard 0.

use wire::api::ack::{parse_ack_subject, parse_flow_control_subject, parse_snapshot_ack_subject};
use wire::api::errors;
use wire::api::subjects::{API_PREFIX, Call, parse as parse_api, split_prefix};
use wire::api::types::ResponseType;

use super::JetStream;
use super::answer::comes_by_meta;
use super::parcel::{self, Parcel, Request};
use crate::context::Context;
use crate::effect::{AfterInterest, Effects};

/// For what begins like this, nats-server listens per stream or consumer, and nobody to the rest.
const QUICK: [&[u8]; 5] = [
    b"$JS.ACK.",
    b"$JS.FC.",
    b"$JS.SNAPSHOT.ACK.",
    b"$JS.API.CONSUMER.MSG.NEXT.",
    b"$JS.API.DIRECT.GET",
];

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way<'a> {
    /// The home shard of a stream.
    Home(&'a str),
    /// Shard 0.
    Meta,
    /// Nobody: it is no request that is known.
    Nowhere,
}

/// The way of a subject. A domain that is not this server's leads nowhere.
fn way_of<'a>(subject: &'a [u8], domain: &str) -> Way<'a> {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_or(Way::Nowhere, Way::Home);
    if let Some(ack) = parse_ack_subject(subject) {
        return text(ack.stream);
    }
    if let Some(flow) = parse_flow_control_subject(subject) {
        return text(flow.stream);
    }
    if let Some(chunk) = parse_snapshot_ack_subject(subject) {
        return text(chunk.stream);
    }
    let Some((named, call)) = parse_api(subject) else { return Way::Nowhere };
    if named.is_some_and(|named| named != domain) {
        return Way::Nowhere;
    }
    way_of_call(&call)
}

fn way_of_call<'a>(call: &Call<'a>) -> Way<'a> {
    match call {
        // Shard 0 knows which streams there are.
        Call::StreamCreate { .. }
        | Call::StreamUpdate { .. }
        | Call::StreamDelete { .. }
        | Call::StreamRestore { .. }
        | Call::StreamMove { .. }
        | Call::StreamMoveCancel { .. } => Way::Meta,
        _ => call.stream().map_or(Way::Meta, Way::Home),
    }
}

impl JetStream {
    /// A message to a subject below `$JS.` that a client of this shard, or JetStream itself,
    /// published.
    pub fn handle_request(&mut self, request: &Request<'_>, ctx: &Context<'_>, fx: &mut Effects) {
        match way_of(request.subject, &self.tools.settings.domain) {
            Way::Home(stream) => {
                let mut shop = self.tools.open(ctx, fx);
                let home = shop.home_of(request.account, stream);
                if home == shop.me {
                    self.handle_home(stream, request, ctx, fx);
                } else {
                    shop.post(home, &Parcel::Home(*request));
                }
            }
            Way::Meta if self.tools.me == 0 => self.handle_meta(request, ctx, fx),
            Way::Meta => {
                let mut bytes = Vec::new();
                Parcel::Meta(*request).encode(&mut bytes);
                // With two shards the home is this one or shard 0: nothing overtakes.
                let leads_on = self.tools.shards > 2 && comes_by_meta(request.subject);
                fx.after_interest.push(AfterInterest::Request { bytes, leads_on });
            }
            Way::Nowhere => {
                if QUICK.iter().any(|prefix| request.subject.starts_with(prefix)) {
                    self.tools.open(ctx, fx).no_responders(request);
                }
            }
        }
    }

    /// Something from another shard.
    pub fn handle_peer(&mut self, from: u16, bytes: &[u8], ctx: &Context<'_>, fx: &mut Effects) {
        let Some(parcel) = parcel::decode(bytes) else { return };
        match parcel {
            Parcel::Home(request) => {
                if let Way::Home(stream) = way_of(request.subject, &self.tools.settings.domain) {
                    self.handle_home(stream, &request, ctx, fx);
                }
            }
            Parcel::Meta(request) => self.handle_meta(&request, ctx, fx),
            Parcel::Apply { request, action, config } => {
                self.apply(&request, action, config, ctx, fx);
            }
            Parcel::Answer { account, subject, payload } => {
                fx.publish(account, subject, b"", b"", payload);
            }
            Parcel::Present { account, config } => self.note_present(account, config),
            Parcel::Absent { account, stream } => {
                self.note_absent(account, &String::from_utf8_lossy(stream));
            }
            Parcel::Recovered => self.note_recovered(ctx, fx),
            Parcel::Ask { id, account, streams } => {
                let infos = self.infos_of(account, streams, ctx, fx);
                let tell = Parcel::Tell { id, infos: &infos };
                self.tools.open(ctx, fx).post(from, &tell);
            }
            Parcel::Tell { id, infos } => self.note_told(id, infos, ctx, fx),
        }
    }

    /// A request about one stream of this shard.
    fn handle_home(
        &mut self,
        stream: &str,
        request: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let slot = self.slot_of(request.account, stream);
        let before = self.push_consumers_of(slot);
        let mut shop = self.tools.open(ctx, fx);
        match slot.and_then(|slot| self.homes.get_mut(slot as usize)) {
            Some(home) => home.handle_request(request, &mut shop),
            None => shop.refuse_unknown(request),
        }
        if let Some(slot) = slot {
            let after = self.push_consumers_of(Some(slot));
            self.push_consumers = self.push_consumers + after - before;
            self.note_ops(slot, fx);
            self.touch(slot);
        }
    }

    fn push_consumers_of(&self, slot: Option<u32>) -> usize {
        slot.and_then(|slot| self.homes.get(slot as usize)).map_or(0, |home| home.push_consumers())
    }
}

impl super::Shop<'_, '_> {
    /// Answers a request about a stream that does not exist.
    fn refuse_unknown(&mut self, request: &Request<'_>) {
        // An acknowledgement, or a pull or read of what does not exist.
        let Some((_, call)) = parse_api(request.subject) else {
            return self.no_responders(request);
        };
        if matches!(call, Call::ConsumerNext { .. } | Call::DirectGet { .. })
            || matches!(call, Call::DirectGetLast { .. })
        {
            return self.no_responders(request);
        }
        let Some(kind) = ResponseType::of(&call) else { return };
        // As with nats-server, a reset of what does not exist has no answer.
        if matches!(call, Call::ConsumerReset { .. }) || !self.is_enabled(request, kind) {
            return;
        }
        let error = self.check_early(&call, request).err().unwrap_or(errors::STREAM_NOT_FOUND);
        self.refuse(request, kind, &error);
    }

    /// Tells the requester that nobody is there, as the broker would. Another account that serves
    /// the subject, or a client that listens, is somebody.
    pub(super) fn no_responders(&mut self, request: &Request<'_>) {
        let listens = |subject| self.ctx.interest.has_interest(request.account, subject);
        if request.reply.is_empty() || listens(request.subject) {
            return;
        }
        let mut headers = b"NATS/1.0 503\r\nNats-Subject: ".to_vec();
        // A request by way of the domain is one without it from there on.
        match split_prefix(request.subject) {
            Some((Some(_), rest)) => {
                headers.extend_from_slice(API_PREFIX);
                headers.extend_from_slice(rest);
            }
            _ => headers.extend_from_slice(request.subject),
        }
        headers.extend_from_slice(b"\r\n\r\n");
        self.fx.publish(request.account, request.reply, b"", &headers, b"");
    }

    /// Whether the account may use JetStream; if not, it is told.
    pub(super) fn is_enabled(&mut self, request: &Request<'_>, kind: ResponseType) -> bool {
        let enabled = self.settings.limits(request.account).is_some();
        if !enabled {
            self.refuse(request, kind, &errors::NOT_ENABLED_FOR_ACCOUNT);
        }
        enabled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_find_their_way() {
        let home = Way::Home("S");
        for (subject, way) in [
            ("$JS.API.STREAM.INFO.S", home),
            ("$JS.API.CONSUMER.MSG.NEXT.S.C", home),
            ("$JS.hub.API.STREAM.INFO.S", home),
            ("$JS.other.API.STREAM.INFO.S", Way::Nowhere),
            ("$JS.ACK.S.C.1.2.3.4.5", home),
            ("$JS.FC.S.C.1", home),
            ("$JS.SNAPSHOT.ACK.S.id.1.2", home),
            ("$JS.API.STREAM.CREATE.S", Way::Meta),
            ("$JS.API.STREAM.DELETE.S", Way::Meta),
            ("$JS.API.INFO", Way::Meta),
            ("$JS.API.STREAM.BOGUS", Way::Nowhere),
            ("$JS.EVENT.X", Way::Nowhere),
        ] {
            assert_eq!(way_of(subject.as_bytes(), "hub"), way, "{subject}");
        }
    }
}
