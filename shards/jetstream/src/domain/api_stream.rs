//! Requests about one stream at its home shard, and what shard 0 lets it do.

use std::sync::atomic::AtomicI64;

use store::disk::{DiskDone, DiskError, Ticket};
use wire::api::ack::{parse_ack_subject, parse_flow_control_subject};
use wire::api::advisory::{Event, StreamActed, encode_event};
use wire::api::config::StreamConfig;
use wire::api::decode::decode_document;
use wire::api::errors::{self, ApiError};
use wire::api::info::ClusterInfo;
use wire::api::policy::{AckPolicy, Action, Storage};
use wire::api::pull::{Ack, PullRequest};
use wire::api::requests::{MsgDeleteRequest, MsgGetRequest, PurgeRequest, StreamInfoRequest};
use wire::api::responses::{Purged, StreamCreated, Success};
use wire::api::subjects::{Call, parse as parse_api};
use wire::api::timestamp::Timestamp;
use wire::api::types::{ResponseType, encode_response};

use super::home::{Home, Parked, STREAM_KEY};
use super::parcel::{self, Parcel, Request};
use super::{JetStream, Shop};
use crate::consumer::ack::Named;
use crate::consumer::pull::send_status;
use crate::context::Context;
use crate::effect::{Effects, Endpoint, Interest};
use crate::settings::Usage;
use crate::stream::config_update::{LimitedConsumer, check_update};
use crate::stream::info::InfoFacts;
use crate::stream::{Room, Stream, level};

/// The version of nats-server whose behaviour is served.
pub const VERSION: &str = "2.15.1";

/// What may still be stored in a stream.
pub(super) fn room_of(stream: &Stream, shop: &Shop<'_, '_>) -> Room {
    let settings = shop.settings;
    let total = &*settings.total;
    let account = settings.account(stream.id.account);
    let Some((account, limits)) = account.and_then(|own| Some((own, own.limits.as_ref()?))) else {
        return Room::default();
    };
    let own = &account.usage;
    let (used, most, total_used, total_max) = match stream.config().storage {
        Storage::File => {
            (&own.file_bytes, limits.file_bytes_max, &total.file_bytes, settings.file_bytes_max)
        }
        Storage::Memory => (
            &own.memory_bytes,
            limits.memory_bytes_max,
            &total.memory_bytes,
            settings.memory_bytes_max,
        ),
    };
    let left = |open: &AtomicI64| {
        let open = usize::try_from(Usage::get(open)).unwrap_or(usize::MAX);
        Some(settings.batches_total_max.saturating_sub(open))
    };
    Room {
        is_server_full: Usage::get(total_used) > u64::try_from(total_max).unwrap_or(u64::MAX),
        account_bytes: u64::try_from(most).ok().map(|most| most.saturating_sub(Usage::get(used))),
        atomic_batches: left(&total.atomic_batches),
        fast_batches: left(&total.fast_batches),
        payload_bytes_max: 0,
    }
}

/// The server as the leader of everything.
pub(super) fn cluster_of(shop: &Shop<'_, '_>) -> Option<ClusterInfo> {
    Some(ClusterInfo { leader: shop.settings.server_id.clone(), ..ClusterInfo::default() })
}

