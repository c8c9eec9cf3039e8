//! Answers to requests: the JSON that goes back, the count of the account, and the audit event.

use std::sync::atomic::{AtomicU64, Ordering};

use wire::api::advisory::{ApiAudit, ClientInfo};
use wire::api::decode::decode_document;
use wire::api::errors::ApiError;
use wire::api::subjects::{Call, parse as parse_api};
use wire::api::types::{self, ResponseType};
use wire::api::value::Fields;

use super::Shop;
use super::parcel::Request;
use crate::effect::AfterInterest;

/// Bytes of a request or answer that an audit event repeats.
const AUDIT_BYTES_MAX: usize = 64 << 10;
/// Subject of the audit events.
const AUDIT_SUBJECT: &[u8] = b"$JS.EVENT.ADVISORY.API";

/// Whether a request goes to shard 0 before it comes to the stream's home. Such a request may tell
/// of subjects that a stream takes from now on, or no longer.
pub(super) fn comes_by_meta(subject: &[u8]) -> bool {
    let call = parse_api(subject).map(|(_, call)| call);
    matches!(
        call,
        Some(
            Call::StreamCreate { .. }
                | Call::StreamUpdate { .. }
                | Call::StreamDelete { .. }
                | Call::StreamRestore { .. }
        )
    )
}

impl Shop<'_, '_> {
    /// Answers with a document of a type.
    pub(super) fn answer(&mut self, request: &Request<'_>, kind: ResponseType, body: &impl Fields) {
        let json = types::encode_response(kind, body);
        self.send_answer(request, &json, false);
    }

    /// Answers with an error.
    pub(super) fn refuse(&mut self, request: &Request<'_>, kind: ResponseType, error: &ApiError) {
        let json = types::encode_error(kind, error);
        self.send_answer(request, &json, true);
    }

    /// Sends an answer as it is, counts it, and tells who audits.
    pub(super) fn send_answer(&mut self, request: &Request<'_>, json: &[u8], is_error: bool) {
        self.send_with(request, b"", json, is_error);
    }

    /// The same, with a header block.
    pub(super) fn send_with(
        &mut self,
        request: &Request<'_>,
        headers: &[u8],
        json: &[u8],
        is_error: bool,
    ) {
        if let Some(account) = self.settings.account(request.account) {
            let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
            count(&account.usage.api_total);
            if is_error {
                count(&account.usage.api_errors);
            }
        }
        if !request.reply.is_empty() {
            if self.shards > 1 && comes_by_meta(request.subject) {
                self.fx.after_interest.push(AfterInterest::Answer {
                    account: request.account,
                    origin: request.origin,
                    subject: request.reply.into(),
                    payload: json.into(),
                });
            } else {
                self.fx.publish(request.account, request.reply, b"", headers, json);
            }
        }
        if self.ctx.interest.has_interest(request.account, AUDIT_SUBJECT) {
            self.audit(request, json);
        }
    }

    fn audit(&mut self, request: &Request<'_>, json: &[u8]) {
        let text = |bytes: &[u8]| {
            let bytes = bytes.get(..AUDIT_BYTES_MAX.min(bytes.len())).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let event = ApiAudit {
            server: self.settings.server_name.clone(),
            client: decode_document::<ClientInfo>(request.client).ok().map(Box::new),
            subject: text(request.subject),
            request: text(request.body),
            response: text(json),
            domain: self.settings.domain.clone(),
        };
        self.advise(request.account, &event);
    }
}
