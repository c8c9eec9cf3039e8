//! Shard 0's part: which streams there are, who may make another one, and the lists.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use wire::api::config::{StreamConfig, StreamConfigRequest};
use wire::api::decode::{Mode, decode_document};
use wire::api::errors::{self, ApiError};
use wire::api::info::StreamInfo;
use wire::api::policy::Storage;
use wire::api::requests::{
    Request as Body, RestoreRequest, StreamListRequest, StreamNamesRequest, decode_body,
    expect_empty,
};
use wire::api::responses::{LIST_PAGE, NAMES_PAGE, Page, StreamList, StreamNames};
use wire::api::subjects::{Call, parse as parse_api};
use wire::api::types::ResponseType;

use super::catalog::Catalog;
use super::home::Parked;
use super::parcel::{Action, Parcel, Request};
use super::{JetStream, Shop};
use crate::context::Context;
use crate::effect::Effects;
use crate::settings::Usage;
use crate::stream::config::{ConfigLimits, Creation, check_create, check_create_request};
use crate::stream::config_update::{check_fixed, check_update_request};

/// A list that waits for what other shards tell.
#[derive(Debug)]
struct Question {
    request: Parked,
    page: Page,
    infos: Vec<StreamInfo>,
    /// Shards that have not told yet.
    missing: usize,
}

/// See the module. Lives on: shard 0.
#[derive(Debug)]
pub struct Meta {
    pub(crate) catalog: Catalog,
    /// Shards that have not reported what they found at their start.
    recovering: u16,
    /// Requests that came before all had.
    early: VecDeque<Parked>,
    questions: FxHashMap<u64, Question>,
    last_question: u64,
}

impl Meta {
    /// Without streams; every shard has yet to report.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self {
            catalog: Catalog::default(),
            recovering: shards,
            early: VecDeque::new(),
            questions: FxHashMap::default(),
            last_question: 0,
        }
    }
}

/// What the account allows for a stream with this storage.
pub(super) fn limits_of(shop: &Shop<'_, '_>, account: u32, storage: Storage) -> ConfigLimits {
    let limits = shop.settings.limits(account);
    ConfigLimits {
        duplicate_window_max_ns: shop.settings.duplicate_window_ns,
        is_max_bytes_required: limits.is_some_and(|limits| limits.max_bytes_required),
        max_bytes_max: limits.map_or(0, |limits| match storage {
            Storage::File => limits.file_stream_bytes_max,
            Storage::Memory => limits.memory_stream_bytes_max,
        }),
    }
}

/// Whether the account and the server have room for what a stream asks for.
fn check_reservation(
    shop: &Shop<'_, '_>,
    account: u32,
    streams: usize,
    config: &StreamConfig,
    before: Option<&StreamConfig>,
) -> Result<(), ApiError> {
    let (Some(limits), Some(own)) = (shop.settings.limits(account), shop.settings.account(account))
    else {
        return Ok(());
    };
    if before.is_none() && limits.streams_max >= 0 && streams as i64 >= limits.streams_max {
        return Err(errors::MAXIMUM_STREAMS_LIMIT);
    }
    let wanted = config.max_bytes.max(0);
    let had = before.map_or(0, |before| before.max_bytes.max(0));
    let more = wanted.saturating_sub(had);
    if more <= 0 {
        return Ok(());
    }
    let (all, reserved, account_max, server_max, error) = match config.storage {
        Storage::File => (
            Usage::get(&shop.settings.total.file_reserved),
            Usage::get(&own.usage.file_reserved),
            limits.file_bytes_max,
            shop.settings.file_bytes_max,
            errors::STORAGE_RESOURCES_EXCEEDED,
        ),
        Storage::Memory => (
            Usage::get(&shop.settings.total.memory_reserved),
            Usage::get(&own.usage.memory_reserved),
            limits.memory_bytes_max,
            shop.settings.memory_bytes_max,
            errors::MEMORY_RESOURCES_EXCEEDED,
        ),
    };
    let total = (reserved as i64).saturating_add(more);
    if account_max >= 0 && total > account_max {
        return Err(error);
    }
    // Without a limit of its own the account reserves from the server's.
    if account_max < 0 && (all as i64).saturating_add(more) > server_max {
        return Err(error);
    }
    Ok(())
}