impl Home {
    pub(super) fn facts(&self) -> InfoFacts<'_> {
        // Those of mirrors and sources are not counted.
        let consumers = self.consumers.len() - self.feeding;
        InfoFacts { version: VERSION, consumers, lost: &self.lost }
    }

    /// A request about this stream, or an acknowledgement of one of its deliveries.
    pub(super) fn handle_request(&mut self, request: &Request<'_>, shop: &mut Shop<'_, '_>) {
        if let Some(ack) = parse_ack_subject(request.subject) {
            // The sequence may have become another message's in a crash, if nothing of the one
            // that was delivered had been flushed.
            let stored = self.stream.store.time_of(ack.delivery.stream_seq);
            let named = ack.delivery.timestamp_ns;
            let is_other = named != 0 && stored.is_some_and(|stored| stored != named);
            if is_other && self.slot_of_bytes(ack.consumer).is_some() {
                return;
            }
            let named = Named {
                stream: ack.delivery.stream_seq,
                consumer: ack.delivery.consumer_seq,
                count: ack.delivery.delivered,
            };
            return self.handle_ack(ack.consumer, named, request, shop);
        }
        if let Some(flow) = parse_flow_control_subject(request.subject) {
            let Some(slot) = self.slot_of_bytes(flow.consumer) else {
                return shop.no_responders(request);
            };
            self.with(slot, shop, |consumer, cx| {
                consumer.handle_flow_answer(flow.id, request.headers, cx);
            });
            return self.enqueue(slot);
        }
        let Some((_, call)) = parse_api(request.subject) else { return };
        match call {
            Call::ConsumerNext { consumer, .. } => self.handle_next(consumer, request, shop),
            Call::DirectGet { .. } => self.handle_direct(None, request, shop),
            Call::DirectGetLast { subject, .. } => self.handle_direct(Some(subject), request, shop),
            _ => {
                let Some(kind) = ResponseType::of(&call) else { return };
                if shop.is_above_level(request, kind) || !shop.is_enabled(request, kind) {
                    return;
                }
                let outcome = match self.handle_consumer_request(&call, request, shop) {
                    Some(outcome) => outcome,
                    None => self.handle_stream_request(&call, request, shop),
                };
                if let Err(error) = outcome {
                    shop.refuse(request, kind, &error);
                }
            }
        }
    }

    fn slot_of_bytes(&self, consumer: &[u8]) -> Option<u32> {
        self.by_name.get(std::str::from_utf8(consumer).ok()?).copied()
    }

    fn handle_ack(
        &mut self,
        consumer: &[u8],
        named: Named,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) {
        // A consumer that wants no acknowledgements does not listen to them.
        let takes = |slot: &u32| {
            let known = self.consumers.get(*slot as usize);
            known.is_some_and(|one| one.config.ack_policy != AckPolicy::None)
        };
        let Some(slot) = self.slot_of_bytes(consumer).filter(takes) else {
            return shop.no_responders(request);
        };
        let Some(body) = Ack::parse(request.body) else { return };
        self.with(slot, shop, |consumer, cx| {
            consumer.handle_ack(named, &body, request.reply, cx);
        });
        self.enqueue(slot);
    }

    fn handle_next(&mut self, consumer: &str, request: &Request<'_>, shop: &mut Shop<'_, '_>) {
        let Some(slot) = self.slot_of_bytes(consumer.as_bytes()) else {
            return shop.no_responders(request);
        };
        if level::is_too_high(request.headers) {
            let write = wire::api::status::required_api_level;
            return send_status(shop.fx, request.account, request.reply, write);
        }
        let parsed = PullRequest::parse(request.body);
        self.with(slot, shop, |consumer, cx| consumer.handle_pull(request.reply, parsed, cx));
        self.enqueue(slot);
    }

    fn handle_direct(
        &mut self,
        key: Option<&[u8]>,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) {
        if !self.stream.config().allow_direct {
            return shop.no_responders(request);
        }
        let room = room_of(&self.stream, shop);
        let mut cx = shop.stream_cx(room);
        self.stream.handle_direct_get(key, request.reply, request.headers, request.body, &mut cx);
    }

    fn handle_stream_request(
        &mut self,
        call: &Call<'_>,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        match call {
            Call::StreamInfo { .. } => {
                let body: StreamInfoRequest = shop.read(request)?;
                let mut page = self.stream.info_page(&body, &self.facts(), shop.ctx)?;
                page.info.cluster = cluster_of(shop);
                shop.answer(request, ResponseType::StreamInfo, &page);
                Ok(())
            }
            Call::StreamSnapshot { .. } => self.begin_snapshot(request, shop),
            Call::StreamPurge { .. } => {
                let body: PurgeRequest = shop.read(request)?;
                let purged = self.stream.handle_purge(&body)?.count;
                self.handle_purged();
                let body = Purged { success: true, purged };
                self.answer_later(request, encode_response(ResponseType::StreamPurge, &body));
                Ok(())
            }
            Call::MsgDelete { .. } => {
                let body: MsgDeleteRequest = shop.read(request)?;
                self.stream.handle_delete(body.seq, body.no_erase)?;
                self.handle_deleted(body.seq);
                let body = Success { success: true };
                self.answer_later(request, encode_response(ResponseType::MsgDelete, &body));
                Ok(())
            }
            Call::MsgGet { .. } => {
                let body: MsgGetRequest = shop.read(request)?;
                let room = room_of(&self.stream, shop);
                let mut cx = shop.stream_cx(room);
                match self.stream.handle_get(&body, request.reply, &mut cx) {
                    crate::stream::Got::Answered => Ok(()),
                    crate::stream::Got::Refused(error) => Err(error),
                }
            }
            _ => Err(errors::CLUSTER_REQUIRED),
        }
    }

    /// Consumers that had delivered a deleted message tell of it now.
    fn handle_deleted(&mut self, seq: u64) {
        let concerned = self.consumers.iter().filter(|(_, one)| one.has_pending(seq));
        let slots: Vec<u32> = concerned.map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.enqueue(slot);
        }
    }

    /// After a purge the consumers look anew.
    fn handle_purged(&mut self) {
        let slots: Vec<u32> = self.consumers.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            if self.consumers.get(slot as usize).is_some_and(|consumer| consumer.is_active()) {
                self.enqueue(slot);
            }
        }
    }

    /// Subscribes to the stream's subjects.
    pub(super) fn subscribe(&self, fx: &mut Effects) {
        let id = &self.stream.id;
        for subject in &self.stream.config().subjects {
            fx.interests.push(Interest::Subscribe {
                account: id.account,
                subject: subject.as_bytes().into(),
                endpoint: Endpoint::Stream(id.slot),
            });
        }
    }

    fn unsubscribe(&self, subjects: &[String], fx: &mut Effects) {
        let id = &self.stream.id;
        for subject in subjects {
            fx.interests.push(Interest::Unsubscribe {
                account: id.account,
                subject: subject.as_bytes().into(),
                endpoint: Endpoint::Stream(id.slot),
            });
        }
    }

    fn advise_action(&self, action: Action, shop: &mut Shop<'_, '_>) {
        let event = StreamActed {
            stream: self.stream.name().to_owned(),
            action,
            domain: shop.settings.domain.clone(),
        };
        shop.advise(self.stream.id.account, &event);
    }

    /// Writes what the stream is among its notes.
    pub(super) fn write_config(&mut self) {
        let mut bytes = self.stream.created_unix_ns.to_le_bytes().to_vec();
        bytes.extend_from_slice(wire::json::to_go_string(self.stream.config()).as_bytes());
        self.put_note(STREAM_KEY, &bytes);
    }

    fn update(
        &mut self,
        config: &StreamConfig,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<StreamConfig, ApiError> {
        let limits = super::meta::limits_of(shop, request.account, config.storage);
        let present = self.stream.config().clone();
        let mut consumers = self.consumers.iter().map(|(_, consumer)| LimitedConsumer {
            name: &consumer.name,
            inactive_threshold_ns: consumer.config.inactive_threshold_ns,
            max_ack_pending: consumer.config.max_ack_pending,
        });
        let config = check_update(
            &present,
            config,
            false,
            &limits,
            &super::catalog::Elsewhere,
            &mut consumers,
            |_| Ok(()),
        )?;
        drop(consumers);
        self.admit(wire::json::to_go_string(&config).len())?;
        shop.reserve(request.account, &present, -1);
        shop.reserve(request.account, &config, 1);
        let gone: Vec<String> = present
            .subjects
            .iter()
            .filter(|subject| !config.subjects.contains(subject))
            .cloned()
            .collect();
        self.unsubscribe(&gone, shop.fx);
        for subject in config.subjects.iter().filter(|s| !present.subjects.contains(s)) {
            shop.fx.interests.push(Interest::Subscribe {
                account: self.stream.id.account,
                subject: subject.as_bytes().into(),
                endpoint: Endpoint::Stream(self.stream.id.slot),
            });
        }
        let room = room_of(&self.stream, shop);
        self.stream.handle_update(config.clone(), &mut shop.stream_cx(room));
        if config.retention != present.retention {
            self.release();
        }
        self.write_config();
        self.advise_action(Action::Modify, shop);
        let info = self.stream.info(&self.facts(), shop.ctx);
        self.answer_later(request, encode_response(ResponseType::StreamUpdate, &info));
        Ok(config)
    }
}

