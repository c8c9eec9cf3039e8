//! Requests about the consumers of a stream.

use std::collections::BTreeMap;

use wire::api::consumer_config::{ConsumerConfig, CreateConsumerRequest};
use wire::api::errors::{self, ApiError};
use wire::api::info::ConsumerInfo;
use wire::api::policy::{AckPolicy, Action, ConsumerAction, PriorityPolicy, Storage};
use wire::api::requests::{ConsumersRequest, expect_empty};
use wire::api::responses::{ConsumerList, ConsumerNames, LIST_PAGE, NAMES_PAGE, Page, Success};
use wire::api::subjects::Call;
use wire::api::timestamp::Timestamp;
use wire::api::types::{ResponseType, encode_response};
use wire::headers;
use wire::json::to_go_string;

use super::Shop;
use super::early::{Asked, check_file_name, check_name_form, check_names};
use super::home::{Home, config_key, state_key};
use super::parcel::Request;
use crate::consumer::config::{self as rules, Ceilings};
use crate::consumer::config_defaults;
use crate::consumer::pull::Ending;
use crate::consumer::{self, Consumer};
use crate::settings::Usage;
use crate::stream::level;

/// Which incarnation of a stream is meant.
const IDENTITY: &[u8] = b"Nats-Stream-Identity";
/// Letters of a name that the server gives.
const GIVEN_NAME_LEN: usize = 8;

/// The API level that a consumer needs.
fn level_of(config: &ConsumerConfig, pause_until: Option<Timestamp>) -> i64 {
    if config.ack_policy == AckPolicy::FlowControl {
        return 4;
    }
    let first = pause_until.is_some_and(|until| !until.is_zero())
        || config.priority_policy != PriorityPolicy::None
        || !config.priority_groups.is_empty()
        || config.priority_timeout_ns != 0;
    i64::from(first)
}

/// Notes the API level that a consumer needs, as it is now.
pub(super) fn set_level(config: &mut ConsumerConfig) {
    let needed = level_of(config, config.pause_until).to_string();
    config.metadata.insert("_nats.req.level".to_owned(), needed);
}

/// A name that the server gives.
fn given_name(shop: &mut Shop<'_, '_>) -> String {
    let id = shop.ids.next_id();
    let letters = id.get(id.len() - GIVEN_NAME_LEN..).unwrap_or_default();
    String::from_utf8_lossy(letters).into_owned()
}

fn without_levels(config: &ConsumerConfig) -> ConsumerConfig {
    let mut config = config.clone();
    level::strip(&mut config.metadata);
    config.pause_until = None;
    config
}

/// The metadata as answers show it.
pub(super) fn show_levels(metadata: &mut BTreeMap<String, String>, version: &str) {
    level::show(metadata, version);
}

impl Home {
    /// Consumers that push.
    pub(crate) fn push_consumers(&self) -> usize {
        self.pushing
    }

    /// A request about consumers. `None` when it is about something else.
    pub(super) fn handle_consumer_request(
        &mut self,
        call: &Call<'_>,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Option<Result<(), ApiError>> {
        if let Some(asked) = Asked::of(call) {
            return Some(self.create_consumer(&asked, request, shop));
        }
        Some(match *call {
            Call::ConsumerNames { .. } => self.answer_consumer_names(request, shop),
            Call::ConsumerList { .. } => self.answer_consumer_list(request, shop),
            Call::ConsumerInfo { consumer, .. } => {
                self.answer_consumer_info(consumer, request, shop)
            }
            Call::ConsumerDelete { consumer, .. } => {
                self.answer_consumer_delete(consumer, request, shop)
            }
            Call::ConsumerPause { consumer, .. } => self.pause_consumer(consumer, request, shop),
            Call::ConsumerUnpin { consumer, .. } => self.unpin_consumer(consumer, request, shop),
            Call::ConsumerReset { consumer, .. } => self.reset_consumer(consumer, request, shop),
            Call::ConsumerLeaderStepdown { .. }
            | Call::ConsumerPeerRemove { .. }
            | Call::ConsumerPeerEvacuate { .. } => Err(errors::CLUSTER_REQUIRED),
            _ => return None,
        })
    }

    /// The API level that the consumer of a request needs. An update leaves its pause as it is.
    fn level_of(&self, config: &ConsumerConfig) -> i64 {
        let name = if config.name.is_empty() { &config.durable_name } else { &config.name };
        let known = self.by_name.get(name.as_str());
        match known.and_then(|slot| self.consumers.get(*slot as usize)) {
            Some(known) => level_of(config, known.config.pause_until),
            None => level_of(config, config.pause_until),
        }
    }

