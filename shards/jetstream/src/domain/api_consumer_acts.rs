//! Requests that act on a consumer and leave its definition: pause, unpin, reset.

use wire::api::errors::{self, ApiError};
use wire::api::requests::{PauseRequest, ResetRequest};
use wire::api::responses::{ConsumerReset, Empty, Paused};
use wire::api::types::{ResponseType, encode_response};
use wire::json::to_go_string;

use super::Shop;
use super::api_consumer::{set_level, show_levels};
use super::early::read_unpin;
use super::home::Home;
use super::parcel::Request;
use crate::consumer::group::Unpinned;

impl Home {
    pub(super) fn pause_consumer(
        &mut self,
        name: &str,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        let body: PauseRequest = shop.read(request)?;
        let slot = self.slot_of(name)?;
        let config = self.consumers.get(slot as usize).map(|consumer| &*consumer.config);
        self.admit(to_go_string(&config).len())?;
        let paused = self.with(slot, shop, |consumer, cx| consumer.pause(body.pause_until, cx));
        if let Some(consumer) = self.consumers.get_mut(slot as usize) {
            set_level(&mut consumer.config);
        }
        self.write_consumer(slot);
        self.enqueue(slot);
        let left_ns = body.pause_until.0.saturating_sub(shop.ctx.unix_ns);
        let paused = paused.unwrap_or(false);
        let answer = Paused {
            paused,
            pause_until: body.pause_until,
            pause_remaining_ns: if paused { left_ns } else { 0 },
        };
        self.answer_later(request, encode_response(ResponseType::ConsumerPause, &answer));
        Ok(())
    }

    pub(super) fn unpin_consumer(
        &mut self,
        name: &str,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        let body = read_unpin(request)?;
        let slot = self.slot_of(name)?;
        let Some(consumer) = self.consumers.get(slot as usize) else {
            return Err(errors::CONSUMER_NOT_FOUND);
        };
        if !consumer.settings.groups.iter().any(|group| **group == *body.group) {
            return Err(errors::CONSUMER_INVALID_PRIORITY_GROUP);
        }
        self.with(slot, shop, |consumer, cx| consumer.unpin(&body.group, Unpinned::Admin, cx));
        self.enqueue(slot);
        shop.answer(request, ResponseType::ConsumerUnpin, &Empty {});
        Ok(())
    }

    pub(super) fn reset_consumer(
        &mut self,
        name: &str,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        // nats-server listens for this request per consumer: without one nobody answers.
        let Ok(slot) = self.slot_of(name) else { return Ok(()) };
        let body: ResetRequest = shop.read(request)?;
        self.admit(0)?;
        let reset = self.with(slot, shop, |consumer, cx| consumer.reset(body.seq, cx));
        let reset_seq = reset.unwrap_or(Err(errors::CONSUMER_NOT_FOUND))?;
        self.with(slot, shop, |consumer, _| consumer.write_at_once());
        self.enqueue(slot);
        let Some(mut info) = self.consumer_info(slot, shop) else { return Ok(()) };
        if let Some(config) = &mut info.config {
            show_levels(&mut config.metadata, super::api_stream::VERSION);
        }
        let body = ConsumerReset { info, reset_seq };
        self.answer_later(request, encode_response(ResponseType::ConsumerReset, &body));
        Ok(())
    }
}
