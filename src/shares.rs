//! What accounts share, from configured exports and imports to the table that the shards obey and
//! to what monitoring shows of it.

use std::sync::Arc;
use std::time::Duration;

use broker::account::share::{
    AnswerKind, ServiceImport, Shares, StreamImport, import_map, local_pattern, service_map,
};
use broker::monitor::{ExportFacts, ImportFacts};
use broker::settings::AccountSettings;

use crate::config::{AccountOptions, Export, Import, Options, ResponseType, ShareKind};
use crate::config::{exported, local_subject};

/// How long an answer is waited for when the export does not say.
const THRESHOLD: Duration = Duration::from_secs(120);

/// Gives every account the table of what it shares. The position of an account is its id.
pub(crate) fn set_shares(options: &Options, accounts: &mut [AccountSettings]) {
    let ids: Vec<String> = accounts.iter().map(|account| account.name.clone()).collect();
    let id_of = |name: &str| ids.iter().position(|known| known == name);
    let mut all: Vec<Shares> = accounts.iter().map(|_| Shares::default()).collect();
    for account in &options.accounts {
        let Some(importer) = id_of(&account.name) else { continue };
        for import in &account.imports {
            let Some(exporter) = id_of(&import.account) else { continue };
            add_import(options, account, import, (importer, exporter), &mut all);
        }
    }
    for (account, shares) in accounts.iter_mut().zip(all) {
        account.shares = (!shares.is_empty()).then(|| Arc::new(shares));
    }
}

/// Adds an import to the tables of both accounts. What the configuration's checks refuse is left
/// out.
fn add_import(
    options: &Options,
    account: &AccountOptions,
    import: &Import,
    (importer, exporter): (usize, usize),
    all: &mut [Shares],
) {
    let origin = options.accounts.iter().find(|other| other.name == import.account);
    let Some(export) = origin.and_then(|origin| exported(origin, import, &account.name)) else {
        return;
    };
    let to = local_subject(import);
    let (from, to) = (import.subject.as_bytes(), to.as_bytes());
    match import.kind {
        ShareKind::Stream => {
            let Ok(map) = import_map(from, to) else { return };
            let back = map.reverse();
            let (exporter_id, importer_id) = (exporter as u32, importer as u32);
            let import = StreamImport { exporter: exporter_id, importer: importer_id, map, back };
            if let Some(shares) = all.get_mut(exporter) {
                shares.exported.push(import.clone());
            }
            if let Some(shares) = all.get_mut(importer) {
                shares.imported.push(import);
            }
        }
        ShareKind::Service => {
            let Ok(map) = service_map(from, to) else { return };
            let threshold = export.threshold.filter(|time| !time.is_zero()).unwrap_or(THRESHOLD);
            let service = ServiceImport {
                exporter: exporter as u32,
                map,
                kind: match export.response {
                    ResponseType::Singleton => AnswerKind::Single,
                    ResponseType::Stream => AnswerKind::Stream,
                    ResponseType::Chunked => AnswerKind::Chunked,
                },
                threshold_ns: u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX),
                shares_client: import.share,
            };
            if let Some(shares) = all.get_mut(importer) {
                shares.services.push(service);
            }
        }
    }
}

/// Exports as monitoring shows them.
pub(crate) fn export_facts(account: &AccountOptions) -> Vec<ExportFacts> {
    let fact = |export: &Export| ExportFacts {
        subject: export.subject.clone(),
        is_service: export.kind == ShareKind::Service,
        response_type: match (export.kind, export.response) {
            (ShareKind::Stream, _) => "",
            (_, ResponseType::Singleton) => "Singleton",
            (_, ResponseType::Stream) => "Streamed",
            (_, ResponseType::Chunked) => "Chunked",
        }
        .to_owned(),
        approved_accounts: export.accounts.clone(),
    };
    // Services first, as nats-server has them.
    let of = |kind| account.exports.iter().filter(move |export| export.kind == kind);
    of(ShareKind::Service).chain(of(ShareKind::Stream)).map(fact).collect()
}

/// Imports as monitoring shows them.
pub(crate) fn import_facts(account: &AccountOptions) -> Vec<ImportFacts> {
    let fact = |import: &Import| {
        let local = local_pattern(local_subject(import).as_bytes());
        let local = String::from_utf8_lossy(&local).into_owned();
        let is_service = import.kind == ShareKind::Service;
        ImportFacts {
            subject: import.subject.clone(),
            account: import.account.clone(),
            to: if is_service { local.clone() } else { String::new() },
            local_subject: local,
            is_service,
            is_invalid: false,
            shares_client: import.share,
        }
    };
    // Streams first, as nats-server has them.
    let of = |kind| account.imports.iter().filter(move |import| import.kind == kind);
    of(ShareKind::Stream).chain(of(ShareKind::Service)).map(fact).collect()
}