impl JetStream {
    /// A request that shard 0 answers or passes on.
    pub(super) fn handle_meta(
        &mut self,
        request: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let Some(meta) = &mut self.meta else { return };
        if meta.recovering > 0 {
            meta.early.push_back(Parked::of(request));
            return;
        }
        let Some((_, call)) = parse_api(request.subject) else { return };
        let Some(kind) = ResponseType::of(&call) else { return };
        let mut shop = self.tools.open(ctx, fx);
        if shop.is_above_level(request, kind) || !shop.is_enabled(request, kind) {
            return;
        }
        let outcome = match call {
            Call::AccountInfo => {
                shop.answer_account(request);
                Ok(())
            }
            Call::StreamNames => shop.answer_names(meta, request),
            Call::StreamList => self.answer_list(request, ctx, fx),
            Call::StreamCreate { stream } => self.create(stream, request, ctx, fx),
            Call::StreamUpdate { stream } => self.update(stream, request, ctx, fx),
            Call::StreamDelete { stream } => self.delete(stream, request, ctx, fx),
            Call::StreamRestore { stream } => self.restore(stream, request, ctx, fx),
            // What concerns a cluster as a whole has nobody to answer it.
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            self.tools.open(ctx, fx).refuse(request, kind, &error);
        }
    }

    fn create(
        &mut self,
        name: &str,
        request: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let mut shop = self.tools.open(ctx, fx);
        let Some(meta) = &mut self.meta else { return Ok(()) };
        let body: StreamConfigRequest = shop.read(request)?;
        check_create_request(name, &body.config)?;
        let limits = limits_of(&shop, request.account, body.config.storage);
        let streams = meta.catalog.account(request.account);
        let present = crate::stream::config::Catalog::config(streams, name);
        let created = check_create(&body.config, body.pedantic, &limits, streams, |config| {
            check_reservation(&shop, request.account, streams.len(), config, present)
        })?;
        let config = match created {
            Creation::New(config) => *config,
            Creation::Same => {
                let known = wire::json::to_go_string(&body.config);
                self.order(request, Action::Create, name, known.as_bytes(), ctx, fx);
                return Ok(());
            }
        };
        shop.reserve(request.account, &config, 1);
        meta.catalog.put(request.account, config.clone());
        let json = wire::json::to_go_string(&config);
        self.order(request, Action::Create, name, json.as_bytes(), ctx, fx);
        Ok(())
    }

    fn update(
        &mut self,
        name: &str,
        request: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let shop = self.tools.open(ctx, fx);
        let Some(meta) = &mut self.meta else { return Ok(()) };
        let body: StreamConfigRequest = shop.read(request)?;
        let limits = limits_of(&shop, request.account, body.config.storage);
        let streams = meta.catalog.account(request.account);
        let config = check_update_request(name, &body.config, body.pedantic, &limits, streams)?;
        let present = crate::stream::config::Catalog::config(streams, name);
        let Some(present) = present else { return Err(errors::STREAM_NOT_FOUND) };
        check_fixed(present, &config)?;
        check_reservation(&shop, request.account, streams.len(), &config, Some(present))?;
        if crate::stream::config::Catalog::overlaps(streams, &config.subjects, Some(name)) {
            return Err(errors::STREAM_SUBJECT_OVERLAP);
        }
        let json = wire::json::to_go_string(&config);
        self.order(request, Action::Update, name, json.as_bytes(), ctx, fx);
        Ok(())
    }