impl Shop<'_, '_> {
    /// Publishes an advisory, if somebody listens.
    pub(super) fn advise(&mut self, account: u32, event: &impl Event) {
        let subject = event.subject();
        if self.ctx.interest.has_interest(account, subject.as_bytes()) {
            let id = self.ids.next_id();
            let id = std::str::from_utf8(&id).unwrap_or_default();
            let body = encode_event(id, Timestamp(self.ctx.unix_ns), event);
            self.fx.publish(account, subject.as_bytes(), b"", b"", &body);
        }
    }
}

impl JetStream {
    /// Shard 0 lets this shard do something with a stream.
    pub(super) fn apply(
        &mut self,
        request: &Request<'_>,
        action: parcel::Action,
        config: &[u8],
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let Some((_, call)) = parse_api(request.subject) else { return };
        let Some(kind) = ResponseType::of(&call) else { return };
        let (Call::StreamCreate { stream: name }
        | Call::StreamUpdate { stream: name }
        | Call::StreamDelete { stream: name }
        | Call::StreamRestore { stream: name }) = call
        else {
            return;
        };
        let slot = self.slot_of(request.account, name);
        let restore = if slot.is_none() { self.restore_of(request.account, name) } else { None };
        let outcome = match (action, slot) {
            (parcel::Action::Create, Some(slot)) => {
                self.answer_created(slot, request, ctx, fx);
                Ok(())
            }
            (parcel::Action::Create, None) if restore.is_some() => Err(errors::STREAM_NAME_EXIST),
            (parcel::Action::Create, None) => self.make(request, config, ctx, fx),
            (parcel::Action::Update, Some(slot)) => self.change(slot, request, config, ctx, fx),
            (parcel::Action::Delete, _) if slot.is_some() || restore.is_some() => {
                let gone = match (slot, restore) {
                    (Some(slot), _) => self.drop_stream(slot, ctx, fx),
                    (None, Some(number)) => self.cancel_restore(number, fx),
                    (None, None) => None,
                };
                let json = encode_response(kind, &Success { success: true });
                match gone {
                    Some(ticket) => {
                        self.deletions.insert(ticket, (Parked::of(request), json));
                    }
                    None => self.tools.open(ctx, fx).send_answer(request, &json, false),
                }
                Ok(())
            }
            (parcel::Action::Restore, None) => self.begin_restore(request, config, ctx, fx),
            (parcel::Action::Restore, Some(_)) => Err(errors::STREAM_NAME_EXIST_RESTORE_FAILED),
            (parcel::Action::Delete, Some(_)) | (_, None) => Err(errors::STREAM_NOT_FOUND),
        };
        if let Err(error) = outcome {
            self.tools.open(ctx, fx).refuse(request, kind, &error);
        }
    }