    pub(super) fn slot_of(&self, consumer: &str) -> Result<u32, ApiError> {
        self.by_name.get(consumer).copied().ok_or(errors::CONSUMER_NOT_FOUND)
    }

    fn create_consumer(
        &mut self,
        asked: &Asked<'_>,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        let body: CreateConsumerRequest = shop.read(request)?;
        check_names(asked, &body)?;
        check_name_form(asked, &body.config)?;
        let CreateConsumerRequest { mut config, action, pedantic, .. } = body;
        if let Some(name) = asked.consumer {
            name.clone_into(&mut config.name);
        }
        let is_feed = config.direct || config.sourcing;
        if is_feed {
            self.check_identity(request)?;
        }
        if config.direct && config.sourcing && !config.name.is_empty() {
            let letters = given_name(shop);
            config.name = format!("{}-{letters}", config.name);
        }
        let ceilings = ceilings_of(shop, request.account);
        let stream = self.stream.config().clone();
        level::strip(&mut config.metadata);
        let needed = self.level_of(&config).to_string();
        config_defaults::set_defaults(&mut config, &stream, &ceilings, pedantic)?;
        rules::check(&config, &stream, &ceilings)?;
        check_file_name(&config)?;
        config.metadata.insert("_nats.req.level".to_owned(), needed);
        let known = self.by_name.get(config.name.as_str()).copied();
        match known {
            Some(slot) => self.change_consumer(slot, config, action, request, shop),
            None if action == ConsumerAction::Update => Err(errors::CONSUMER_DOES_NOT_EXIST),
            None => self.add_consumer(config, request, shop),
        }
    }

    /// Who feeds another stream may say which incarnation of this one it knows.
    fn check_identity(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let known = headers::get(request.headers, IDENTITY).filter(|known| !known.is_empty());
        let own = self.stream.identity();
        match known {
            Some(known) if known != own.as_bytes() => {
                Err(errors::CONSUMER_STREAM_IDENTITY_MISMATCH.with(own))
            }
            _ => Ok(()),
        }
    }

    fn siblings(&self) -> impl Iterator<Item = &ConsumerConfig> {
        self.consumers.iter().map(|(_, consumer)| &*consumer.config)
    }

    fn add_consumer(
        &mut self,
        mut config: ConsumerConfig,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        config_defaults::set_inactive_default(&config.durable_name.clone(), &mut config);
        let stream = self.stream.config();
        rules::check_siblings(&config, stream, self.siblings())?;
        if (self.consumers.len() - self.feeding) as i64 >= self.consumers_max(shop) {
            return Err(errors::MAXIMUM_CONSUMERS_LIMIT);
        }
        self.admit(to_go_string(&config).len())?;
        // A name that the server gives does not become part of the configuration.
        let name = if config.name.is_empty() { given_name(shop) } else { config.name.clone() };
        let slot = self.put_consumer(&name, config, shop, |named, config, filter, cx| {
            Some(Consumer::create(named, config, filter, cx))
        });
        let Some(slot) = slot else { return Err(errors::CONSUMER_NOT_FOUND) };
        self.write_consumer(slot);
        // Its state goes with it: one commit for both, and no other soon after.
        if let Some(consumer) = self.consumers.get_mut(slot as usize) {
            consumer.write_at_once();
        }
        self.with(slot, shop, |consumer, cx| {
            consumer.advise_action(Action::Create, cx);
            consumer.advise_if_paused(cx);
        });
        self.answer_made(slot, request, shop);
        self.start_later(slot);
        Ok(())
    }

    /// Puts a consumer among the others; `make` gives it.
    pub(crate) fn put_consumer(
        &mut self,
        name: &str,
        config: ConsumerConfig,
        shop: &mut Shop<'_, '_>,
        make: impl FnOnce(
            consumer::start::Named<'_>,
            ConsumerConfig,
            store::FilterId,
            &mut consumer::Cx<'_, '_>,
        ) -> Option<Consumer>,
    ) -> Option<u32> {
        let filters: Vec<Vec<u8>> =
            rules::filters_of(&config).map(|filter| filter.as_bytes().to_vec()).collect();
        let patterns: Vec<&[u8]> = filters.iter().map(Vec::as_slice).collect();
        let filter = self.stream.store.add_filter(&patterns);
        let stream = self.stream.name().to_owned();
        let account = self.stream.id.account;
        let named = consumer::start::Named { account, stream: &stream, name };
        let mut settled = Vec::new();
        let mut cx = consumer::Cx {
            ctx: shop.ctx,
            fx: shop.fx,
            store: &mut self.stream.store,
            cache: shop.cache,
            removed: &self.stream.removed,
            settled: &mut settled,
            ids: shop.ids,
            domain: &shop.settings.domain,
            account_name: &self.stream.id.account_name,
            watch_ns: shop.settings.stuck_consumer_ns,
        };
        let Some(mut consumer) = make(named, config, filter, &mut cx) else {
            self.stream.store.remove_filter(filter);
            return None;
        };
        if self.stream.config().storage == Storage::Memory {
            consumer.keep_nothing();
        }
        self.pushing += usize::from(consumer.settings.is_push());
        self.feeding += usize::from(consumer.config.direct);
        let consumer_name = consumer.name.clone();
        let slot = self.consumers.insert(Box::new(consumer)) as u32;
        self.stream.set_consumer_filters(slot, &patterns);
        self.by_name.insert(consumer_name, slot);
        if let Some(account) = shop.settings.account(account) {
            Usage::add(&account.usage.consumers, 1);
        }
        self.arm(slot);
        Some(slot)
    }

