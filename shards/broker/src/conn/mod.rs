//! One client connection as the shard knows it. Lives on: the shard that owns the socket.
//!
//! ```text
//!  Greeting ──CONNECT──► Verifying (bcrypt elsewhere) ──► Ready ──close──► Closing
//!      └───────────── no login needed: Ready from the start
//! ```

mod input;
mod lifecycle;
mod login;
mod operations;
pub mod outbox;
mod ping;
mod subscribe;

pub use input::Progress;
pub use lifecycle::Accepted;

use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::auth::Rights;
use crate::index::SubId;
use crate::publish::PlanKey;
use outbox::Outbox;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// INFO was sent, a login is required and has not come.
    Greeting,
    /// A helper verifies the password.
    Verifying,
    /// May publish and subscribe.
    Ready,
    /// Will be closed at the end of the turn.
    Closing,
}

/// Why a connection's input is not looked at, as bits.
pub mod paused {
    /// A PING waits for the flush barrier.
    pub const BARRIER: u8 = 1;
    /// A receiver of its messages is behind.
    pub const HOLD: u8 = 2;
    /// The ring to another shard is full.
    pub const PEER: u8 = 4;
    /// A login is being verified.
    pub const LOGIN: u8 = 8;
}

/// Counters of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Messages from the client.
    pub in_msgs: u64,
    /// Their headers and payloads, bytes.
    pub in_bytes: u64,
    /// Messages to the client.
    pub out_msgs: u64,
    /// Their headers and payloads, bytes.
    pub out_bytes: u64,
    /// Times that its reads were held for a receiver.
    pub stalls: u64,
}

/// What the client said about itself, and TLS; set rarely, read by monitoring.
#[derive(Debug, Default)]
pub struct Described {
    /// `name` of CONNECT.
    pub name: String,
    /// `lang` of CONNECT.
    pub lang: String,
    /// `version` of CONNECT.
    pub version: String,
    /// User it logged in as.
    pub user: String,
    /// TLS version as Go prints it.
    pub tls_version: &'static str,
    /// Cipher suite.
    pub tls_cipher: String,
    /// The handshake came before INFO.
    pub tls_first: bool,
    /// Client certificates: subject, SPKI SHA-256, certificate SHA-256.
    pub tls_peer_certs: Vec<[String; 3]>,
}

/// The last subject that a connection published to.
#[derive(Debug, Default)]
pub(crate) struct LastSubject {
    pub(crate) subject: Vec<u8>,
    pub(crate) key: PlanKey,
}

/// A receiver's or publisher's part in holding, see [`crate::hold`].
#[derive(Debug, Default)]
pub(crate) struct HoldState {
    /// As a publisher: until when its reads are held at most.
    pub(crate) until_ns: u64,
    /// As a publisher: receivers that kept up when it fed them.
    pub(crate) fed: crate::hold::Fed,
    /// As a publisher: who holds it, slot and generation, and how much that one had sent.
    pub(crate) held_by: Option<(u32, u32, u64)>,
    /// As a receiver: publishers that wait for it here.
    pub(crate) waiters: Vec<(u32, u32)>,
    /// As a receiver: publishers that wait for it on other shards.
    pub(crate) remote_waiters: Vec<(u16, crate::mesh::Origin)>,
    /// As a receiver: budget for contested holds used up, ns.
    pub(crate) contested_used_ns: u64,
    /// As a receiver: when the budget was last refilled.
    pub(crate) refilled_ns: u64,
    /// As a receiver: when a hold last ended without progress.
    pub(crate) stuck_at_sent: Option<u64>,
}

