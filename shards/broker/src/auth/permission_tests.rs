//! Permissions against what nats-server 2.15.1 was seen to do, and against their own promise:
//! whatever is delivered is allowed.

use std::sync::Arc;

use proptest::prelude::*;
use wire::subject;

use super::*;
use SubscribeVerdict::{Allowed, AllowedButFilter, Denied};

fn texts(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|&entry| entry.to_owned()).collect()
}

fn publish(allow: &[&str], deny: &[&str]) -> PermissionSettings {
    PermissionSettings {
        publish: RuleSettings { allow: Some(texts(allow)), deny: texts(deny) },
        ..PermissionSettings::default()
    }
}

fn subscribe(allow: &[&str], deny: &[&str]) -> PermissionSettings {
    PermissionSettings {
        subscribe: RuleSettings { allow: Some(texts(allow)), deny: texts(deny) },
        ..PermissionSettings::default()
    }
}

fn compiled(settings: &PermissionSettings) -> Permissions {
    Permissions::compile(settings).unwrap()
}

/// `"subject"` or `"subject queue"`.
fn split(text: &str) -> (&[u8], Option<&[u8]>) {
    match text.split_once(' ') {
        Some((subject, queue)) => (subject.as_bytes(), Some(queue.as_bytes())),
        None => (text.as_bytes(), None),
    }
}

fn verdict(permissions: &Permissions, text: &str) -> SubscribeVerdict {
    let (subject, queue) = split(text);
    permissions.can_subscribe(subject, queue)
}

/// What of `published` a subscription gets; nothing when it is refused.
fn received<'p>(permissions: &Permissions, text: &str, published: &[&'p str]) -> Vec<&'p str> {
    let (pattern, queue) = split(text);
    let verdict = permissions.can_subscribe(pattern, queue);
    published
        .iter()
        .copied()
        .filter(|subject| match verdict {
            Denied => false,
            Allowed => subject::matches(pattern, subject.as_bytes()),
            AllowedButFilter => {
                subject::matches(pattern, subject.as_bytes())
                    && permissions.can_receive(subject.as_bytes(), queue)
            }
        })
        .collect()
}

#[test]
fn publish_lists() {
    let rules = compiled(&publish(&["ok.*"], &["ok.x"]));
    for (subject, allowed) in [
        ("ok", false),
        ("ok.a", true),
        ("ok.x", false),
        ("ok.*", true),
        ("ok.>", true),
        ("ok.a.b", false),
    ] {
        assert_eq!(rules.can_publish(subject.as_bytes()), allowed, "{subject}");
    }
    let all = compiled(&publish(&[">"], &[]));
    assert!(all.can_publish(b"a.b") && !all.can_publish(b"a..b") && !all.can_publish(b"a."));
    let deny_only = compiled(&publish(&[], &["q"]));
    assert!(deny_only.can_publish(b"a..b") && !deny_only.can_publish(b"q"));
}

#[test]
fn an_empty_allow_list_allows_everything() {
    let rules = compiled(&publish(&[], &[]));
    assert!(rules.can_publish(b"x") && !rules.restricts_publishing());
    assert_eq!(verdict(&compiled(&subscribe(&[], &[])), "foo"), Allowed);
}

#[test]
fn subscribe_allow_lists_and_queues() {
    let rules = compiled(&subscribe(&["foo", "foo v1", "bar v2.*", "baz >", "m.>"], &[]));
    for (text, expected) in [
        ("foo", Allowed),
        ("foo v1", Allowed),
        ("foo v2", Denied),
        ("bar", Denied),
        ("bar v2.x", Allowed),
        ("bar v2.*", Allowed),
        ("bar v2", Denied),
        ("bar v2.>", Denied),
        ("baz q", Allowed),
        ("baz", Denied),
        ("nope q", Denied),
        ("m.> x", Allowed),
        ("m.*", Allowed),
        ("m", Denied),
        (">", Denied),
    ] {
        assert_eq!(verdict(&rules, text), expected, "{text}");
    }
}

/// nats-server accepts these subscriptions and then delivers what the list does not allow; here
/// they are accepted and held to the list.
#[test]
fn a_tail_under_a_star_is_held_to_the_list() {
    let rules = compiled(&subscribe(&["foo.*", "q.* w"], &[]));
    let published = ["foo.a", "foo.a.b", "q.a", "q.a.b"];
    assert_eq!(verdict(&rules, "foo.>"), AllowedButFilter);
    assert_eq!(received(&rules, "foo.>", &published), ["foo.a"]);
    assert_eq!(received(&rules, "q.> w", &published), ["q.a"]);
    assert_eq!(verdict(&rules, "q.> x"), Denied);
    assert_eq!(verdict(&rules, ">"), Denied);
    assert_eq!(verdict(&rules, "*.*"), Denied);
}

