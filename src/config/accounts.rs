//! The `accounts` block: a list of names, or a map from names to what each account has.

use super::auth::{apply_default_permissions, read_users};
use super::exchange::{read_exports, read_imports, read_mappings, read_msg_trace};
use super::nkey::{self, KeyKind};
use super::options::{AccountLimits, AccountOptions, UserOptions};
use super::permissions::read_permissions;
use super::reader::{Reader, put};
use super::shares::kind_name;
use super::value::{Map, Node, Value};

/// The account of clients for which none is named.
pub(super) const GLOBAL: &str = "$G";

/// What an `accounts` block gives: the accounts, and their users with the place to name when one
/// of them is there twice.
#[derive(Default)]
pub(super) struct Accounts {
    pub(super) accounts: Vec<AccountOptions>,
    pub(super) users: Vec<(UserOptions, Node)>,
}

/// Reads the `accounts` block.
pub(super) fn read_accounts(r: &mut Reader, node: &Node) -> Accounts {
    let mut out = Accounts::default();
    match &node.value {
        Value::List(items) => {
            for item in items {
                let Some(name) = r.text(item) else { continue };
                if out.accounts.iter().any(|account| account.name == name) {
                    r.error(item, format!("Duplicate Account Entry: {name}"));
                } else if may_be_named(r, item, &name) {
                    out.accounts.push(AccountOptions { name, ..AccountOptions::default() });
                }
            }
        }
        Value::Map(map) => {
            for (name, node) in map.in_order() {
                if node.used {
                    continue;
                }
                match &node.value {
                    Value::Map(map) => {
                        if may_be_named(r, node, name) {
                            read_account(r, name, map, &mut out);
                        }
                    }
                    Value::Missing => {}
                    _ => r.error(node, "Expected map entries for accounts"),
                }
            }
            check_shares(r, node, &out.accounts);
        }
        Value::Missing => {}
        other => {
            let is = other.type_name();
            r.error(node, format!("Expected accounts to be an array or a map, got {is}"));
        }
    }
    out
}

fn may_be_named(r: &mut Reader, node: &Node, name: &str) -> bool {
    let reserved = name == GLOBAL;
    if reserved {
        r.error(node, format!("{name:?} is a Reserved Account"));
    }
    !reserved
}

fn read_account(r: &mut Reader, name: &str, map: &Map, out: &mut Accounts) {
    let mut account = AccountOptions { name: name.to_string(), ..AccountOptions::default() };
    let mut users: Option<Vec<UserOptions>> = None;
    let mut users_node = None;
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "nkey" => account.nkey = read_account_key(r, node),
            "users" => {
                users = read_users(r, node);
                users_node = Some(node);
            }
            "default_permissions" => account.default_permissions = read_permissions(r, node),
            "limits" => account.limits = read_limits(r, node),
            "imports" => r.known("account.imports", node, |r| {
                account.imports = read_imports(r, node);
            }),
            "exports" => r.known("account.exports", node, |r| {
                account.exports = read_exports(r, node);
            }),
            "mappings" | "maps" => r.known("account.mappings", node, |r| {
                account.mappings = read_mappings(r, node);
            }),
            "msg_trace" | "trace_dest" => r.known("account.msg_trace", node, |r| {
                account.msg_trace = read_msg_trace(r, key, node);
            }),
            "jetstream" => {
                account.jetstream = super::jetstream::read_account_jetstream(r, node);
                if account.jetstream.is_some() {
                    r.known("account.jetstream", node, |_| {});
                }
            }
            _ => r.unknown(key, node),
        }
    }
    apply_default_permissions(users.as_mut(), account.default_permissions.as_ref());
    if let Some(node) = users_node {
        if users.as_ref().is_some_and(|users| !users.is_empty()) {
            r.place("accounts.users", node);
        }
        for mut user in users.unwrap_or_default() {
            user.account = account.name.clone();
            // Only the place is of use; the list itself need not be copied for each user.
            out.users.push((user, Node::new(Value::Missing, node.pos.clone())));
        }
    }
    out.accounts.push(account);
}

fn read_account_key(r: &mut Reader, node: &Node) -> Option<String> {
    let key = r.text(node)?;
    if nkey::is_public(&key, KeyKind::Account) {
        return Some(key);
    }
    r.error(node, format!("Not a valid public nkey for an account: {key:?}"));
    None
}

fn read_limits(r: &mut Reader, node: &Node) -> AccountLimits {
    let mut out = AccountLimits::default();
    let Some(map) = r.map(node, "Expected account limits to be a map/struct") else {
        return out;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "max_connections" | "max_conn" => out.connections_max = read_limit(r, node),
            "max_subscriptions" | "max_subs" => out.subscriptions_max = read_limit(r, node),
            "max_payload" | "max_pay" => out.payload_bytes_max = read_limit(r, node),
            "max_leafnodes" | "max_leafs" => out.leafnodes_max = read_limit(r, node),
            _ if node.used => {}
            _ => r.error(node, format!("Unknown field {key:?} parsing account limits")),
        }
    }
    out
}

/// A limit of an account: a negative one means none.
fn read_limit(r: &mut Reader, node: &Node) -> Option<u32> {
    let limit = r.int(node)?;
    if limit > i64::from(i32::MAX) {
        r.error(node, "value is too big");
        return None;
    }
    u32::try_from(limit).ok()
}

/// Imports and exports may only name accounts that exist.
fn check_shares(r: &mut Reader, node: &Node, accounts: &[AccountOptions]) {
    let exists = |name: &str| name == GLOBAL || accounts.iter().any(|a| a.name == name);
    let mut wrong = Vec::new();
    for account in accounts {
        for export in &account.exports {
            let kind = kind_name(export.kind);
            for name in export.accounts.iter().filter(|name| !exists(name)) {
                wrong.push(format!("{name:?} account not defined for {kind} export"));
            }
        }
        for import in account.imports.iter().filter(|import| !exists(&import.account)) {
            let kind = kind_name(import.kind);
            wrong.push(format!("{:?} account not defined for {kind} import", import.account));
        }
    }
    if wrong.is_empty() {
        super::shares::check_shares(r, node, accounts);
    }
    for text in wrong {
        r.error(node, text);
    }
}

/// Puts users together and reports each name that was there before.
pub(super) fn join_users(r: &mut Reader, all: Vec<(UserOptions, Node)>) -> Vec<UserOptions> {
    let mut seen = std::collections::BTreeSet::new();
    let mut out = Vec::with_capacity(all.len());
    for (user, node) in all {
        if seen.insert(user.name.clone()) {
            out.push(user);
        } else {
            let kind = if user.is_nkey { "nkey" } else { "user" };
            r.error(&node, format!("Duplicate {kind} {:?} detected", user.name));
        }
    }
    out
}

/// An account of this name for settings that belong to the global one.
pub(super) fn global_with(
    mappings: Vec<(String, Vec<super::exchange::MapDestination>)>,
) -> AccountOptions {
    let mut account = AccountOptions { name: GLOBAL.into(), ..AccountOptions::default() };
    put(&mut account.mappings, Some(mappings));
    account
}
