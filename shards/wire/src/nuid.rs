//! NATS unique ids: 22 characters of base 62, twelve random ones and a counter of ten that moves
//! in random steps. Cheap to make and unique without asking anybody.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Characters of an id.
pub const NUID_LEN: usize = 22;

const PREFIX_LEN: usize = 12;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE: u64 = 62;
/// 62 to the power of ten: one more than the largest counter.
const COUNTER_END: u64 = 839_299_365_868_340_224;
const STEP_MIN: u64 = 33;
const STEP_MAX: u64 = 333;

/// A source of ids. Two sources with different seeds never meet in practice; ids are unique, not
/// secret: whoever sees one can guess the next.
#[derive(Debug, Clone)]
pub struct Nuid {
    random: u64,
    prefix: [u8; PREFIX_LEN],
    counter: u64,
    step: u64,
}

impl Nuid {
    /// A source that is fully determined by 32 bytes, which should come from the system's random
    /// numbers, or from the seed of a simulation.
    pub fn new(seed: [u8; 32]) -> Self {
        let mut words = seed
            .chunks_exact(8)
            .map(|chunk| chunk.iter().fold(0_u64, |word, &byte| (word << 8) | u64::from(byte)));
        let mut word = || words.next().unwrap_or_default();
        let mut source =
            Self { random: word(), prefix: [b'0'; PREFIX_LEN], counter: 0, step: STEP_MIN };
        source.renew([word(), word()], word());
        source
    }

    /// The next id.
    pub fn next_id(&mut self) -> [u8; NUID_LEN] {
        self.counter = self.counter.wrapping_add(self.step);
        if self.counter >= COUNTER_END {
            let prefix = [self.draw(), self.draw()];
            let start = self.draw();
            self.renew(prefix, start);
        }
        let mut id = [b'0'; NUID_LEN];
        let mut rest = self.counter;
        for (at, digit) in id.iter_mut().enumerate().rev() {
            if let Some(&letter) = self.prefix.get(at) {
                *digit = letter;
            } else {
                *digit = letter_of(rest % BASE);
                rest /= BASE;
            }
        }
        id
    }

    /// The next id as text.
    pub fn next_text(&mut self) -> String {
        self.next_id().into_iter().map(char::from).collect()
    }

    /// Starts over with a new prefix, a new counter and a new step.
    fn renew(&mut self, prefix: [u64; 2], start: u64) {
        let [mut low, mut high] = prefix;
        for (at, letter) in self.prefix.iter_mut().enumerate() {
            // Six base 62 digits from each word leave no visible bias: 62^6 is below 2^36.
            let word = if at < PREFIX_LEN / 2 { &mut low } else { &mut high };
            *letter = letter_of(*word % BASE);
            *word /= BASE;
        }
        self.counter = start % COUNTER_END;
        let spread = STEP_MAX.saturating_sub(STEP_MIN);
        self.step = STEP_MIN.saturating_add(self.draw().checked_rem(spread).unwrap_or_default());
    }

    /// SplitMix64: one add and a few shifts, every 64-bit state once.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

/// The letter of a digit below 62.
fn letter_of(digit: u64) -> u8 {
    usize::try_from(digit).ok().and_then(|at| DIGITS.get(at)).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_repeatable() {
        let seed: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let (mut one, mut two) = (Nuid::new(seed), Nuid::new(seed));
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let id = one.next_id();
            assert_eq!(id, two.next_id());
            assert!(id.iter().all(u8::is_ascii_alphanumeric));
            assert!(seen.insert(id));
        }
        assert_eq!(one.next_text().len(), NUID_LEN);
        assert_ne!(Nuid::new([1; 32]).next_id(), Nuid::new([2; 32]).next_id());
    }

    #[test]
    fn the_counter_starts_over_with_a_new_prefix() {
        let mut source = Nuid::new([7; 32]);
        let before = source.next_id();
        source.counter = COUNTER_END - 1;
        let after = source.next_id();
        assert_ne!(before[..PREFIX_LEN], after[..PREFIX_LEN]);
        assert!(source.counter < COUNTER_END);
    }
}