#[test]
fn subscribe_denies() {
    let rules = compiled(&subscribe(&[], &["foo.bar", "x.* q", "y.z q", "y.z"]));
    let published = ["foo.bar", "foo.baz", "x.y", "y.z"];
    for (text, expected) in [
        ("foo.bar", &[][..]),
        ("foo.*", &["foo.baz"]),
        ("*.bar", &[]),
        ("x.y", &["x.y"]),
        ("x.y q", &[]),
        ("x.y r", &["x.y"]),
        ("x.* q", &[]),
        ("x.* r", &["x.y"]),
        ("x.>", &["x.y"]),
        ("x.> q", &[]),
        ("y.z q", &[]),
        ("y.z r", &[]),
        ("y.* q", &[]),
        (">", &["foo.baz", "x.y"]),
    ] {
        assert_eq!(received(&rules, text, &published), expected, "{text}");
    }
    for (text, expected) in [
        ("foo.bar", Denied),
        ("x.> q", Denied),
        ("y.z r", Denied),
        ("y.* q", AllowedButFilter),
        ("*.bar", AllowedButFilter),
        ("x.y", Allowed),
    ] {
        assert_eq!(verdict(&rules, text), expected, "{text}");
    }
}

#[test]
fn denies_that_only_overlap() {
    let rules = compiled(&subscribe(&[], &["foo.*"]));
    let published = ["foo.a", "bar.a", "foo.a.b"];
    assert_eq!(verdict(&rules, "foo.>"), Denied);
    assert_eq!(verdict(&rules, "foo.*"), Denied);
    assert_eq!(received(&rules, "*.a", &published), ["bar.a"]);
    assert_eq!(received(&rules, "*.*", &published), ["bar.a"]);
    assert_eq!(received(&rules, ">", &published), ["bar.a", "foo.a.b"]);
}

#[test]
fn queue_denies_at_delivery() {
    let published = ["w.z", "w.y", "v.z", "v.y", "v.z.a"];
    let rules = compiled(&subscribe(&[], &["w.z q", "v.* q.*"]));
    for (text, expected) in [
        ("w.* q", &["w.y"][..]),
        ("w.*", &["w.z", "w.y"]),
        ("w.* r", &["w.z", "w.y"]),
        ("w.> q", &["w.y"]),
        ("> q", &["w.y", "v.z", "v.y", "v.z.a"]),
        (">", &published),
        ("v.> q.a", &[]),
        ("v.> q", &["v.z", "v.y", "v.z.a"]),
        ("> q.a", &["w.z", "w.y", "v.z.a"]),
        ("v.* q.>", &["v.z", "v.y"]),
        ("v.> q.>", &["v.z", "v.y", "v.z.a"]),
    ] {
        assert_eq!(received(&rules, text, &published), expected, "{text}");
    }
    let rules = compiled(&subscribe(&[], &["v.* q.*", "v.z"]));
    for (text, expected) in [
        ("v.> r", &["v.y", "v.z.a"][..]),
        ("v.*", &["v.y"]),
        ("v.* q.a", &[]),
        ("> q.a", &["w.z", "w.y", "v.z.a"]),
        ("> q", &["w.z", "w.y", "v.y", "v.z.a"]),
    ] {
        assert_eq!(received(&rules, text, &published), expected, "{text}");
    }
}

#[test]
fn allow_and_deny_together() {
    let rules = compiled(&subscribe(&["a.>"], &["a.b.>"]));
    let published = ["a.a", "a.b", "a.b.c", "a.c.c"];
    for (text, expected) in [
        ("a.*", &["a.a", "a.b"][..]),
        ("a.b", &["a.b"]),
        ("a.b.c", &[]),
        ("a.*.c", &["a.c.c"]),
        ("a.>", &["a.a", "a.b", "a.c.c"]),
        (">", &[]),
    ] {
        assert_eq!(received(&rules, text, &published), expected, "{text}");
    }
}

#[test]
fn entries_that_cannot_be_used() {
    for entry in ["", " ", "\t", "a..b", "a.", ".a", "a.>.b"] {
        let settings = subscribe(&[entry], &[]);
        let error = Permissions::compile(&settings).unwrap_err();
        assert_eq!(error, RuleError::Subject(entry.to_owned()));
    }
    let error = Permissions::compile(&subscribe(&[], &["a b c"])).unwrap_err();
    assert_eq!(error, RuleError::Fields("a b c".to_owned()));
    let error = Permissions::compile(&publish(&["a b"], &[])).unwrap_err();
    assert_eq!(error, RuleError::Fields("a b".to_owned()));
}

fn rights(settings: &PermissionSettings) -> Rights {
    Rights::new(Some(Arc::new(compiled(settings))), false, 3)
}

