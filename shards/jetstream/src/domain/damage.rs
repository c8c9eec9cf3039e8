//! Damage that is found while a stream is served: by its scrub, by a read or by a compaction. It
//! goes where damage goes that a start finds: into the log and into the stream's info. And what a
//! stop leaves undone, which the log says.

use std::fmt::Write as _;

use store::Finding;

use super::Shop;
use super::home::Home;
use crate::effect::Level;

/// Places and ranges that one line names.
const NAMED_MAX: usize = 100;

impl Home {
    /// Tells of damage that was found since the last call.
    pub(crate) fn tell_findings(&mut self, shop: &mut Shop<'_, '_>) {
        for finding in self.stream.store.take_findings() {
            let stream = self.named(shop);
            let (level, text) = told(&stream, &finding);
            shop.fx.log(level, text);
            add_ranges(&mut self.lost, &finding.lost);
        }
    }

    fn named(&self, shop: &Shop<'_, '_>) -> String {
        let account = shop.settings.account(self.stream.id.account);
        let account = account.map_or("", |account| account.name.as_str());
        format!("JetStream stream '{account} > {}'", self.stream.name())
    }

    /// Tells once what a stop leaves to the next start for want of space.
    pub(super) fn tell_unfinished(&mut self, shop: &mut Shop<'_, '_>) {
        let count = self.stream.store.erasing_count();
        if count == 0 || std::mem::replace(&mut self.told_unfinished, true) {
            return;
        }
        let stream = self.named(shop);
        let text = format!(
            "{stream}: messages that are removed, and whose bytes could not be overwritten before \
             the end: {count}; the next start goes on with it"
        );
        shop.fx.log(Level::Warn, text);
    }
}

/// The line for the log.
fn told(stream: &str, finding: &Finding) -> (Level, String) {
    let segment = finding.segment;
    let why = finding.error.map(|error| format!("{error}")).unwrap_or_default();
    if finding.damage.is_empty() {
        let text = if finding.is_header_damaged {
            format!("{stream}: a copy of the header of segment {segment} is damaged")
        } else {
            format!("{stream}: segment {segment} cannot be verified: {why}")
        };
        return (Level::Warn, text);
    }
    let lost = listed(finding.lost.iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    }));
    let places = listed(finding.damage.iter().map(|place| {
        let (from, to) = (place.offset, place.offset.saturating_add(place.len));
        format!("{from}-{to}")
    }));
    let mut text = format!(
        "{stream} is damaged: sequences lost: [{lost}]; segment {segment}, bytes [{places}]"
    );
    if finding.is_header_damaged {
        text.push_str("; its header too");
    }
    if finding.unreadable_blocks > 0 {
        // Writing into a text does not fail.
        let _ = write!(text, "; blocks that cannot be read: {}, {why}", finding.unreadable_blocks);
    }
    (Level::Error, text)
}

fn listed(mut items: impl Iterator<Item = String>) -> String {
    let named: Vec<String> = items.by_ref().take(NAMED_MAX).collect();
    let more = items.count();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &rest
}

/// Adds ranges to others; what touches becomes one.
fn add_ranges(ranges: &mut Vec<(u64, u64)>, more: &[(u64, u64)]) {
    ranges.extend_from_slice(more);
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let touches = next.0 <= before.1.saturating_add(1);
        if touches {
            before.1 = before.1.max(next.1);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use store::disk::DiskError;
    use store::log::Damage;

    use super::*;

    #[test]
    fn ranges_are_joined() {
        let mut ranges = vec![(10, 12), (40, 40)];
        add_ranges(&mut ranges, &[(1, 2), (13, 14), (11, 12), (41, 50), (60, 60)]);
        assert_eq!(ranges, [(1, 2), (10, 14), (40, 50), (60, 60)]);
        add_ranges(&mut ranges, &[]);
        assert_eq!(ranges.len(), 4);
    }

    #[test]
    fn a_line_names_stream_sequences_segment_and_place() {
        let place = |offset, first_seq, last_seq| {
            let (segment, len) = (3, 120);
            Damage { segment, offset, len, first_seq, last_seq }
        };
        let mut finding = Finding {
            segment: 3,
            damage: vec![place(20_480, 5, 5), place(30_000, 7, 9)],
            lost: vec![(5, 5), (7, 9)],
            ..Finding::default()
        };
        let (level, text) = told("S", &finding);
        let expected = "S is damaged: sequences lost: [5, 7-9]; segment 3, bytes [20480-20600, \
                        30000-30120]";
        assert_eq!((level, text.as_str()), (Level::Error, expected));
        (finding.unreadable_blocks, finding.error) = (2, Some(DiskError::Os(5)));
        let (_, text) = told("S", &finding);
        assert!(text.ends_with("; blocks that cannot be read: 2, input/output error 5"), "{text}");
        finding = Finding { segment: 4, is_header_damaged: true, ..Finding::default() };
        assert_eq!(told("S", &finding).0, Level::Warn);
        finding = Finding { segment: 4, error: Some(DiskError::Os(24)), ..Finding::default() };
        let (_, text) = told("S", &finding);
        assert_eq!(text, "S: segment 4 cannot be verified: input/output error 24");
    }

    #[test]
    fn long_lists_are_cut() {
        let text = listed((0..150).map(|number| number.to_string()));
        assert!(text.ends_with("98, 99 and 50 more"), "{text}");
    }
}
