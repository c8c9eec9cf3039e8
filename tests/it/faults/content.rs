//! Messages whose whole content follows from who wrote them and which one it is, so that any of
//! them can be checked wherever it turns up.

use super::Dice;

/// From this number on, writers are brief.
pub(super) const BRIEF: usize = 1000;

/// Who wrote a message, and which of the writer's messages it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) writer: usize,
    pub(super) number: u64,
}

impl Origin {
    /// What the message says: mostly short, sometimes longer than a block of the disk, now and
    /// then much longer; always short from writers whose number is large.
    pub(super) fn payload(self) -> Vec<u8> {
        let mut dice = Dice(self.number << 8 | self.writer as u64);
        let size = match dice.below(200) {
            0 if self.writer < BRIEF => dice.below(200_000),
            1..=8 if self.writer < BRIEF => dice.below(20_000),
            _ => dice.below(600),
        };
        let mut payload = format!("{}:{}:", self.writer, self.number).into_bytes();
        payload.extend((0..size).map(|_| b'a' + (dice.next() >> 40) as u8 % 26));
        payload
    }

    /// Whose message this is; fails the test when the bytes are not the ones that were written.
    pub(super) fn of(payload: &[u8]) -> Self {
        let text = String::from_utf8_lossy(payload);
        let mut fields = text.split(':');
        let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
        let (Some(writer), Some(number)) = (number(), number()) else {
            panic!("not a message that anybody wrote: {:?}", &text[..text.len().min(80)]);
        };
        let origin = Self { writer: usize::try_from(writer).unwrap(), number };
        assert!(origin.payload() == payload, "the payload of {origin:?} is not what was written");
        origin
    }
}