pub(crate) type SidMap = HashMap<u64, SubId, FixedState>;

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// Unique in the process.
    pub cid: u64,
    /// Rises when the slot is used again.
    pub generation: u32,
    /// How far it has come.
    pub phase: Phase,
    /// Why its input waits, bits of [`paused`].
    pub paused: u8,
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    pub(crate) protocol: u8,
    pub(crate) connected: bool,
    pub(crate) first_pong_sent: bool,
    pub(crate) dirty: bool,
    /// The socket took less than was offered.
    pub(crate) blocked: bool,
    /// Account id.
    pub account: u32,
    /// Whether the account's connection count includes this one.
    pub(crate) counted: bool,
    pub(crate) max_payload: usize,
    pub(crate) max_subscriptions: Option<usize>,
    pub(crate) outbox: Outbox,
    pub(crate) partial: Vec<u8>,
    pub(crate) last_subject: LastSubject,
    /// Counters.
    pub traffic: Traffic,
    pub(crate) sent_bytes: u64,
    pub(crate) last_emit: u64,
    pub(crate) barrier: Vec<(u16, u64)>,
    pub(crate) subs: SidMap,
    pub(crate) odd_sids: Vec<Box<[u8]>>,
    pub(crate) rights: Rights,
    pub(crate) hold: HoldState,
    pub(crate) pings_out: u32,
    pub(crate) ping_sent_ns: u64,
    pub(crate) rtt_ns: u64,
    pub(crate) last_input_ns: u64,
    pub(crate) blocked_since_ns: u64,
    pub(crate) write_timer: bool,
    /// Client's address.
    pub ip: IpAddr,
    /// Client's port.
    pub port: u16,
    pub(crate) start_wall_ns: i64,
    pub(crate) last_activity_wall_ns: i64,
    pub(crate) nonce: String,
    /// What the client said about itself.
    pub described: Box<Described>,
    /// Who logged in; `None` when no login was needed.
    pub(crate) identity: Option<crate::auth::Identity>,
    /// A login was tried and refused.
    pub(crate) refused_login: bool,
    pub(crate) close_reason: Option<wire::client::errors::ClosedReason>,
}

/// One subscription. Lives on: the shard of its connection.
#[derive(Debug)]
pub struct Sub {
    /// Slot of the connection.
    pub conn: u32,
    /// Account id.
    pub account: u32,
    /// Subscription id, see [`Conn::sid_of`].
    pub(crate) sid: u64,
    /// Deliveries after which it ends; 0 is never.
    pub(crate) max: u64,
    /// Deliveries so far.
    pub(crate) delivered: u64,
    /// Every delivery must be checked against the permissions.
    pub(crate) filtered: bool,
    /// Subject or pattern.
    pub subject: Box<[u8]>,
    /// Queue group.
    pub queue: Option<Box<[u8]>>,
}

/// Marks a sid that is not a plain decimal number; the rest is a position in `odd_sids`.
const ODD_SID: u64 = 1 << 63;

impl Conn {
    /// The key of a sid: its value when it is a canonical decimal, else its place among the odd
    /// ones. `None` when it is odd and unknown.
    pub(crate) fn find_sid(&self, sid: &[u8]) -> Option<u64> {
        decimal(sid).or_else(|| {
            let at = self.odd_sids.iter().position(|odd| **odd == *sid)?;
            Some(ODD_SID | at as u64)
        })
    }

    /// As [`Self::find_sid`], remembering an unknown odd one.
    pub(crate) fn intern_sid(&mut self, sid: &[u8]) -> u64 {
        self.find_sid(sid).unwrap_or_else(|| {
            self.odd_sids.push(sid.into());
            ODD_SID | (self.odd_sids.len() as u64 - 1)
        })
    }

    /// Appends a sid as the client wrote it.
    pub(crate) fn push_sid(&self, sid: u64, out: &mut Vec<u8>) {
        if sid & ODD_SID == 0 {
            wire::client::encode::push_u64(out, sid);
        } else if let Some(odd) = self.odd_sids.get((sid & !ODD_SID) as usize) {
            out.extend_from_slice(odd);
        }
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.outbox.pending_bytes()
    }
}

/// The value of a canonical decimal (no sign, no leading zero) below 2^63.
fn decimal(text: &[u8]) -> Option<u64> {
    let canonical = match text {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 18 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    canonical.then(|| text.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_decimals_are_numbers() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"184"), Some(184));
        for odd in [&b""[..], b"01", b"-1", b"1a", b"9999999999999999999", b"x"] {
            assert_eq!(decimal(odd), None);
        }
    }
}
