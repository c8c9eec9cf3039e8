//! What to do with a fresh connection: send INFO, start TLS, or talk in clear.
//!
//! The order of INFO and handshake depends on three settings, and on mixed ports on the first
//! byte that arrives. Behaviour as observed on nats-server 2.15.1:
//!
//! ```text
//! tls  handshake_first  allow_non_tls   on accept       then
//! no   -                -               INFO            plain
//! yes  off              no              INFO, TLS       (a first byte that is not TLS fails there)
//! yes  off              yes             INFO            first byte 0x16: TLS, else plain
//! yes  on               any             TLS             INFO after the handshake
//! yes  auto             no              wait            bytes: TLS; timer: INFO, TLS
//! yes  auto             yes             wait            bytes: TLS; timer: INFO, then as row 3
//! ```

/// Content type of a TLS handshake record: the first byte of every ClientHello.
pub const HANDSHAKE_BYTE: u8 = 0x16;

/// How long `handshake_first: auto` waits for a ClientHello before INFO goes out: 50 ms.
pub const AUTO_DELAY_NS: u64 = 50_000_000;

/// The `handshake_first` setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO goes out in clear, the handshake follows.
    #[default]
    Off,
    /// The handshake comes first, INFO goes out encrypted.
    On,
    /// A client that starts the handshake within the delay is served as with `On`, others as
    /// with `Off`.
    Auto {
        /// Time to wait for the first byte, in nanoseconds.
        delay_ns: u64,
    },
}

/// What the driver has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStep {
    /// Send INFO in clear, and ask again with [`FirstBytes::after_info`].
    SendInfo,
    /// Create the TLS session and feed it everything received so far.
    StartTls {
        /// INFO has not been sent: send it as soon as the handshake is done.
        info_owed: bool,
    },
    /// Talk in clear; everything received so far is protocol.
    Plain,
    /// Nothing yet; call [`FirstBytes::on_timer`] after this time unless bytes come first.
    WaitTimer {
        /// From accept, in nanoseconds.
        delay_ns: u64,
    },
    /// Nothing yet; the next bytes decide.
    WaitBytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    AutoWaiting,
    InfoSent,
    Sniffing,
    Decided,
}

/// The small machine that gives a fresh connection its transport.
///
/// Lives on: the shard that accepted the socket, until it has decided.
#[derive(Clone, Copy, Debug)]
pub struct FirstBytes {
    handshake_first: HandshakeFirst,
    tls: bool,
    allow_non_tls: bool,
    state: State,
}

impl FirstBytes {
    /// A connection on a listener without TLS.
    pub fn plain() -> Self {
        Self {
            handshake_first: HandshakeFirst::Off,
            tls: false,
            allow_non_tls: true,
            state: State::Fresh,
        }
    }

    /// A connection on a listener with TLS.
    pub fn tls(handshake_first: HandshakeFirst, allow_non_tls: bool) -> Self {
        Self { handshake_first, tls: true, allow_non_tls, state: State::Fresh }
    }

    /// The first step, right after accept.
    pub fn on_accept(&mut self) -> FirstStep {
        match (self.tls, self.handshake_first) {
            (false, _) | (true, HandshakeFirst::Off) => self.send_info(),
            (true, HandshakeFirst::On) => self.start_tls(true),
            (true, HandshakeFirst::Auto { delay_ns }) => {
                self.state = State::AutoWaiting;
                FirstStep::WaitTimer { delay_ns }
            }
        }
    }

    /// The step that follows [`FirstStep::SendInfo`].
    pub fn after_info(&mut self) -> FirstStep {
        if self.state != State::InfoSent {
            return FirstStep::WaitBytes;
        }
        if !self.tls {
            self.state = State::Decided;
            return FirstStep::Plain;
        }
        if self.allow_non_tls {
            self.state = State::Sniffing;
            return FirstStep::WaitBytes;
        }
        self.start_tls(false)
    }

