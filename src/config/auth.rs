//! `authorization` blocks and lists of users.

use super::nkey::{self, KeyKind};
use super::options::{ConnectionType, Permissions, UserOptions};
use super::options_peers::{PeerAuth, SimpleAuth};
use super::options_trust::CalloutOptions;
use super::permissions::read_permissions;
use super::reader::{Reader, put};
use super::secret::Secret;
use super::value::{Map, Node, Value};

/// What an `authorization` block says, for clients and for other servers alike.
#[derive(Default)]
pub(super) struct Authorization {
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) token: Secret,
    pub(super) timeout: Option<std::time::Duration>,
    /// Set as soon as there is a list, even an empty one.
    pub(super) users: Option<Vec<UserOptions>>,
    pub(super) default_permissions: Option<Permissions>,
    pub(super) callout: Option<CalloutOptions>,
    pub(super) proxy_required: bool,
}

/// Reads an `authorization` block.
pub(super) fn read_authorization(r: &mut Reader, node: &Node) -> Option<Authorization> {
    let Value::Map(map) = &node.value else {
        r.wrong_type(node, "map[string]interface {}");
        return None;
    };
    let mut out = Authorization::default();
    for (key, node) in map.in_order() {
        let lower = key.to_ascii_lowercase();
        match lower.as_str() {
            "user" | "username" => put(&mut out.user, r.text(node)),
            "pass" | "password" => put(&mut out.password, r.secret(node)),
            "token" => put(&mut out.token, r.secret(node)),
            "timeout" => put(&mut out.timeout, r.auth_timeout(key, node, "authorization")),
            "users" => out.users = read_users(r, node),
            "default_permission" | "default_permissions" | "permissions" => {
                out.default_permissions = read_permissions(r, node);
            }
            "auth_callout" | "auth_hook" => {
                r.known("auth_callout", node, |r| out.callout = read_callout(r, node));
            }
            "proxy_required" => out.proxy_required = read_proxy_required(r, node),
            _ => r.unknown(key, node),
        }
    }
    apply_default_permissions(out.users.as_mut(), out.default_permissions.as_ref());
    Some(out)
}

/// Gives the default permissions to the users that have none of their own.
pub(super) fn apply_default_permissions(
    users: Option<&mut Vec<UserOptions>>,
    permissions: Option<&Permissions>,
) {
    for user in users.into_iter().flatten() {
        if user.permissions.is_none() {
            user.permissions = permissions.cloned();
        }
    }
}

/// `proxy_required`, which only asks for something when it is true.
pub(super) fn read_proxy_required(r: &mut Reader, node: &Node) -> bool {
    let on = r.flag(node).unwrap_or(false);
    if on {
        r.known("proxy_required", node, |_| {});
    }
    on
}

/// Reads a list of users; one that is wrong is reported and left out.
pub(super) fn read_users(r: &mut Reader, node: &Node) -> Option<Vec<UserOptions>> {
    let items = match &node.value {
        Value::List(items) => items,
        Value::Missing => return None,
        other => {
            let is = other.shown();
            r.error(node, format!("Expected users field to be an array, got {is}"));
            return None;
        }
    };
    let mut users = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            Value::Map(map) => users.extend(read_user(r, item, map)),
            Value::Missing => {}
            other => {
                let is = other.shown();
                r.error(item, format!("Expected user entry to be a map/struct, got {is}"));
            }
        }
    }
    Some(users)
}

fn read_user(r: &mut Reader, node: &Node, map: &Map) -> Option<UserOptions> {
    let mut user = UserOptions::default();
    let mut nkey = String::new();
    let mut is_broken = false;
    let entries = map.in_order();
    let first = entries.first().map_or(node, |(_, node)| node);
    for (key, node) in &entries {
        match key.to_ascii_lowercase().as_str() {
            "nkey" => put(&mut nkey, r.text(node)),
            "user" | "username" => match r.text(node) {
                Some(name) => user.name = name,
                None => is_broken = true,
            },
            "pass" | "password" => put(&mut user.password, r.secret(node)),
            "permission" | "permissions" | "authorization" => {
                user.permissions = read_permissions(r, node);
            }
            "allowed_connection_types" | "connection_types" | "clients" => {
                user.connection_types = read_connection_types(r, node);
            }
            "proxy_required" => user.proxy_required = read_proxy_required(r, node),
            _ => r.unknown(key, node),
        }
    }
    if nkey.is_empty() {
        if user.name.is_empty() {
            if !is_broken {
                r.error(first, "User entry requires a user");
            }
            return None;
        }
        return Some(user);
    }
    if !nkey::is_public(&nkey, KeyKind::User) {
        r.error(first, "Not a valid public nkey for a user");
        return None;
    }
    if !user.name.is_empty() || !user.password.is_empty() {
        r.error(first, "Nkey users do not take usernames or passwords");
        return None;
    }
    user.name = nkey;
    user.is_nkey = true;
    Some(user)
}