    /// Most consumers the stream may have.
    fn consumers_max(&self, shop: &Shop<'_, '_>) -> i64 {
        let own = self.stream.config().max_consumers;
        let account = shop.settings.limits(self.stream.id.account);
        let account = account.map_or(-1, |limits| limits.consumers_max);
        let default = shop.settings.consumers_default_max;
        let most = match (own > 0, account > 0) {
            (true, true) => own.min(account),
            (true, false) => own,
            (false, true) => account,
            (false, false) if default > 0 => default,
            (false, false) => -1,
        };
        if most > 0 { most } else { i64::MAX }
    }

    fn change_consumer(
        &mut self,
        slot: u32,
        mut config: ConsumerConfig,
        action: ConsumerAction,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        let Some(consumer) = self.consumers.get(slot as usize) else {
            return Err(errors::CONSUMER_NOT_FOUND);
        };
        let same = without_levels(&consumer.config) == without_levels(&config);
        if same {
            self.with(slot, shop, |consumer, cx| consumer.advise_if_paused(cx));
            self.answer_made(slot, request, shop);
            return Ok(());
        }
        if action == ConsumerAction::Create {
            return Err(errors::CONSUMER_ALREADY_EXISTS);
        }
        rules::check_update(&consumer.config, &config)?;
        config_defaults::set_inactive_default(&consumer.config.durable_name, &mut config);
        if consumer.config.deliver_subject != config.deliver_subject && consumer.is_active() {
            return Err(errors::CONSUMER_NAME_EXIST);
        }
        let others = self.consumers.iter().filter(|(other, _)| *other != slot as usize);
        let others = others.map(|(_, consumer)| &*consumer.config);
        rules::check_siblings(&config, self.stream.config(), others)?;
        config.pause_until = consumer.config.pause_until;
        self.admit(to_go_string(&config).len())?;
        let old_filter = consumer.filter;
        let filters: Vec<Vec<u8>> =
            rules::filters_of(&config).map(|filter| filter.as_bytes().to_vec()).collect();
        let patterns: Vec<&[u8]> = filters.iter().map(Vec::as_slice).collect();
        let filter = self.stream.store.add_filter(&patterns);
        self.stream.store.remove_filter(old_filter);
        self.stream.set_consumer_filters(slot, &patterns);
        self.with(slot, shop, |consumer, cx| {
            consumer.reconfigure(config, filter, cx);
            consumer.advise_if_paused(cx);
        });
        self.write_consumer(slot);
        self.answer_made(slot, request, shop);
        self.start_later(slot);
        Ok(())
    }

    /// Writes a consumer's configuration among the stream's notes.
    pub(super) fn write_consumer(&mut self, slot: u32) {
        let Some(consumer) = self.consumers.get(slot as usize) else { return };
        if consumer.is_kept() {
            let mut bytes = consumer.created_unix_ns.to_le_bytes().to_vec();
            bytes.extend_from_slice(to_go_string(&*consumer.config).as_bytes());
            let key = config_key(&consumer.name);
            self.put_note(&key, &bytes);
        }
    }

    pub(super) fn consumer_info(
        &mut self,
        slot: u32,
        shop: &mut Shop<'_, '_>,
    ) -> Option<ConsumerInfo> {
        self.with(slot, shop, |consumer, cx| consumer.info(cx))
    }