    fn make(
        &mut self,
        request: &Request<'_>,
        config: &[u8],
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let config: StreamConfig =
            decode_document(config).map_err(|error| errors::STREAM_CREATE.with(error))?;
        self.admit_place(request.account, &config, ctx, fx)?;
        let slot = self.put_stream(request.account, config, ctx, fx);
        if let Some(home) = self.homes.get_mut(slot as usize) {
            home.subscribe(fx);
            home.write_config();
            let mut shop = self.tools.open(ctx, fx);
            home.advise_action(Action::Create, &mut shop);
        }
        self.answer_created(slot, request, ctx, fx);
        self.note_ops(slot, fx);
        self.touch(slot);
        Ok(())
    }

    fn answer_created(
        &mut self,
        slot: u32,
        request: &Request<'_>,
        ctx: &Context<'_>,
        _fx: &mut Effects,
    ) {
        let Some(home) = self.homes.get_mut(slot as usize) else { return };
        let mut info = home.stream.info(&home.facts(), ctx);
        // The one answer about a stream that does not name the domain.
        info.domain = String::new();
        let body = StreamCreated { info, did_create: true };
        home.answer_later(request, encode_response(ResponseType::StreamCreate, &body));
        self.touch(slot);
    }

    fn change(
        &mut self,
        slot: u32,
        request: &Request<'_>,
        config: &[u8],
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let config: StreamConfig =
            decode_document(config).map_err(|error| errors::STREAM_UPDATE.with(error))?;
        let mut shop = self.tools.open(ctx, fx);
        let Some(home) = self.homes.get_mut(slot as usize) else {
            return Err(errors::STREAM_NOT_FOUND);
        };
        let config = home.update(&config, request, &mut shop)?;
        let json = wire::json::to_go_string(&config);
        self.report_present(request.account, json.as_bytes(), ctx, fx);
        self.note_ops(slot, fx);
        self.touch(slot);
        Ok(())
    }

