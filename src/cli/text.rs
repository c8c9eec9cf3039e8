//! What the command line prints: version, usage, TLS help.

use super::{NATS_VERSION, Printout, SHEARWATER_VERSION};

/// nats-server's version line on standard output, byte for byte, and ours beside it on
/// standard error. Scripts compare the whole output, take its last word or cut it at blanks;
/// a suffix or a second line on the same stream would break some of them.
pub(super) fn version() -> Printout {
    Printout {
        stdout: format!("nats-server: v{NATS_VERSION}\n"),
        stderr: format!("shearwater: v{SHEARWATER_VERSION}\n"),
    }
}

/// The usage, in nats-server's order of headings.
pub(super) fn usage() -> String {
    format!("\nUsage: shearwater [options]\n{USAGE}\n")
}

const USAGE: &str = "
Server Options:
    -a, --addr, --net <host>          Listen for clients on this host (default: 0.0.0.0)
    -p, --port <port>                 Listen for clients here; -1 for a free port (default: 4222)
    -n, --name, --server_name <name>  Name of this server, without blanks (default: its id)
    -P, --pid <file>                  Write the process id to this file
    -m, --http_port <port>            Serve monitoring over HTTP on this port
    -ms,--https_port <port>           Serve monitoring over HTTPS on this port
    -c, --config <file>               Read this configuration file; flags override it
    -t                                Check the configuration file and exit
    -sl,--signal <signal>[=<target>]  Signal a server: ldm, stop, quit, term, reopen or reload;
                                      <target> is a pid, a pid file, or first digits and *
        --client_advertise <address>  Address to tell clients and other servers
        --ports_file_dir <dir>        Write all URLs into <dir>/<program>_<pid>.ports

Shard Options:
        --shards <number>             Shards to run (default: one for each usable CPU)
        --cpus <list>                 CPUs to pin them to, such as 0-3,8 (default: all usable)
        --spin <mode>                 Idle shards: off, adaptive or always (default: adaptive)

Logging Options:
    -l, --log <file>                  Log to this file (default: standard error)
    -T, --logtime                     Start lines with the time; -T=false not to (default: true)
        --logtime_utc                 Give the time in UTC (default: local time)
    -s, --syslog                      Log to the local syslog
    -r, --remote_syslog <url>         Log to a syslog elsewhere, such as udp://host:514
    -D, --debug                       Log debug lines
    -V, --trace                       Log every protocol line
    -VV                               Like -V, with the system account
    -DV                               Like -D -V
    -DVV                              Like -D -VV
        --log_size_limit <bytes>      Rotate the log file at this size (default: never)
        --max_traced_msg_len <bytes>  Show this much of a payload in traces (default: all)

JetStream Options:
    -js,--jetstream                   Turn JetStream on
    -sd,--store_dir <dir>             Store data below this directory

Authorization Options:
        --user <user>                 Clients must give this user
        --pass <password>             and this password, plain or bcrypt
        --auth <token>                Clients must give this token, plain or bcrypt

TLS Options:
        --tls                         Require TLS, without client certificates
        --tlscert <file>              Certificate of the server (PEM)
        --tlskey <file>               Private key of the server (PEM)
        --tlsverify                   Require TLS and client certificates
        --tlscacert <file>            Authorities that sign client certificates (PEM)

Cluster Options:
        --routes <url,url>            Servers to connect to
        --cluster <url>               Listen for other servers here
        --cluster_listen <url>        The same
        --cluster_name <name>         Name of the cluster (default: generated)
        --no_advertise                Do not tell clients of other servers
        --cluster_advertise <address> Address to tell other servers
        --connect_retries <number>    Attempts to reach servers learnt from others

Profiling Options:
        --profile <port>              Serve profiles over HTTP on this port

Commands:
    check <directory> [--repair]      Verify a store while no server runs on it (-c for its keys)

Common Options:
    -h, --help                        Show this text
    -v, --version                     Show the version
        --help_tls                    Show how to set up TLS
";

/// How to set up TLS.
pub(super) fn tls_help() -> String {
    TLS_HELP.to_owned()
}

const TLS_HELP: &str = "
TLS is set up in the tls block of the configuration file:

    tls {
        cert_file: \"/etc/shearwater/server.pem\"
        key_file:  \"/etc/shearwater/server.key\"
        ca_file:   \"/etc/shearwater/ca.pem\"   # who signs client certificates
        verify:    true                        # clients must have one
        timeout:   2                           # seconds for the handshake
        min_version: \"1.2\"

        cipher_suites: [ \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\" ]
        curve_preferences: [ \"X25519\" ]
    }

Available cipher suites include:
    TLS_AES_128_GCM_SHA256
    TLS_AES_256_GCM_SHA384
    TLS_CHACHA20_POLY1305_SHA256
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256

Suites with CBC, RC4, 3DES or static RSA that nats-server can still be told to use are refused.

Available curve preferences include:
    X25519MLKEM768
    X25519
    CurveP256
    CurveP384
";