#[test]
fn responses_without_an_allow_list_deny_all_else() {
    let mut settings = PermissionSettings {
        allow_responses: Some(ResponseSettings::default()),
        ..PermissionSettings::default()
    };
    settings.publish.deny = texts(&["_INBOX.>"]);
    let mut rights = rights(&settings);
    assert!(rights.tracks_replies() && !rights.publish_is_static());
    assert_eq!(rights.check_publish(b"x", None, 0), Err(PublishViolation::Subject));
    // A permit goes before a deny, and holds for one message.
    rights.note_delivery(b"_INBOX.1", 0);
    assert_eq!(rights.check_publish(b"_INBOX.1", None, 1), Ok(()));
    assert_eq!(rights.check_publish(b"_INBOX.1", None, 2), Err(PublishViolation::Subject));
}

#[test]
fn response_limits_of_the_configuration() {
    let second = 1_000_000_000;
    let limits = |max, expires_ns| {
        let settings = ResponseSettings::from_config(max, expires_ns);
        (settings.max, settings.expires_ns)
    };
    assert_eq!(limits(None, None), (1, 120 * second));
    assert_eq!(limits(Some(0), Some(0)), (1, 120 * second));
    assert_eq!(limits(Some(2), Some(5)), (2, 5));
    assert_eq!(limits(Some(-5), Some(-1)), (-5, 0));
}

#[test]
fn replies_that_are_allowed_anyway_need_no_permit() {
    let mut settings = publish(&["ok"], &[]);
    settings.allow_responses = Some(ResponseSettings { max: 2, expires_ns: 10 });
    let mut rights = rights(&settings);
    rights.note_delivery(b"ok", 0);
    for _ in 0..5 {
        assert_eq!(rights.check_publish(b"ok", None, 100), Ok(()));
    }
    rights.note_delivery(b"r.1", 0);
    assert_eq!(rights.check_publish(b"r.1", None, 11), Err(PublishViolation::Subject));
}

#[test]
fn reserved_names() {
    let mut user = Rights::new(None, false, 1);
    let mut system = Rights::new(None, true, 1);
    let denied = Err(PublishViolation::Subject);
    for (subject, for_user, for_system) in [
        ("_GR_.x", denied, denied),
        ("$GR.x", denied, denied),
        ("$NRG.x", denied, Ok(())),
        ("$GNR.x", Ok(()), Ok(())),
        ("_GR_", Ok(()), Ok(())),
        ("_R_.x", Ok(()), Ok(())),
        ("$JS.ACK.x", Ok(()), Ok(())),
        ("$SYS.x", Ok(()), Ok(())),
    ] {
        assert_eq!(user.check_publish(subject.as_bytes(), None, 0), for_user, "{subject}");
        assert_eq!(system.check_publish(subject.as_bytes(), None, 0), for_system, "{subject}");
    }
    for (reply, refused) in [
        ("_GR_.x", true),
        ("$GR.x", true),
        ("_R_.x", true),
        ("$JS.ACK.x", true),
        ("$GNR.x", false),
        ("$NRG.x", false),
        ("_R_", false),
        ("$JS.ACK", false),
        ("$SYS.x", false),
    ] {
        let expected = if refused { Err(PublishViolation::Reply) } else { Ok(()) };
        assert_eq!(user.check_publish(b"a", Some(reply.as_bytes()), 0), expected, "{reply}");
        assert_eq!(system.check_publish(b"a", Some(reply.as_bytes()), 0), expected, "{reply}");
    }
    assert_eq!(user.can_subscribe(b"foo", Some(b"_sys_")), Denied);
    assert_eq!(user.can_subscribe(b"foo", Some(b"_sys_x")), Allowed);
    assert_eq!(user.can_subscribe(b"_sys_", None), Allowed);
    let mut limited = rights(&publish(&[], &["q"]));
    assert_eq!(limited.check_publish(b"q", Some(b"_R_.x"), 0), denied, "the subject first");
}

/// All subjects of up to three tokens over {a, b}.
fn all_subjects() -> Vec<String> {
    let mut all = Vec::new();
    for first in ["a", "b"] {
        all.push(first.to_owned());
        for second in ["a", "b"] {
            all.push(format!("{first}.{second}"));
            for third in ["a", "b"] {
                all.push(format!("{first}.{second}.{third}"));
            }
        }
    }
    all
}

/// All patterns of up to three tokens over {a, b, *, >}.
fn all_patterns() -> Vec<String> {
    let tokens = ["a", "b", "*"];
    let mut all: Vec<String> = vec![">".to_owned()];
    let mut level: Vec<String> = tokens.iter().map(|&token| token.to_owned()).collect();
    for depth in 0..3 {
        all.extend(level.iter().cloned());
        if depth < 2 {
            all.extend(level.iter().map(|prefix| format!("{prefix}.>")));
            level = level
                .iter()
                .flat_map(|prefix| tokens.iter().map(move |token| format!("{prefix}.{token}")))
                .collect();
        }
    }
    all
}

