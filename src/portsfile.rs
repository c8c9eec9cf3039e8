//! The ports file: which URLs the server listens on, for tools that let it choose its ports.
//!
//! `<program>_<pid>.ports` in the configured directory, with nats-server's JSON. Tools poll
//! for it and read it at once, so it appears whole: written aside and renamed.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::path_error;

/// The URLs of each listener; a listener that is off is left out of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// Client listener, `nats://` or `tls://`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nats: Vec<String>,
    /// Monitoring, `http://` or `https://`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub monitoring: Vec<String>,
    /// Routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<String>,
    /// Profiling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profile: Vec<String>,
    /// Websocket clients, `ws://` or `wss://`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub websocket: Vec<String>,
}

/// A written ports file. It is removed when this value is dropped.
#[derive(Debug)]
pub struct PortsFile {
    path: PathBuf,
}

impl PortsFile {
    /// Writes the file for this process.
    ///
    /// # Errors
    ///
    /// The text to log when the directory cannot be written. nats-server logs it and serves
    /// all the same.
    pub fn write(directory: &Path, ports: &Ports) -> Result<Self, String> {
        Self::write_as(directory, &program_name(), std::process::id(), ports)
    }

    fn write_as(directory: &Path, name: &str, pid: u32, ports: &Ports) -> Result<Self, String> {
        let path = directory.join(format!("{name}_{pid}.ports"));
        let aside = directory.join(format!(".{name}_{pid}.ports.new"));
        let json = serde_json::to_vec(ports).map_err(|error| error.to_string())?;
        let written = fs::File::create(&aside)
            .and_then(|mut file| file.write_all(&json))
            .and_then(|()| fs::rename(&aside, &path));
        match written {
            Ok(()) => Ok(Self { path }),
            Err(error) => {
                // What could not be written may not even exist.
                let _ = fs::remove_file(&aside);
                Err(format!(
                    "Error writing ports file ({}): {}",
                    path.display(),
                    path_error("open", &path, &error)
                ))
            }
        }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PortsFile {
    fn drop(&mut self) {
        // Already gone is as good; anything else is nobody's to mend at exit.
        let _ = fs::remove_file(&self.path);
    }
}

/// The base name of the program as it was called, which names the ports file and the
/// process in a syslog: a server installed as `nats-server` calls itself that.
#[must_use]
pub fn program_name() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    match called.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "shearwater".to_owned(),
    }
}

/// The URLs under which one bound address is reached: itself, or one per address of the
/// machine when it is bound to all of them.
#[must_use]
pub fn urls(scheme: &str, bound: SocketAddr, machine: &[IpAddr]) -> Vec<String> {
    if !bound.ip().is_unspecified() {
        return vec![format!("{scheme}://{bound}")];
    }
    let reached = |ip: &&IpAddr| bound.is_ipv6() || ip.is_ipv4();
    machine
        .iter()
        .filter(reached)
        .map(|ip| format!("{scheme}://{}", SocketAddr::new(*ip, bound.port())))
        .collect()
}

/// The addresses of this machine, loopback first, as the kernel lists them. Empty when the
/// kernel does not tell.
#[must_use]
pub fn machine_addresses() -> Vec<IpAddr> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut all = ipv4_of_trie(&read("/proc/net/fib_trie"));
    all.extend(ipv6_of_list(&read("/proc/net/if_inet6")));
    all.sort_by_key(|ip| !ip.is_loopback());
    all
}

/// The local addresses of `/proc/net/fib_trie`: a leaf line `|-- a.b.c.d` followed by
/// `/32 host LOCAL`.
fn ipv4_of_trie(trie: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<IpAddr>().ok();
        } else if let (true, Some(ip)) = (line == "/32 host LOCAL", leaf) {
            // The local and the main table may both list it.
            if !found.contains(&ip) {
                found.push(ip);
            }
        }
    }
    found
}

/// The addresses of `/proc/net/if_inet6`: 32 hexadecimal digits first on each line.
fn ipv6_of_list(list: &str) -> Vec<IpAddr> {
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|digits| digits.len() == 32)
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(|bits| IpAddr::V6(bits.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_nats_servers_json_and_goes_with_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports {
            nats: vec!["nats://127.0.0.1:43177".into()],
            monitoring: vec!["http://127.0.0.1:39021".into()],
            ..Ports::default()
        };
        let file = PortsFile::write_as(dir.path(), "nats-server", 6, &ports).unwrap();
        let path = dir.path().join("nats-server_6.ports");
        assert_eq!(file.path(), path);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"nats":["nats://127.0.0.1:43177"],"monitoring":["http://127.0.0.1:39021"]}"#
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_directory_is_told() {
        let refusal =
            PortsFile::write_as(Path::new("/nonexistent"), "x", 1, &Ports::default()).unwrap_err();
        assert!(refusal.contains("/nonexistent/x_1.ports"), "{refusal}");
        assert!(refusal.ends_with("no such file or directory"), "{refusal}");
    }

    #[test]
    fn a_wildcard_is_every_address() {
        let machine = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let of = |bound: &str| urls("nats", bound.parse().unwrap(), &machine);
        assert_eq!(of("10.0.0.1:5"), ["nats://10.0.0.1:5"]);
        assert_eq!(of("0.0.0.0:5"), ["nats://127.0.0.1:5"]);
        assert_eq!(of("[::]:5"), ["nats://127.0.0.1:5", "nats://[::1]:5"]);
    }

    #[test]
    fn the_kernels_lists_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n\
            Local:\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.2\n        \
            /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n \
            /32 host LOCAL\n";
        let expected: Vec<IpAddr> =
            vec!["127.0.0.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        assert_eq!(ipv4_of_trie(trie), expected);
        let list = "00000000000000000000000000000001 01 80 10 80       lo\nbad line\n";
        assert_eq!(ipv6_of_list(list), ["::1".parse::<IpAddr>().unwrap()]);
        assert!(ipv4_of_trie("").is_empty());
    }
}