    fn delete(
        &mut self,
        name: &str,
        request: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        expect_empty(request.body)?;
        let mut shop = self.tools.open(ctx, fx);
        let Some(meta) = &mut self.meta else { return Ok(()) };
        let streams = meta.catalog.account(request.account);
        let Some(config) = crate::stream::config::Catalog::config(streams, name).cloned() else {
            return Err(errors::STREAM_NOT_FOUND);
        };
        shop.reserve(request.account, &config, -1);
        // The name is free at once: whatever comes next for it comes to the home shard behind
        // the deletion.
        meta.catalog.remove(request.account, name);
        self.order(request, Action::Delete, name, b"", ctx, fx);
        Ok(())
    }

    fn restore(
        &mut self,
        name: &str,
        request: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let mut shop = self.tools.open(ctx, fx);
        let Some(meta) = &mut self.meta else { return Ok(()) };
        let mut body: RestoreRequest = shop.read(request)?;
        if body.config.name.is_empty() {
            name.clone_into(&mut body.config.name);
        }
        let limits = limits_of(&shop, request.account, body.config.storage);
        let streams = meta.catalog.account(request.account);
        if crate::stream::config::Catalog::config(streams, &body.config.name).is_some() {
            return Err(errors::STREAM_NAME_EXIST_RESTORE_FAILED);
        }
        if name != body.config.name {
            return Err(errors::STREAM_MISMATCH);
        }
        let created = check_create(&body.config, false, &limits, streams, |config| {
            check_reservation(&shop, request.account, streams.len(), config, None)
        })?;
        let Creation::New(config) = created else {
            return Err(errors::STREAM_NAME_EXIST_RESTORE_FAILED);
        };
        shop.reserve(request.account, &config, 1);
        meta.catalog.put(request.account, (*config).clone());
        let json = wire::json::to_go_string(&*config);
        self.order(request, Action::Restore, name, json.as_bytes(), ctx, fx);
        Ok(())
    }

    /// Lets the home shard of a stream do something.
    fn order(
        &mut self,
        request: &Request<'_>,
        action: Action,
        stream: &str,
        config: &[u8],
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let mut shop = self.tools.open(ctx, fx);
        let home = shop.home_of(request.account, stream);
        if home == shop.me {
            self.apply(request, action, config, ctx, fx);
        } else {
            shop.post(home, &Parcel::Apply { request: *request, action, config });
        }
    }

    /// A home shard has a stream.
    pub(super) fn note_present(&mut self, account: u32, config: &[u8]) {
        let Some(meta) = &mut self.meta else { return };
        if let Ok(config) = decode_document::<StreamConfig>(config) {
            meta.catalog.put(account, config);
        }
    }

    /// A home shard does not have a stream.
    pub(super) fn note_absent(&mut self, account: u32, name: &str) {
        if let Some(meta) = &mut self.meta {
            meta.catalog.remove(account, name);
        }
    }

    /// A shard has reported everything that it found at its start.
    pub(super) fn note_recovered(&mut self, ctx: &Context<'_>, fx: &mut Effects) {
        let Some(meta) = &mut self.meta else { return };
        meta.recovering = meta.recovering.saturating_sub(1);
        if meta.recovering == 0 {
            for early in std::mem::take(&mut meta.early) {
                self.handle_meta(&early.request(), ctx, fx);
            }
        }
    }

