//! What the shards' JetStream parts tell each other: requests on their way to the shard that can
//! answer, and news for the catalog. Flat bytes, never leaving the process.

/// A request to the API or a message to one of its subjects, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Account id.
    pub account: u32,
    /// The shard of the client.
    pub origin: u16,
    /// As published.
    pub subject: &'a [u8],
    /// Where the answer goes, may be empty.
    pub reply: &'a [u8],
    /// Header block, may be empty.
    pub headers: &'a [u8],
    /// Body.
    pub body: &'a [u8],
    /// JSON about the client, may be empty.
    pub client: &'a [u8],
}

/// One parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parcel<'a> {
    /// To the home shard of the stream that the subject names.
    Home(Request<'a>),
    /// To shard 0.
    Meta(Request<'a>),
    /// From shard 0 to a home shard: the request is permitted, and the stream is to be so.
    Apply {
        /// The request that led to it.
        request: Request<'a>,
        /// What is to be done.
        action: Action,
        /// The stream's configuration as JSON.
        config: &'a [u8],
    },
    /// To a client's shard: the answer to a request that shard 0 passed on. That shard has known
    /// of the client's inbox for as long as the client has; others may hear of it later.
    Answer {
        /// Account id.
        account: u32,
        /// Where it goes.
        subject: &'a [u8],
        /// The answer.
        payload: &'a [u8],
    },
    /// To shard 0: a stream is here, with this configuration.
    Present {
        /// Account id.
        account: u32,
        /// JSON.
        config: &'a [u8],
    },
    /// To shard 0: a stream is not here, or no longer.
    Absent {
        /// Account id.
        account: u32,
        /// Name.
        stream: &'a [u8],
    },
    /// To shard 0: everything that a shard found at its start has been reported.
    Recovered,
    /// Shard 0 wants to know of streams.
    Ask {
        /// Which question this is.
        id: u64,
        /// Account id.
        account: u32,
        /// Names, one after the other, each closed by a line feed.
        streams: &'a [u8],
    },
    /// The answer: infos as JSON, one after the other, each closed by a line feed.
    Tell {
        /// To which question.
        id: u64,
        /// The infos.
        infos: &'a [u8],
    },
}

/// What shard 0 lets a home shard do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the stream.
    Create,
    /// Give it another configuration.
    Update,
    /// Make it from a backup.
    Restore,
    /// Delete it.
    Delete,
}

const HOME: u8 = 1;
const META: u8 = 2;
const APPLY: u8 = 3;
const PRESENT: u8 = 4;
const ABSENT: u8 = 5;
const RECOVERED: u8 = 6;
const ASK: u8 = 7;
const TELL: u8 = 8;
const ANSWER: u8 = 9;

fn push_piece(out: &mut Vec<u8>, piece: &[u8]) {
    out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
    out.extend_from_slice(piece);
}

fn push_request(out: &mut Vec<u8>, request: &Request<'_>) {
    out.extend_from_slice(&request.account.to_le_bytes());
    out.extend_from_slice(&request.origin.to_le_bytes());
    let Request { subject, reply, headers, body, client, .. } = *request;
    for piece in [subject, reply, headers, body, client] {
        push_piece(out, piece);
    }
}

impl Parcel<'_> {
    /// The parcel as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Home(request) => {
                out.push(HOME);
                push_request(out, request);
            }
            Self::Meta(request) => {
                out.push(META);
                push_request(out, request);
            }
            Self::Apply { request, action, config } => {
                out.push(APPLY);
                out.push(*action as u8);
                push_request(out, request);
                push_piece(out, config);
            }
            Self::Answer { account, subject, payload } => {
                out.push(ANSWER);
                out.extend_from_slice(&account.to_le_bytes());
                push_piece(out, subject);
                push_piece(out, payload);
            }
            Self::Present { account, config } => {
                out.push(PRESENT);
                out.extend_from_slice(&account.to_le_bytes());
                push_piece(out, config);
            }
            Self::Absent { account, stream } => {
                out.push(ABSENT);
                out.extend_from_slice(&account.to_le_bytes());
                push_piece(out, stream);
            }
            Self::Recovered => out.push(RECOVERED),
            Self::Ask { id, account, streams } => {
                out.push(ASK);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&account.to_le_bytes());
                push_piece(out, streams);
            }
            Self::Tell { id, infos } => {
                out.push(TELL);
                out.extend_from_slice(&id.to_le_bytes());
                push_piece(out, infos);
            }
        }
    }
}

/// Reads pieces one after the other.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn long(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn short(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*number))
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn piece(&mut self) -> Option<&'a [u8]> {
        let len = self.number()? as usize;
        let (piece, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(piece)
    }

    fn request(&mut self) -> Option<Request<'a>> {
        Some(Request {
            account: self.number()?,
            origin: self.short()?,
            subject: self.piece()?,
            reply: self.piece()?,
            headers: self.piece()?,
            body: self.piece()?,
            client: self.piece()?,
        })
    }
}

/// Reads a parcel; `None` for bytes that are none.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Parcel<'_>> {
    let mut pieces = Pieces(bytes);
    Some(match pieces.byte()? {
        HOME => Parcel::Home(pieces.request()?),
        META => Parcel::Meta(pieces.request()?),
        APPLY => {
            let action = match pieces.byte()? {
                0 => Action::Create,
                1 => Action::Update,
                2 => Action::Restore,
                _ => Action::Delete,
            };
            Parcel::Apply { action, request: pieces.request()?, config: pieces.piece()? }
        }
        ANSWER => Parcel::Answer {
            account: pieces.number()?,
            subject: pieces.piece()?,
            payload: pieces.piece()?,
        },
        PRESENT => Parcel::Present { account: pieces.number()?, config: pieces.piece()? },
        ABSENT => Parcel::Absent { account: pieces.number()?, stream: pieces.piece()? },
        RECOVERED => Parcel::Recovered,
        ASK => {
            Parcel::Ask { id: pieces.long()?, account: pieces.number()?, streams: pieces.piece()? }
        }
        TELL => Parcel::Tell { id: pieces.long()?, infos: pieces.piece()? },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_come_out_as_they_went_in() {
        let request = Request {
            account: 3,
            origin: 2,
            subject: b"$JS.API.INFO",
            reply: b"r",
            headers: b"",
            body: b"{}",
            client: b"{\"a\":1}",
        };
        let parcels = [
            Parcel::Home(request),
            Parcel::Meta(request),
            Parcel::Apply { request, action: Action::Restore, config: b"c" },
            Parcel::Present { account: 1, config: b"c" },
            Parcel::Answer { account: 1, subject: b"s", payload: b"p" },
            Parcel::Absent { account: 1, stream: b"S" },
            Parcel::Recovered,
            Parcel::Ask { id: 9, account: 1, streams: b"a\nb\n" },
            Parcel::Tell { id: 9, infos: b"" },
        ];
        let mut bytes = Vec::new();
        for parcel in parcels {
            parcel.encode(&mut bytes);
            assert_eq!(decode(&bytes), Some(parcel));
            for len in 0..bytes.len() {
                assert_eq!(decode(&bytes[..len]), None);
            }
        }
        assert_eq!(decode(&[99]), None);
    }
}