    fn answer_made(&mut self, slot: u32, request: &Request<'_>, shop: &mut Shop<'_, '_>) {
        let Some(mut info) = self.consumer_info(slot, shop) else { return };
        if let Some(config) = &mut info.config {
            show_levels(&mut config.metadata, super::api_stream::VERSION);
        }
        let is_feed = info.config.as_ref().is_some_and(|one| one.direct || one.sourcing);
        let mut block = Vec::new();
        if is_feed {
            headers::set(&mut block, IDENTITY, self.stream.identity().as_bytes());
        }
        let json = encode_response(ResponseType::ConsumerCreate, &info);
        if self.consumers.get(slot as usize).is_some_and(|consumer| consumer.is_kept()) {
            self.answer_later_with(request, block, json);
        } else {
            shop.send_with(request, &block, &json, false);
        }
    }

    fn answer_consumer_info(
        &mut self,
        name: &str,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        expect_empty(request.body)?;
        let slot = self.slot_of(name)?;
        let Some(mut info) = self.consumer_info(slot, shop) else {
            return Err(errors::CONSUMER_NOT_FOUND);
        };
        if let Some(config) = &mut info.config {
            show_levels(&mut config.metadata, super::api_stream::VERSION);
        }
        shop.answer(request, ResponseType::ConsumerInfo, &info);
        Ok(())
    }

    /// Without those that feed other streams.
    fn sorted_names(&self) -> Vec<Box<str>> {
        let shown = self.consumers.iter().filter(|(_, consumer)| !consumer.config.direct);
        let mut names: Vec<Box<str>> = shown.map(|(_, consumer)| consumer.name.clone()).collect();
        names.sort_unstable();
        names
    }

    fn answer_consumer_names(
        &mut self,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        let body: ConsumersRequest = shop.read(request)?;
        let names = self.sorted_names();
        let page = page_of(names.len(), body.offset, NAMES_PAGE);
        let shown = names.iter().skip(page.offset as usize).take(NAMES_PAGE);
        let consumers = shown.map(ToString::to_string).collect();
        shop.answer(request, ResponseType::ConsumerNames, &ConsumerNames { page, consumers });
        Ok(())
    }

    fn answer_consumer_list(
        &mut self,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        let body: ConsumersRequest = shop.read(request)?;
        let names = self.sorted_names();
        let page = page_of(names.len(), body.offset, LIST_PAGE);
        let mut consumers = Vec::new();
        for name in names.iter().skip(page.offset as usize).take(LIST_PAGE) {
            if let Ok(slot) = self.slot_of(name) {
                consumers.extend(self.consumer_info(slot, shop));
            }
        }
        let list = ConsumerList { page, consumers, ..ConsumerList::default() };
        shop.answer(request, ResponseType::ConsumerList, &list);
        Ok(())
    }

    fn answer_consumer_delete(
        &mut self,
        name: &str,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        expect_empty(request.body)?;
        let slot = self.slot_of(name)?;
        self.admit(0)?;
        self.delete_consumer(slot, shop);
        let body = Success { success: true };
        self.answer_later(request, encode_response(ResponseType::ConsumerDelete, &body));
        Ok(())
    }

    /// Deletes a consumer: its requests end, its state is forgotten, and the stream lets go of
    /// what only it had kept.
    pub(crate) fn delete_consumer(&mut self, slot: u32, shop: &mut Shop<'_, '_>) {
        self.with(slot, shop, |consumer, cx| {
            consumer.end_all_requests(cx, Ending::Deleted);
            consumer.advise_action(Action::Delete, cx);
        });
        self.unlist(slot);
        let Some(consumer) = self.consumers.try_remove(slot as usize) else { return };
        self.by_name.remove(&consumer.name);
        self.pushing -= usize::from(consumer.settings.is_push());
        self.feeding -= usize::from(consumer.config.direct);
        self.stream.store.remove_filter(consumer.filter);
        if consumer.is_kept() {
            self.remove_note(&config_key(&consumer.name));
            self.remove_note(&state_key(&consumer.name));
        }
        self.stream.remove_consumer_filters(slot);
        if let Some(account) = shop.settings.account(self.stream.id.account) {
            Usage::add(&account.usage.consumers, -1);
        }
        self.release();
    }
}

/// The part of a list that is answered.
pub(super) fn page_of(total: usize, offset: i64, limit: usize) -> Page {
    let offset = usize::try_from(offset.max(0)).unwrap_or(0).min(total);
    Page { total: total as i64, offset: offset as i64, limit: limit as i64 }
}

/// Limits for consumers from outside their stream.
fn ceilings_of(shop: &Shop<'_, '_>, account: u32) -> Ceilings {
    let own = shop.settings.limits(account).map_or(0, |limits| limits.ack_pending_max);
    let server = shop.settings.ack_pending_max;
    Ceilings {
        ack_pending_max: if own > 0 { own } else { server },
        request_batch_max: shop.settings.request_batch_max,
    }
}
