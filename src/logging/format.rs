//! How a line looks: `[pid] 2026/11/22 01:16:38.596189 [INF] text`.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::{FATAL_TARGET, LogTime};

/// The three letters in a line's brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `INF`, from info events.
    Info,
    /// `WRN`, from warnings.
    Warn,
    /// `ERR`, from errors.
    Error,
    /// `DBG`, from debug events.
    Debug,
    /// `TRC`, from trace events: the protocol.
    Trace,
    /// `FTL`, from errors with the target [`FATAL_TARGET`].
    Fatal,
}

impl Label {
    pub(super) fn of(metadata: &Metadata<'_>) -> Self {
        match *metadata.level() {
            Level::ERROR if metadata.target() == FATAL_TARGET => Self::Fatal,
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }

    /// The letters.
    #[must_use]
    pub fn letters(self) -> &'static str {
        match self {
            Self::Info => "INF",
            Self::Warn => "WRN",
            Self::Error => "ERR",
            Self::Debug => "DBG",
            Self::Trace => "TRC",
            Self::Fatal => "FTL",
        }
    }

    /// The terminal colour, as the parameters of an SGR sequence.
    fn colour(self) -> &'static str {
        match self {
            Self::Info => "32",
            Self::Warn => "0;93",
            Self::Error | Self::Fatal => "31",
            Self::Debug => "36",
            Self::Trace => "33",
        }
    }
}

/// One line, not yet dressed: the writer adds process id, time and label.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) label: Label,
    pub(super) at: SystemTime,
    pub(super) text: String,
}

/// Writes an event's message and fields, without any prefix.
///
/// Text that a client chose (names, subjects) may be part of a message, so control
/// characters are written as escapes: nobody can forge a line or steer a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventText;

impl<S, N> FormatEvent<S, N> for EventText
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = FieldText { out: Escaped(&mut writer), begun: false, result: Ok(()) };
        event.record(&mut fields);
        fields.result
    }
}

struct FieldText<'a, W: fmt::Write> {
    out: Escaped<'a, W>,
    begun: bool,
    result: fmt::Result,
}

impl<W: fmt::Write> FieldText<'_, W> {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let blank = if std::mem::replace(&mut self.begun, true) { " " } else { "" };
        self.result = self.result.and_then(|()| match field.name() {
            "message" => write!(self.out, "{blank}{value}"),
            name => write!(self.out, "{blank}{name}={value}"),
        });
    }
}

impl<W: fmt::Write> Visit for FieldText<'_, W> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

struct Escaped<'a, W: fmt::Write>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(must_escape) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut letters = from.chars();
            for escaped in letters.next().into_iter().flat_map(char::escape_default) {
                self.0.write_char(escaped)?;
            }
            rest = letters.as_str();
        }
        self.0.write_str(rest)
    }
}

fn must_escape(letter: char) -> bool {
    letter != '\t' && letter.is_control()
}

/// Dresses lines for a stream or a file.
#[derive(Debug)]
pub(super) struct Stamp {
    pid: u32,
    zone: Option<TimeZone>,
    colours: bool,
    /// The second that `seconds_text` shows. Most lines share it with the line before.
    second: Option<i64>,
    seconds_text: String,
}

impl Stamp {
    pub(super) fn new(pid: u32, time: LogTime, colours: bool) -> Self {
        let zone = match time {
            LogTime::Local => Some(TimeZone::system()),
            LogTime::Utc => Some(TimeZone::UTC),
            LogTime::Off => None,
        };
        Self { pid, zone, colours, second: None, seconds_text: String::new() }
    }

    /// Appends the whole line with its newline.
    pub(super) fn dress(&mut self, line: &Line, out: &mut Vec<u8>) {
        out.extend_from_slice(b"[");
        push_display(out, self.pid);
        out.extend_from_slice(b"] ");
        if self.zone.is_some() {
            self.push_time(line.at, out);
        }
        let letters = line.label.letters();
        if self.colours {
            push_display(out, format_args!("[\x1b[{}m{letters}\x1b[0m] ", line.label.colour()));
        } else {
            push_display(out, format_args!("[{letters}] "));
        }
        out.extend_from_slice(line.text.as_bytes());
        out.push(b'\n');
    }

    fn push_time(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        // A clock before 1970 is wrong anyway; its lines say 1970.
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        if self.second != Some(second) {
            self.second = Some(second);
            self.seconds_text.clear();
            if let (Some(zone), Ok(instant)) = (&self.zone, Timestamp::from_second(second)) {
                let t = zone.to_datetime(instant);
                // Writing to a String cannot fail.
                let _ = write!(
                    self.seconds_text,
                    "{:04}/{:02}/{:02} {:02}:{:02}:{:02}",
                    t.year(),
                    t.month(),
                    t.day(),
                    t.hour(),
                    t.minute(),
                    t.second()
                );
            }
        }
        out.extend_from_slice(self.seconds_text.as_bytes());
        push_display(out, format_args!(".{:06} ", since.subsec_micros()));
    }
}

fn push_display(out: &mut Vec<u8>, value: impl fmt::Display) {
    // Writing to a Vec cannot fail.
    let _ = std::io::Write::write_fmt(out, format_args!("{value}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn dressed(stamp: &mut Stamp, label: Label, micros: u64, text: &str) -> String {
        let at = UNIX_EPOCH + Duration::from_micros(micros);
        let mut out = Vec::new();
        stamp.dress(&Line { label, at, text: text.into() }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_look_like_nats_servers() {
        let mut utc = Stamp::new(7, LogTime::Utc, false);
        let line = dressed(&mut utc, Label::Info, 1_795_310_198_596_189, "Server is ready");
        assert_eq!(line, "[7] 2026/11/22 01:16:38.596189 [INF] Server is ready\n");
        let next = dressed(&mut utc, Label::Trace, 1_795_310_198_600_001, "x");
        assert_eq!(next, "[7] 2026/11/22 01:16:38.600001 [TRC] x\n");
        let later = dressed(&mut utc, Label::Fatal, 1_795_310_199_000_000, "x");
        assert_eq!(later, "[7] 2026/11/22 01:16:39.000000 [FTL] x\n");
    }

    #[test]
    fn time_may_be_left_out_and_labels_coloured() {
        let mut bare = Stamp::new(43, LogTime::Off, false);
        assert_eq!(dressed(&mut bare, Label::Debug, 0, "x"), "[43] [DBG] x\n");
        let mut colours = Stamp::new(43, LogTime::Off, true);
        assert_eq!(dressed(&mut colours, Label::Warn, 0, "x"), "[43] [\x1b[0;93mWRN\x1b[0m] x\n");
        assert_eq!(dressed(&mut colours, Label::Error, 0, "x"), "[43] [\x1b[31mERR\x1b[0m] x\n");
    }

    #[test]
    fn local_time_is_the_zones() {
        let mut stamp = Stamp::new(1, LogTime::Utc, false);
        stamp.zone = Some(TimeZone::fixed(jiff::tz::offset(5)));
        assert_eq!(
            dressed(&mut stamp, Label::Info, 1_795_310_198_000_000, "x"),
            "[1] 2026/11/22 06:16:38.000000 [INF] x\n"
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut out = String::new();
        write!(Escaped(&mut out), "a\r\n[1] [FTL] b\x1b[2J\u{9b}\tc é").unwrap();
        assert_eq!(out, "a\\r\\n[1] [FTL] b\\u{1b}[2J\\u{9b}\tc é");
    }
}