/// Whether the settings allow a delivery, read straight off the lists.
fn is_allowed(settings: &RuleSettings, subject: &str, queue: Option<&str>) -> bool {
    let concerns = |entry: &String| {
        let (pattern, named) = match entry.split_once(' ') {
            Some((pattern, named)) => (pattern, Some(named)),
            None => (entry.as_str(), None),
        };
        subject::matches(pattern.as_bytes(), subject.as_bytes())
            && named.is_none_or(|named| Some(named) == queue)
    };
    let allow = settings.allow.as_deref().unwrap_or_default();
    (allow.is_empty() || allow.iter().any(concerns)) && !settings.deny.iter().any(concerns)
}

/// Every pair of a deny and a subscription, plain and in a queue: what is delivered is allowed,
/// and an accepted subscription misses nothing that the lists allow.
#[test]
fn whatever_is_delivered_is_allowed() {
    let subjects = all_subjects();
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    for rule in all_patterns() {
        for (as_allow, limit) in [(true, ""), (true, " q"), (false, ""), (false, " q")] {
            let entry = format!("{rule}{limit}");
            let settings =
                if as_allow { subscribe(&[&entry], &[]) } else { subscribe(&[], &[&entry]) };
            let rules = compiled(&settings);
            for pattern in all_patterns() {
                for queue in [None, Some("q"), Some("r")] {
                    let text = match queue {
                        Some(queue) => format!("{pattern} {queue}"),
                        None => pattern.clone(),
                    };
                    let got = received(&rules, &text, &subjects);
                    let allowed: Vec<&str> = subjects
                        .iter()
                        .copied()
                        .filter(|subject| {
                            subject::matches(pattern.as_bytes(), subject.as_bytes())
                                && is_allowed(&settings.subscribe, subject, queue)
                        })
                        .collect();
                    let refused = verdict(&rules, &text) == Denied;
                    assert!(
                        got == allowed || (refused && got.is_empty()),
                        "{entry:?} as allow: {as_allow}, {text:?}: {got:?}, allowed {allowed:?}"
                    );
                }
            }
        }
    }
}

/// Many wildcards are looked up another way than few.
#[test]
fn long_lists_say_the_same_as_their_entries() {
    let patterns = all_patterns();
    let entries: Vec<&str> = patterns.iter().map(String::as_str).filter(|p| *p != ">").collect();
    assert!(entries.len() > 40);
    let subjects =
        ["a", "c", "c.a", "c.c", "c.c.a", "a.c.c", "c.c.c.c", "a.", "a..b", ".a", "c..c.c"];
    for skipped in 0..entries.len() {
        let list: Vec<&str> =
            entries.iter().copied().filter(|entry| *entry != entries[skipped]).collect();
        let rules = compiled(&publish(&list, &[]));
        for subject in subjects {
            let expected =
                list.iter().any(|entry| subject::matches(entry.as_bytes(), subject.as_bytes()));
            assert_eq!(rules.can_publish(subject.as_bytes()), expected, "{subject}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_delivered_is_allowed_by_longer_lists(
        allow in prop::collection::vec((0..30usize, prop_oneof![Just(""), Just(" q")]), 0..4),
        deny in prop::collection::vec((0..30usize, prop_oneof![Just(""), Just(" q")]), 0..4),
    ) {
        let patterns = all_patterns();
        let entry = |(number, limit): &(usize, &str)| {
            format!("{}{limit}", patterns[number % patterns.len()])
        };
        let settings = PermissionSettings {
            subscribe: RuleSettings {
                allow: Some(allow.iter().map(entry).collect()),
                deny: deny.iter().map(entry).collect(),
            },
            publish: RuleSettings {
                allow: Some(allow.iter().map(|rule| entry(&(rule.0, ""))).collect()),
                deny: deny.iter().map(|rule| entry(&(rule.0, ""))).collect(),
            },
            allow_responses: None,
        };
        let rules = compiled(&settings);
        let subjects = all_subjects();
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        for pattern in &patterns {
            for queue in ["", " q", " r"] {
                for subject in received(&rules, &format!("{pattern}{queue}"), &subjects) {
                    let queue = (!queue.is_empty()).then(|| queue.trim());
                    prop_assert!(is_allowed(&settings.subscribe, subject, queue));
                }
            }
        }
        for subject in subjects {
            prop_assert_eq!(
                rules.can_publish(subject.as_bytes()),
                is_allowed(&settings.publish, subject, None)
            );
        }
    }
}
