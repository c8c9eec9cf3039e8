//! The INFO document: what the server tells a client about itself.

use serde::Serialize;

/// Whether a flag is off, so that it can be left out.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands over a reference
const fn off(flag: &bool) -> bool {
    !*flag
}

/// Whether a number is zero, so that it can be left out.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands over a reference
const fn zero(number: &u64) -> bool {
    *number == 0
}

/// INFO for a client connection. Fields are written in this order; those that are empty, zero or
/// false are left out where nats-server leaves them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Public server key, `N` and 55 more characters.
    pub server_id: String,
    /// Configured name, or the same as `server_id`.
    pub server_name: String,
    /// `x.y.z`; clients switch features on by it.
    pub version: String,
    /// Protocol level, 1 for clients.
    pub proto: u32,
    /// Seven characters of the commit the server was built from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// Name of the run-time; always present and not read by clients.
    pub go: String,
    /// Host that clients should dial.
    pub host: String,
    /// Port that clients should dial.
    pub port: u16,
    /// Whether messages may have headers.
    pub headers: bool,
    /// Whether CONNECT must carry credentials.
    #[serde(skip_serializing_if = "off")]
    pub auth_required: bool,
    /// Whether the client must start TLS.
    #[serde(skip_serializing_if = "off")]
    pub tls_required: bool,
    /// Whether the client must show a certificate.
    #[serde(skip_serializing_if = "off")]
    pub tls_verify: bool,
    /// Whether the client may start TLS.
    #[serde(skip_serializing_if = "off")]
    pub tls_available: bool,
    /// Largest body of a publish in bytes.
    pub max_payload: i64,
    /// Whether JetStream is enabled.
    #[serde(skip_serializing_if = "off")]
    pub jetstream: bool,
    /// Address for routes and gateways.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Number of the connection.
    #[serde(skip_serializing_if = "zero")]
    pub client_id: u64,
    /// Address of the client as the server sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// Challenge to sign, where signatures are in use.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Whether the cluster's name was generated.
    #[serde(skip_serializing_if = "off")]
    pub cluster_dynamic: bool,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// `host:port` of every server of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// The same for WebSocket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// Lame duck: please reconnect elsewhere.
    #[serde(rename = "ldm", skip_serializing_if = "off")]
    pub lame_duck: bool,
    /// Compression of leaf and route links.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// Marks the INFO that follows the first PING.
    #[serde(skip_serializing_if = "off")]
    pub connect_info: bool,
    /// Account that the client was bound to; only with `connect_info`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// Whether that account is the system account.
    #[serde(rename = "acc_is_sys", skip_serializing_if = "off")]
    pub account_is_system: bool,
    /// JetStream API level.
    #[serde(rename = "api_lvl", skip_serializing_if = "zero")]
    pub api_level: u64,
    /// Public curve key for encrypted auth callout.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

impl Default for Info {
    /// A server with headers, protocol level 1, 1 MiB messages and nothing else switched on.
    fn default() -> Self {
        Self {
            server_id: String::new(),
            server_name: String::new(),
            version: String::new(),
            proto: 1,
            git_commit: String::new(),
            go: String::new(),
            host: String::new(),
            port: 0,
            headers: true,
            auth_required: false,
            tls_required: false,
            tls_verify: false,
            tls_available: false,
            max_payload: 1_048_576,
            jetstream: false,
            ip: String::new(),
            client_id: 0,
            client_ip: String::new(),
            nonce: String::new(),
            cluster: String::new(),
            cluster_dynamic: false,
            domain: String::new(),
            connect_urls: Vec::new(),
            ws_connect_urls: Vec::new(),
            lame_duck: false,
            compression: String::new(),
            connect_info: false,
            remote_account: String::new(),
            account_is_system: false,
            api_level: 0,
            xkey: String::new(),
        }
    }
}
