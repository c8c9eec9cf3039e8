//! What an account uses and may use.

use wire::api::account::{AccountLimits as Shown, AccountStats, ApiStats, Tier};
use wire::api::types::ResponseType;

use super::Shop;
use super::parcel::Request;
use crate::settings::{AccountLimits, Usage};

/// API level of the server.
pub const API_LEVEL: i64 = 5;

impl Shop<'_, '_> {
    /// Answers `INFO`.
    pub(super) fn answer_account(&mut self, request: &Request<'_>) {
        let stats = self.account_stats(request.account);
        self.answer(request, ResponseType::AccountInfo, &stats);
    }

    /// The figures of an account.
    pub(crate) fn account_stats(&self, account: u32) -> AccountStats {
        let Some(account) = self.settings.account(account) else { return AccountStats::default() };
        let usage = &account.usage;
        let none = AccountLimits::default();
        let limits = account.limits.as_ref().unwrap_or(&none);
        let count = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        AccountStats {
            total: Tier {
                memory: Usage::get(&usage.memory_bytes),
                storage: Usage::get(&usage.file_bytes),
                reserved_memory: Usage::get(&usage.memory_reserved),
                reserved_storage: Usage::get(&usage.file_reserved),
                streams: Usage::get(&usage.streams) as i64,
                consumers: Usage::get(&usage.consumers) as i64,
                limits: Shown {
                    max_memory: limits.memory_bytes_max,
                    max_storage: limits.file_bytes_max,
                    max_streams: limits.streams_max,
                    max_consumers: limits.consumers_max,
                    max_ack_pending: limits.ack_pending_max,
                    memory_max_stream_bytes: limits.memory_stream_bytes_max,
                    storage_max_stream_bytes: limits.file_stream_bytes_max,
                    max_bytes_required: limits.max_bytes_required,
                },
            },
            domain: self.settings.domain.clone(),
            api: ApiStats {
                level: API_LEVEL,
                total: count(&usage.api_total),
                errors: count(&usage.api_errors),
                ..ApiStats::default()
            },
            ..AccountStats::default()
        }
    }
}
