//! Flow control of a push consumer: how much may be on its way to the receiver (ADR-9), and how
//! fast it may go there.

/// Bytes on their way at the start.
const WINDOW_MIN: usize = 2 << 20;
/// Most bytes on their way.
const WINDOW_MAX: usize = 32 << 20;

/// The window of bytes that the receiver has not confirmed.
#[derive(Debug)]
pub struct Window {
    size: usize,
    on_way: usize,
    /// The question that is out: its number and the bytes that its answer confirms.
    asked: Option<(u64, usize)>,
    last_number: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { size: WINDOW_MIN, on_way: 0, asked: None, last_number: 0 }
    }
}

impl Window {
    /// Whether another message may go.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.on_way < self.size
    }

    /// A message went.
    pub fn note_sent(&mut self, bytes: usize) {
        self.on_way += bytes;
    }

    /// Whether the receiver should be asked now; the number of the question. `at_once` is not to
    /// wait until enough is on its way.
    pub fn ask(&mut self, at_once: bool) -> Option<u64> {
        if self.asked.is_some() || (!at_once && self.on_way <= self.size / 2) {
            return None;
        }
        self.last_number += 1;
        self.asked = Some((self.last_number, self.on_way));
        Some(self.last_number)
    }

    /// The number of the question that is out.
    #[must_use]
    pub fn asked(&self) -> Option<u64> {
        self.asked.map(|(number, _)| number)
    }

    /// The receiver answered a question. True when it was the one that is out.
    pub fn handle_answer(&mut self, number: u64) -> bool {
        let Some((asked, bytes)) = self.asked.filter(|(asked, _)| *asked == number) else {
            return false;
        };
        debug_assert_eq!(asked, number);
        self.asked = None;
        self.on_way = self.on_way.saturating_sub(bytes);
        self.size = (self.size * 2).min(WINDOW_MAX);
        true
    }
}

/// A bucket of bytes that fills at a rate.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When what was sent so far may have been sent, monotonic ns.
    free_at_ns: u64,
}

impl Rate {
    /// A rate in bytes a second, above zero.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at_ns: 0 }
    }

    /// When the next message may go, monotonic ns; not later than now is at once.
    #[must_use]
    pub fn free_at_ns(&self) -> u64 {
        self.free_at_ns
    }

    /// A message went.
    pub fn note_sent(&mut self, bytes: usize, now_ns: u64) {
        let cost = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second;
        self.free_at_ns = self.free_at_ns.max(now_ns).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_closes_asks_and_grows() {
        let mut window = Window::default();
        window.note_sent(WINDOW_MIN / 2);
        assert_eq!(window.ask(false), None);
        window.note_sent(WINDOW_MIN / 2);
        assert!(!window.is_open());
        let number = window.ask(false).unwrap();
        assert_eq!(window.ask(false), None);
        assert!(!window.handle_answer(number + 1));
        assert!(window.handle_answer(number));
        assert!(window.is_open());
        assert_eq!(window.size, 2 * WINDOW_MIN);
        for _ in 0..10 {
            window.note_sent(window.size);
            let number = window.ask(false).unwrap();
            assert!(window.handle_answer(number));
        }
        assert_eq!(window.size, WINDOW_MAX);
    }

    #[test]
    fn a_rate_spaces_messages() {
        let mut rate = Rate::new(1000);
        rate.note_sent(500, 10);
        assert_eq!(rate.free_at_ns(), 500_000_010);
        rate.note_sent(500, 600_000_000);
        assert_eq!(rate.free_at_ns(), 1_100_000_000);
    }
}
