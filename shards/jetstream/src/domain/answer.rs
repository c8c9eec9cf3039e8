//! Answers to requests: the JSON that goes back, the count of the account, and the audit event.

use wire::api::errors::ApiError;
use wire::api::{advisory, types};

use super::Shop;
use super::parcel::Request;

/// Subject of the audit events.
const AUDIT_SUBJECT: &[u8] = b"$JS.EVENT.ADVISORY.API";
/// Bytes of a request or answer that an audit event repeats.
const AUDIT_BYTES_MAX: usize = 64 << 10;

impl Shop<'_, '_> {
    /// Answers with a document of a type.
    pub(super) fn answer(
        &mut self,
        request: &Request<'_>,
        kind: &str,
        body: &impl wire::api::value::Fields,
    ) {
        let json = types::encode_response(kind, body);
        self.send_answer(request, json.as_bytes(), false);
    }

    /// Answers with an error.
    pub(super) fn refuse(&mut self, request: &Request<'_>, kind: &str, error: &ApiError) {
        let json = types::encode_error(kind, error);
        self.send_answer(request, json.as_bytes(), true);
    }

    /// Sends an answer as it is, counts it, and tells who audits.
    pub(super) fn send_answer(&mut self, request: &Request<'_>, json: &[u8], is_error: bool) {
        if let Some(account) = self.settings.account(request.account) {
            let count = |counter: &std::sync::atomic::AtomicU64| {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            };
            count(&account.usage.api_total);
            if is_error {
                count(&account.usage.api_errors);
            }
        }
        if !request.reply.is_empty() {
            self.fx.publish(request.account, request.reply, b"", b"", json);
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
        let event = self.event();
        let body = advisory::api_audit(
            event,
            &advisory::ApiAudit {
                server: &self.settings.server_name,
                client: &text(request.client),
                subject: &text(request.subject),
                request: &text(request.body),
                response: &text(json),
                domain: &self.settings.domain,
            },
        );
        self.fx.publish(request.account, AUDIT_SUBJECT, b"", b"", body.as_bytes());
    }

    /// The head of an event.
    pub(super) fn event(&mut self) -> advisory::Event {
        advisory::Event {
            id: String::from_utf8_lossy(&self.ids.next_id()).into_owned(),
            timestamp: wire::api::timestamp::Timestamp(self.ctx.unix_ns),
        }
    }
}