    /// Tells shard 0 that a stream is here and how it is configured.
    pub(super) fn report_present(
        &mut self,
        account: u32,
        config: &[u8],
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        if self.meta.is_some() {
            self.note_present(account, config);
        } else {
            self.tools.open(ctx, fx).post(0, &Parcel::Present { account, config });
        }
    }

    /// Deletes a stream with everything in it.
    fn drop_stream(&mut self, slot: u32, ctx: &Context<'_>, fx: &mut Effects) -> Option<Ticket> {
        let mut shop = self.tools.open(ctx, fx);
        let home = self.homes.get_mut(slot as usize)?;
        let before = home.push_consumers();
        let room = room_of(&home.stream, &shop);
        home.stream.stop_feeds(&mut shop.stream_cx(room));
        let consumers: Vec<u32> = home.consumers.iter().map(|(at, _)| at as u32).collect();
        for consumer in consumers {
            home.delete_consumer(consumer, &mut shop);
        }
        self.push_consumers -= before;
        let subjects = home.stream.config().subjects.clone();
        home.unsubscribe(&subjects, shop.fx);
        home.close_letters(&mut shop);
        home.advise_action(Action::Delete, &mut shop);
        let home = self.homes.try_remove(slot as usize)?;
        self.names.remove(&(home.stream.id.account, home.stream.name()) as &dyn super::Key);
        home.note_usage_gone(&self.tools.settings);
        self.remove_files(*home, fx)
    }

    /// The files of a deleted stream are gone, or cannot be removed: the client is told.
    pub(super) fn end_deletion(&mut self, done: &DiskDone, ctx: &Context<'_>, fx: &mut Effects) {
        let Some((parked, json)) = self.deletions.remove(&done.ticket) else { return };
        let mut shop = self.tools.open(ctx, fx);
        match &done.result {
            Ok(_) | Err(DiskError::NotFound) => shop.send_answer(&parked.request(), &json, false),
            Err(error) => {
                let error = errors::STREAM_DELETE.with(error);
                shop.refuse(&parked.request(), ResponseType::StreamDelete, &error);
            }
        }
    }

    /// A stream that could not be made is no stream: shard 0 learns it.
    pub(super) fn drop_doomed(&mut self, slot: u32, ctx: &Context<'_>, fx: &mut Effects) {
        let Some(home) = self.homes.get(slot as usize) else { return };
        let account = home.stream.id.account;
        let config = home.stream.config().clone();
        self.drop_stream(slot, ctx, fx);
        self.disown(account, &config, ctx, fx);
    }

    /// A stream that shard 0 knows is not made after all.
    pub(super) fn disown(
        &mut self,
        account: u32,
        config: &StreamConfig,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        self.tools.open(ctx, fx).reserve(account, config, -1);
        if self.meta.is_some() {
            self.note_absent(account, &config.name);
        } else {
            let absent = Parcel::Absent { account, stream: config.name.as_bytes() };
            self.tools.open(ctx, fx).post(0, &absent);
        }
    }

    /// The infos of streams of this shard as JSON lines.
    pub(super) fn infos_of(
        &mut self,
        account: u32,
        streams: &[u8],
        ctx: &Context<'_>,
        _fx: &mut Effects,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for name in streams.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()) {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let home = self.slot_of(account, name).and_then(|slot| self.homes.get(slot as usize));
            let Some(home) = home else { continue };
            let mut info = home.stream.info(&home.facts(), ctx);
            level::strip(&mut info.config.metadata);
            if let Some(needed) = home.stream.config().metadata.get("_nats.req.level") {
                info.config.metadata.insert("_nats.req.level".to_owned(), needed.clone());
            }
            out.extend_from_slice(wire::json::to_go_string(&info).as_bytes());
            out.push(b'\n');
        }
        out
    }
}
