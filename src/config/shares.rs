//! Whether the `imports` of accounts go with the `exports` of others: authorised, well mapped,
//! each once, and without cycles. The texts are nats-server's.

use broker::account::share::{import_map, local_pattern, service_map};
use wire::subject;

use super::exchange::{Export, Import, ShareKind};
use super::options::AccountOptions;
use super::reader::Reader;
use super::value::Node;

/// Checks what the accounts share, after each has been read.
pub(super) fn check_shares(r: &mut Reader, node: &Node, accounts: &[AccountOptions]) {
    let mut faults = Vec::new();
    for account in accounts {
        for export in &account.exports {
            if !token_position_is_valid(export) {
                let kind = kind_name(export.kind);
                faults.push(format!(
                    "Error adding {kind} export {:?}: sublist: invalid subject",
                    export.subject
                ));
            }
        }
        for (at, import) in account.imports.iter().enumerate() {
            let before = account.imports.get(..at).unwrap_or_default();
            if let Err(why) = check_import(account, import, before, accounts) {
                let kind = kind_name(import.kind);
                faults.push(format!("Error adding {kind} import {:?}: {why}", import.subject));
            }
        }
    }
    if faults.is_empty() {
        faults.extend(find_cycle(accounts));
    }
    for text in faults {
        r.error(node, text);
    }
}

/// `stream` or `service`
pub(super) const fn kind_name(kind: ShareKind) -> &'static str {
    match kind {
        ShareKind::Stream => "stream",
        ShareKind::Service => "service",
    }
}

/// The position names a `*`.
fn token_position_is_valid(export: &Export) -> bool {
    let Some(at) = export.token_position.checked_sub(1) else { return true };
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    export.subject.split('.').nth(at) == Some("*")
}

/// The local subject of an import as it is configured: `to`, or behind the prefix, or the same.
#[must_use]
pub fn local_subject(import: &Import) -> String {
    if !import.to.is_empty() {
        import.to.clone()
    } else if import.prefix.is_empty() {
        import.subject.clone()
    } else {
        let prefix = import.prefix.strip_suffix('.').unwrap_or(&import.prefix);
        format!("{prefix}.{}", import.subject)
    }
}

fn check_import(
    account: &AccountOptions,
    import: &Import,
    before: &[Import],
    accounts: &[AccountOptions],
) -> Result<(), String> {
    // Accounts that do not exist have been reported.
    let Some(exporter) = accounts.iter().find(|other| other.name == import.account) else {
        return Ok(());
    };
    let kind = kind_name(import.kind);
    let to = local_subject(import);
    let (from, local) = (import.subject.as_bytes(), local_pattern(to.as_bytes()));
    if !subject::is_valid_subscribe(from) || !subject::is_valid_subscribe(&local) {
        return Err("invalid subject".to_owned());
    }
    if import.prefix.split('.').any(|token| matches!(token, "*" | ">")) {
        return Err("stream import prefix can not contain wildcard tokens".to_owned());
    }
    if exported(exporter, import, &account.name).is_none() {
        return Err(format!("{kind} import not authorized"));
    }
    let failed = match import.kind {
        ShareKind::Stream => import_map(from, to.as_bytes()).err().map(|error| {
            let from = &import.subject;
            format!(
                "failed to create mapping transform for stream import subject from {from:?} to \
                 {to:?}: {error}"
            )
        }),
        ShareKind::Service => service_map(from, to.as_bytes()).err().map(|error| {
            let from = &import.subject;
            format!(
                "failed to create mapping transform for service import subject from {to:?} to \
                 {from:?}: {error}"
            )
        }),
    };
    if let Some(text) = failed {
        return Err(text);
    }
    let is_twin = |other: &Import| {
        (other.kind, &other.account, &other.subject)
            == (ShareKind::Stream, &import.account, &import.subject)
    };
    if import.kind == ShareKind::Stream && before.iter().any(is_twin) {
        return Err("stream import already exists".to_owned());
    }
    Ok(())
}

/// The export that lets an account have an import: the one of the very subject decides when there
/// is one, else any that covers it.
#[must_use]
pub fn exported<'a>(
    exporter: &'a AccountOptions,
    import: &Import,
    account: &str,
) -> Option<&'a Export> {
    let of_kind = || exporter.exports.iter().filter(|export| export.kind == import.kind);
    // Of two exports of one subject the later counts.
    if let Some(same) = of_kind().rfind(|export| export.subject == import.subject) {
        return may_import(same, import, account).then_some(same);
    }
    of_kind().find(|export| {
        subject::is_subset(import.subject.as_bytes(), export.subject.as_bytes())
            && may_import(export, import, account)
    })
}

fn may_import(export: &Export, import: &Import, account: &str) -> bool {
    if let Some(at) = export.token_position.checked_sub(1) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if import.subject.split('.').nth(at) != Some(account) {
            return false;
        }
    }
    export.accounts.is_empty() || export.accounts.iter().any(|name| name == account)
}

/// One import as a way from one account's subjects to another's.
struct Edge<'a> {
    kind: ShareKind,
    importer: &'a str,
    import: &'a Import,
    local: Vec<u8>,
}

/// The first import that leads back to itself.
fn find_cycle(accounts: &[AccountOptions]) -> Option<String> {
    let edges: Vec<Edge<'_>> = accounts
        .iter()
        .flat_map(|account| account.imports.iter().map(move |import| (account, import)))
        .map(|(account, import)| Edge {
            kind: import.kind,
            importer: &account.name,
            import,
            local: local_pattern(local_subject(import).as_bytes()),
        })
        .collect();
    let follows = |one: &Edge<'_>, next: &Edge<'_>| {
        one.kind == next.kind
            && one.import.account == next.importer
            && subject::overlaps(one.import.subject.as_bytes(), &next.local)
    };
    for start in &edges {
        let mut seen = vec![false; edges.len()];
        let mut open = vec![start];
        while let Some(edge) = open.pop() {
            for (next, seen) in edges.iter().zip(&mut seen) {
                if !*seen && follows(edge, next) {
                    if std::ptr::eq(next, start) {
                        let kind = kind_name(start.kind);
                        let subject = &start.import.subject;
                        return Some(format!(
                            "Error adding {kind} import {subject:?}: import forms a cycle"
                        ));
                    }
                    *seen = true;
                    open.push(next);
                }
            }
        }
    }
    None
}
