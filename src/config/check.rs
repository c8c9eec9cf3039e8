//! Rules between keys, checked when the file and the flags have been joined. The texts are
//! nats-server's.

use super::accounts::GLOBAL;
use super::error::Finding;
use super::options::Options;
use super::permissions::subject_is_valid;
use super::reader::{Places, split_host_port};

/// Everything that keeps these options from being used, in the order of the file where a place is
/// known.
pub fn check(options: &Options, places: &Places) -> Vec<Finding> {
    check_known(options, places, false)
}

/// As [`check`]; when the options are partial because the file has errors, rules about names that
/// are defined elsewhere are left out.
pub(super) fn check_known(options: &Options, places: &Places, is_partial: bool) -> Vec<Finding> {
    let mut c = Checker { places, is_partial, findings: Vec::new() };
    c.limits(options);
    c.login(options);
    c.monitoring(options);
    c.cluster(options);
    c.leafnodes(options);
    c.edge(options);
    c.jetstream(options);
    c.shards(options);
    c.findings.sort_by(|a, b| a.pos.cmp(&b.pos));
    c.findings
}

struct Checker<'p> {
    places: &'p Places,
    is_partial: bool,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    /// Reports a rule that is broken, at the first of `paths` that stands in the file.
    fn refuse(&mut self, is_broken: bool, paths: &[&'static str], text: impl Into<String>) {
        if is_broken {
            let pos = paths.iter().find_map(|path| self.places.get(path));
            let text = text.into();
            self.findings.push(match pos {
                Some(pos) => Finding::error(pos, text),
                None => Finding::bare(text),
            });
        }
    }

    fn limits(&mut self, o: &Options) {
        let (grace, duration) = (o.lame_duck_grace_period, o.lame_duck_duration);
        self.refuse(
            grace >= duration,
            &["lame_duck_grace_period", "lame_duck_duration"],
            format!(
                "lame duck grace period ({}) should be strictly lower than lame duck duration ({})",
                super::go_duration(grace),
                super::go_duration(duration)
            ),
        );
        let (payload, pending) = (o.limits.payload_bytes_max, o.limits.pending_bytes_max);
        self.refuse(
            u64::from(payload) > pending,
            &["max_payload", "max_pending"],
            format!("max_payload ({payload}) cannot be higher than max_pending ({pending})"),
        );
        self.refuse(o.server_name.contains(' '), &[], "server name cannot contain spaces");
        let advertise = &o.client_advertise;
        self.refuse(
            !advertise.is_empty() && !is_host_port(advertise),
            &["client_advertise"],
            format!("invalid ClientAdvertise value of {advertise}"),
        );
    }

    fn login(&mut self, o: &Options) {
        self.no_auth_user(o, &o.auth.no_auth_user, "no_auth_user");
        // A single user or token by flag; in the file they are refused while it is read.
        let in_accounts = o.auth.users.iter().any(|user| user.account != GLOBAL);
        self.refuse(
            in_accounts && !o.auth.user.is_empty(),
            &["accounts.users"],
            "Can not have a single user/pass and accounts",
        );
        self.refuse(
            in_accounts && !o.auth.token.is_empty(),
            &["accounts.users"],
            "Can not have a token and accounts",
        );
        let system = &o.system_account;
        let is_missing = !system.is_empty()
            && system != GLOBAL
            && !o.accounts.iter().any(|account| account.name == *system);
        self.refuse(
            is_missing && !self.is_partial,
            &["system_account"],
            "error resolving system account: account missing",
        );
        let has_no_cert =
            o.tls.as_ref().is_some_and(|tls| tls.cert_file.is_none() && tls.certs.is_empty());
        self.refuse(
            has_no_cert && !self.is_partial,
            &["tls"],
            "TLS configuration has no certificate: cert_file and key_file, or certs, are needed",
        );
        self.refuse(
            o.trust.operators.is_empty() && !o.trust.default_sentinel.is_empty(),
            &["default_sentinel"],
            "default sentinel requires operators and accounts",
        );
    }

    /// Who a client without credentials is must be one of the users.
    fn no_auth_user(&mut self, o: &Options, name: &str, path: &'static str) {
        if name.is_empty() || self.is_partial {
            return;
        }
        self.refuse(
            o.auth.users.is_empty(),
            &[path],
            format!("no_auth_user: \"{name}\" present, but users/nkeys are not defined"),
        );
        self.refuse(
            !o.auth.users.is_empty() && !o.auth.users.iter().any(|user| user.name == name),
            &[path],
            format!(
                "no_auth_user: \"{name}\" not present as user or nkey in authorization block or \
                 account configuration"
            ),
        );
    }

    fn monitoring(&mut self, o: &Options) {
        let both = !o.monitor.http.is_off() && !o.monitor.https.is_off();
        self.refuse(
            both,
            &["http", "https"],
            format!(
                "can't specify both HTTP ({}) and HTTPs ({}) ports",
                o.monitor.http, o.monitor.https
            ),
        );
        self.refuse(
            !o.monitor.https.is_off() && o.tls.is_none(),
            &["https"],
            "TLS cert and key required for HTTPS",
        );
    }

    fn cluster(&mut self, o: &Options) {
        let (cluster, gateway) = (&o.cluster, &o.gateway);
        self.refuse(
            !gateway.name.is_empty() && !cluster.name.is_empty() && gateway.name != cluster.name,
            &["gateway.name"],
            "cluster name conflicts between cluster and gateway definitions",
        );
        self.refuse(
            !cluster.pinned_accounts.is_empty() && cluster.pool_size < 0,
            &["cluster.pool_size"],
            "pool_size cannot be negative if pinned accounts are specified",
        );
        for (index, name) in cluster.pinned_accounts.iter().enumerate() {
            let is_twin = cluster.pinned_accounts.iter().take(index).any(|other| other == name);
            self.refuse(
                is_twin,
                &["cluster.accounts"],
                format!(
                    "found duplicate account name {name:?} in pinned accounts list {}",
                    quoted(&cluster.pinned_accounts)
                ),
            );
        }
        let has_gateway = !gateway.name.is_empty() || !gateway.listen.port.is_off();
        self.refuse(has_gateway && gateway.name.is_empty(), &["gateway"], "gateway has no name");
        self.refuse(
            has_gateway && !gateway.name.is_empty() && gateway.listen.port.is_off(),
            &["gateway.name"],
            format!("gateway {:?} has no port specified (select -1 for random port)", gateway.name),
        );
        self.refuse(
            has_gateway && !o.leafnodes.listen.port.is_off() && o.system_account.is_empty(),
            &["leafnodes"],
            "leaf nodes and gateways (both being defined) require a system account to also be \
             configured",
        );
    }

    fn leafnodes(&mut self, o: &Options) {
        if self.is_partial {
            return;
        }
        let exists = |name: &str| {
            name.is_empty()
                || name == "$G"
                || (name == "$SYS" && o.system_account_name() == Some("$SYS"))
                || o.accounts.iter().any(|account| account.name == name)
        };
        let auth = &o.leafnodes.auth;
        let logins = auth.users.iter().map(|user| &user.account);
        let logins: Vec<&String> = std::iter::once(&auth.account).chain(logins).collect();
        for name in logins.into_iter().filter(|name| !exists(name)) {
            let text =
                format!("cannot find local account {name:?} specified in leafnode authorization");
            self.refuse(true, &["leafnodes.authorization"], text);
        }
        for remote in o.leafnodes.remotes.iter().filter(|remote| !exists(&remote.account)) {
            let name = &remote.account;
            let text = format!("cannot find local account {name:?} specified in leafnode remote");
            self.refuse(true, &["leafnodes.remotes"], text);
        }
    }

    fn edge(&mut self, o: &Options) {
        let (ws, mqtt) = (&o.websocket, &o.mqtt);
        let has_users = !o.auth.users.is_empty();
        if !ws.listen.port.is_off() {
            let text = "websocket requires TLS configuration";
            self.refuse(ws.tls.is_none() && !ws.no_tls, &["websocket"], text);
            self.no_auth_user(o, &ws.no_auth_user, "websocket.no_auth_user");
            for (is_set, what) in
                [(!ws.auth.user.is_empty(), "username"), (!ws.auth.token.is_empty(), "token")]
            {
                let text = format!(
                    "websocket authentication {what} not compatible with presence of users/nkeys"
                );
                self.refuse(has_users && is_set, &["websocket"], text);
            }
            for origin in &ws.allowed_origins {
                let is_url = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
                let text = format!(
                    "unable to parse allowed origin {origin:?}: allowed origins must be absolute \
                     URLs with http or https scheme"
                );
                self.refuse(is_url.is_none_or(str::is_empty), &["websocket.allowed_origins"], text);
            }
            let text = format!(
                "trusted operators or trusted keys configuration is required for JWT \
                 authentication via cookie {:?}",
                ws.jwt_cookie
            );
            self.refuse(!ws.jwt_cookie.is_empty(), &["websocket"], text);
        }
        if !mqtt.listen.port.is_off() {
            let linked = !o.cluster.listen.port.is_off() || !o.gateway.listen.port.is_off();
            self.refuse(
                o.server_name.is_empty() && linked,
                &["mqtt"],
                "mqtt requires server name to be explicitly set",
            );
            self.no_auth_user(o, &mqtt.no_auth_user, "mqtt.no_auth_user");
            for (is_set, what) in
                [(!mqtt.auth.user.is_empty(), "username"), (!mqtt.auth.token.is_empty(), "token")]
            {
                let text = format!("mqtt {what} not compatible with presence of users/nkeys");
                self.refuse(has_users && is_set, &["mqtt"], text);
            }
            let leaf = !o.leafnodes.listen.port.is_off() || !o.leafnodes.remotes.is_empty();
            self.refuse(
                !o.jetstream.enabled && !linked && !leaf,
                &["mqtt"],
                "mqtt requires JetStream to be enabled if running in standalone mode",
            );
        }
    }

    fn jetstream(&mut self, o: &Options) {
        let domain = &o.jetstream.domain;
        if !domain.is_empty() {
            let derived = format!("$JS.{domain}.API.>");
            let is_valid = subject_is_valid(&derived);
            let text = format!("invalid domain name: derived {derived:?} is not a valid subject");
            self.refuse(!is_valid, &["jetstream.domain"], text);
            self.refuse(
                is_valid && domain.contains(['.', '*', '>']),
                &["jetstream.domain"],
                "invalid domain name: may not contain ., * or >",
            );
        }
        for (account, domain) in &o.default_js_domain {
            let known = account == "$G" || o.accounts.iter().any(|a| a.name == *account);
            let text = format!(
                "in non operator mode, `default_js_domain` references non existing account \
                 {account:?}"
            );
            self.refuse(!known && !self.is_partial, &["default_js_domain"], text);
            let has_own = o.accounts.iter().any(|a| a.name == *account && a.jetstream.is_some());
            let text = format!(
                "default_js_domain contains account name {account:?} with enabled JetStream"
            );
            self.refuse(has_own && !domain.is_empty(), &["default_js_domain"], text);
        }
        if !o.jetstream.enabled || o.cluster.listen.port.is_off() {
            return;
        }
        self.refuse(
            o.server_name.is_empty(),
            &["jetstream"],
            "jetstream cluster requires `server_name` to be set",
        );
        self.refuse(
            o.cluster.name.is_empty(),
            &["jetstream"],
            "jetstream cluster requires `cluster.name` to be set",
        );
        let hint = &o.jetstream.extension_hint;
        self.refuse(
            !["", "will_extend", "no_extend"].contains(&hint.as_str()),
            &["jetstream.extension_hint"],
            format!("expected 'no_extend' for string value, got '{hint}'"),
        );
    }

    fn shards(&mut self, o: &Options) {
        let (count, cpus) = (o.shards.count.unwrap_or(0) as usize, o.shards.cpus.len());
        self.refuse(
            cpus != 0 && count > cpus && o.shards.pin,
            &["shards.count"],
            format!("shards.count ({count}) is more than the {cpus} cpus to pin them to"),
        );
    }
}

/// `host` or `host:port`.
fn is_host_port(text: &str) -> bool {
    match split_host_port(text) {
        Some((_, port)) => port.parse::<u16>().is_ok(),
        None => !text.contains(':'),
    }
}

/// A list of names as Go prints it with `%q`.
fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("[{}]", names.join(" "))
}