    /// Bytes arrived before the transport was decided; they stay with the caller.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> FirstStep {
        let Some(&first) = bytes.first() else {
            return FirstStep::WaitBytes;
        };
        match self.state {
            // Whoever speaks before INFO can only mean TLS; the session refuses anything else.
            State::AutoWaiting => self.start_tls(true),
            State::Sniffing if first == HANDSHAKE_BYTE => self.start_tls(false),
            State::Sniffing => {
                self.state = State::Decided;
                FirstStep::Plain
            }
            State::Fresh | State::InfoSent | State::Decided => FirstStep::WaitBytes,
        }
    }

    /// The delay of [`FirstStep::WaitTimer`] is over; late or stray calls change nothing.
    pub fn on_timer(&mut self) -> FirstStep {
        match self.state {
            State::AutoWaiting => self.send_info(),
            _ => FirstStep::WaitBytes,
        }
    }

    /// Whether TLS or plain has been chosen.
    pub fn is_decided(&self) -> bool {
        self.state == State::Decided
    }

    fn send_info(&mut self) -> FirstStep {
        self.state = State::InfoSent;
        FirstStep::SendInfo
    }

    fn start_tls(&mut self, info_owed: bool) -> FirstStep {
        self.state = State::Decided;
        FirstStep::StartTls { info_owed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: HandshakeFirst = HandshakeFirst::Auto { delay_ns: AUTO_DELAY_NS };

    #[test]
    fn without_tls_info_then_plain() {
        let mut first = FirstBytes::plain();
        assert_eq!(first.on_accept(), FirstStep::SendInfo);
        assert!(!first.is_decided());
        assert_eq!(first.after_info(), FirstStep::Plain);
        assert!(first.is_decided());
    }

    #[test]
    fn required_tls_follows_info() {
        let mut first = FirstBytes::tls(HandshakeFirst::Off, false);
        assert_eq!(first.on_accept(), FirstStep::SendInfo);
        let owed = FirstStep::StartTls { info_owed: false };
        assert_eq!(first.after_info(), owed);
    }

    #[test]
    fn handshake_first_wins_over_allow_non_tls() {
        for mixed in [false, true] {
            let mut first = FirstBytes::tls(HandshakeFirst::On, mixed);
            let owed = FirstStep::StartTls { info_owed: true };
            assert_eq!(first.on_accept(), owed);
            assert!(first.is_decided());
        }
    }

    #[test]
    fn auto_takes_early_bytes_for_tls() {
        for mixed in [false, true] {
            for bytes in [&b"\x16\x03\x01"[..], b"CONNECT"] {
                let mut first = FirstBytes::tls(AUTO, mixed);
                let wait = FirstStep::WaitTimer { delay_ns: 50_000_000 };
                assert_eq!(first.on_accept(), wait);
                assert_eq!(first.on_bytes(b""), FirstStep::WaitBytes);
                let owed = FirstStep::StartTls { info_owed: true };
                assert_eq!(first.on_bytes(bytes), owed);
                // The timer may still fire; the decision stands.
                assert_eq!(first.on_timer(), FirstStep::WaitBytes);
                assert!(first.is_decided());
            }
        }
    }

    #[test]
    fn auto_sends_info_when_the_client_is_silent() {
        let mut first = FirstBytes::tls(AUTO, false);
        first.on_accept();
        assert_eq!(first.on_timer(), FirstStep::SendInfo);
        let after = FirstStep::StartTls { info_owed: false };
        assert_eq!(first.after_info(), after);
    }

    #[test]
    fn auto_on_a_mixed_port_sniffs_after_info() {
        let mut first = FirstBytes::tls(AUTO, true);
        first.on_accept();
        assert_eq!(first.on_timer(), FirstStep::SendInfo);
        assert_eq!(first.after_info(), FirstStep::WaitBytes);
        assert_eq!(first.on_bytes(b"CONNECT {}\r\n"), FirstStep::Plain);
    }

    #[test]
    fn mixed_port_looks_at_the_first_byte_only() {
        let mut first = FirstBytes::tls(HandshakeFirst::Off, true);
        assert_eq!(first.on_accept(), FirstStep::SendInfo);
        assert_eq!(first.after_info(), FirstStep::WaitBytes);
        let tls = FirstStep::StartTls { info_owed: false };
        assert_eq!(first.on_bytes(&[HANDSHAKE_BYTE]), tls);

        let mut first = FirstBytes::tls(HandshakeFirst::Off, true);
        first.on_accept();
        first.after_info();
        assert_eq!(first.on_timer(), FirstStep::WaitBytes);
        assert_eq!(first.on_bytes(b"P"), FirstStep::Plain);
    }
}