fn read_connection_types(r: &mut Reader, node: &Node) -> Vec<ConnectionType> {
    let mut types = Vec::new();
    let mut unknown = Vec::new();
    for name in r.texts(node, "allowed connection types").unwrap_or_default() {
        let name = name.to_ascii_uppercase();
        match name.as_str() {
            "STANDARD" => types.push(ConnectionType::Standard),
            "WEBSOCKET" => types.push(ConnectionType::Websocket),
            "LEAFNODE" => types.push(ConnectionType::Leafnode),
            "LEAFNODE_WS" => types.push(ConnectionType::LeafnodeWs),
            "MQTT" => types.push(ConnectionType::Mqtt),
            "MQTT_WS" => types.push(ConnectionType::MqttWs),
            "IN_PROCESS" => types.push(ConnectionType::InProcess),
            _ => unknown.push(format!("{name:?}")),
        }
    }
    if !unknown.is_empty() {
        r.error(node, format!("invalid connection types [{}]", unknown.join(" ")));
    }
    types.sort_unstable();
    types.dedup();
    types
}

fn read_callout(r: &mut Reader, node: &Node) -> Option<CalloutOptions> {
    let Value::Map(map) = &node.value else {
        let is = node.value.shown();
        r.error(node, format!("Expected authorization callout to be a map/struct, got {is}"));
        return None;
    };
    let mut out = CalloutOptions { account: "$G".into(), ..CalloutOptions::default() };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "issuer" => {
                put(&mut out.issuer, r.text(node));
                if !nkey::is_public(&out.issuer, KeyKind::Account) {
                    let text = format!(
                        "Expected callout user to be a valid public account nkey, got {:?}",
                        out.issuer
                    );
                    r.error(node, text);
                }
            }
            "account" | "acc" => put(&mut out.account, r.text(node)),
            "auth_users" | "users" => put(&mut out.auth_users, r.texts(node, "auth_users")),
            "xkey" | "key" => {
                put(&mut out.xkey, r.text(node));
                if !nkey::is_public(&out.xkey, KeyKind::Curve) {
                    let text = format!(
                        "Expected callout xkey to be a valid public xkey, got {:?}",
                        out.xkey
                    );
                    r.error(node, text);
                }
            }
            "allowed_accounts" => {
                put(&mut out.allowed_accounts, r.texts(node, "allowed_accounts"));
            }
            _ if node.used => {}
            _ => r.error(node, format!("Unknown field {key:?} parsing authorization callout")),
        }
    }
    if out.issuer.is_empty() {
        r.error(node, "Authorization callouts require an issuer to be specified");
    }
    if out.auth_users.is_empty() {
        r.error(node, "Authorization callouts require authorized users to be specified");
    }
    Some(out)
}

/// The `authorization` of a cluster or gateway: one user only. Also gives its permissions.
pub(super) fn read_peer_auth(
    r: &mut Reader,
    node: &Node,
    name: &str,
) -> Option<(PeerAuth, Option<Permissions>)> {
    let auth = read_authorization(r, node)?;
    if auth.users.is_some() {
        r.error(node, format!("{name} authorization does not allow multiple users"));
    }
    if !auth.token.is_empty() {
        r.error(node, format!("{name} authorization does not support tokens"));
    }
    if auth.callout.is_some() {
        r.error(node, format!("{name} authorization does not support callouts"));
    }
    let peer = PeerAuth { user: auth.user, password: auth.password, timeout: auth.timeout };
    Some((peer, auth.default_permissions))
}

/// The `authorization` of a WebSocket or MQTT listener.
pub(super) fn read_simple_auth(r: &mut Reader, node: &Node) -> SimpleAuth {
    let mut out = SimpleAuth::default();
    let Value::Map(map) = &node.value else {
        r.wrong_type(node, "map[string]interface {}");
        return out;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "user" | "username" => put(&mut out.user, r.text(node)),
            "pass" | "password" => put(&mut out.password, r.secret(node)),
            "token" => put(&mut out.token, r.secret(node)),
            "timeout" => put(&mut out.timeout, r.timeout(node, "authorization")),
            _ => r.unknown(key, node),
        }
    }
    out
}