    /// Asks the home shards for the infos of a page of streams.
    fn answer_list(
        &mut self,
        request: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let shop = self.tools.open(ctx, fx);
        let Some(meta) = &mut self.meta else { return Ok(()) };
        let body: StreamListRequest = shop.read(request)?;
        let streams = meta.catalog.account(request.account);
        let names: Vec<&str> = streams.names(&body.subject).collect();
        let offset = usize::try_from(body.offset.max(0)).unwrap_or(0).min(names.len());
        let page =
            Page { total: names.len() as i64, offset: offset as i64, limit: LIST_PAGE as i64 };
        let mut asked: Vec<Vec<u8>> = vec![Vec::new(); usize::from(shop.shards)];
        for name in names.iter().skip(offset).take(LIST_PAGE) {
            let home = usize::from(shop.home_of(request.account, name));
            if let Some(list) = asked.get_mut(home) {
                list.extend_from_slice(name.as_bytes());
                list.push(b'\n');
            }
        }
        meta.last_question += 1;
        let id = meta.last_question;
        let missing = asked.iter().filter(|list| !list.is_empty()).count();
        let question = Question { request: Parked::of(request), page, infos: Vec::new(), missing };
        meta.questions.insert(id, question);
        if missing == 0 {
            self.close_question(id, ctx, fx);
        }
        for (shard, streams) in asked.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            if shard as u16 == self.tools.me {
                let infos = self.infos_of(request.account, streams, ctx, fx);
                self.note_told(id, &infos, ctx, fx);
            } else {
                let ask = Parcel::Ask { id, account: request.account, streams };
                self.tools.open(ctx, fx).post(shard as u16, &ask);
            }
        }
        Ok(())
    }

    /// A shard tells about its streams.
    pub(super) fn note_told(&mut self, id: u64, infos: &[u8], ctx: &Context<'_>, fx: &mut Effects) {
        let question = self.meta.as_mut().and_then(|meta| meta.questions.get_mut(&id));
        let Some(question) = question else { return };
        for line in infos.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            question.infos.extend(decode_document::<StreamInfo>(line));
        }
        question.missing = question.missing.saturating_sub(1);
        if question.missing == 0 {
            self.close_question(id, ctx, fx);
        }
    }

    fn close_question(&mut self, id: u64, ctx: &Context<'_>, fx: &mut Effects) {
        let question = self.meta.as_mut().and_then(|meta| meta.questions.remove(&id));
        let Some(mut question) = question else { return };
        question.infos.sort_by(|one, other| one.config.name.cmp(&other.config.name));
        let list =
            StreamList { page: question.page, streams: question.infos, ..StreamList::default() };
        let request = question.request.request();
        self.tools.open(ctx, fx).answer(&request, ResponseType::StreamList, &list);
    }
}

impl Shop<'_, '_> {
    /// Reads the body of a request.
    pub(super) fn read<T: Body>(&self, request: &Request<'_>) -> Result<T, ApiError> {
        let mode = if self.settings.strict { Mode::Strict } else { Mode::Lax };
        decode_body(request.body, mode)
    }

    fn answer_names(&mut self, meta: &Meta, request: &Request<'_>) -> Result<(), ApiError> {
        let body: StreamNamesRequest = self.read(request)?;
        let names: Vec<&str> = meta.catalog.account(request.account).names(&body.subject).collect();
        let offset = usize::try_from(body.offset.max(0)).unwrap_or(0).min(names.len());
        let page =
            Page { total: names.len() as i64, offset: offset as i64, limit: NAMES_PAGE as i64 };
        let shown = names.iter().skip(offset).take(NAMES_PAGE).map(|name| (*name).to_owned());
        let streams = Some(shown.collect::<Vec<_>>()).filter(|names| !names.is_empty());
        self.answer(request, ResponseType::StreamNames, &StreamNames { page, streams });
        Ok(())
    }

    /// Counts a stream and what it reserves, or takes both back.
    pub(super) fn reserve(&mut self, account: u32, config: &StreamConfig, sign: i64) {
        let Some(account) = self.settings.account(account) else { return };
        let bytes = config.max_bytes.max(0).saturating_mul(sign);
        for usage in [&self.settings.total, &account.usage] {
            match config.storage {
                Storage::File => Usage::add(&usage.file_reserved, bytes),
                Storage::Memory => Usage::add(&usage.memory_reserved, bytes),
            };
        }
        Usage::add(&account.usage.streams, sign);
    }

    /// Whether a request asks for more than this server can do; it is told so.
    pub(super) fn is_above_level(&mut self, request: &Request<'_>, kind: ResponseType) -> bool {
        let above = crate::stream::level::is_too_high(request.headers);
        if above {
            self.refuse(request, kind, &errors::REQUIRED_API_LEVEL);
        }
        above
    }
}
