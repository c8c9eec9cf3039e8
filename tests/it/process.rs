//! The process as operators and other tools see it: flags, files, signals, exit codes, log lines.

use std::process::Command;

use rustix::process::Signal;

use crate::support::server::{Options, binary, oracle};
use crate::support::{Conn, Server, poll};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn version_names_the_nats_version_that_is_served() {
    for flag in ["--version", "-v", "version"] {
        let (code, out, err) = run(&[flag]);
        assert_eq!(code, Some(0));
        let said = format!("{out}{err}");
        assert!(said.contains("nats-server: v2.15.1"), "{flag}: {said}");
    }
}

#[test]
fn help_goes_to_standard_output() {
    for flag in ["-h", "--help"] {
        let (code, out, _) = run(&[flag]);
        assert_eq!(code, Some(0), "{flag}");
        assert!(out.contains("--port") && out.contains("--signal"), "{out}");
    }
}

#[test]
fn unknown_flags_and_words_are_refused() {
    // nats-server ends with 0 here; who scripts it may rely on that.
    let (_, out, err) = run(&["--bogus"]);
    assert!(format!("{out}{err}").contains("flag provided but not defined: -bogus"), "{out}{err}");
    let (code, out, err) = run(&["foo"]);
    assert_eq!(code, Some(1));
    assert!(format!("{out}{err}").contains(r#"unrecognized command: "foo""#), "{err}");
}

#[test]
fn configuration_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.conf");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "port: -1 # a comment\nmax_payload: 1MB\n").unwrap();
    let (code, out, err) = run(&["-t", "-c", path]);
    let said = format!("{out}{err}");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is valid"), "{said}");
    if oracle().is_none() {
        std::fs::write(&file, "port: -1\ntrace_headers: true\nocsp: true\n").unwrap();
        let (code, out, err) = run(&["-t", "-c", path]);
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!((code, out.as_str(), lines.len()), (Some(0), "", 3), "{err}");
        for (line, wanted) in lines.iter().zip([
            "c.conf:2:1: \"trace_headers\" is not served yet and has no effect",
            "c.conf:3:1: \"ocsp\" is not served yet and has no effect",
            "is valid",
        ]) {
            assert!(line.starts_with("nats-server: ") && line.contains(wanted), "{line}");
        }
    }
    std::fs::write(&file, "max_payload: 1MB\nno_such_key: 1\n").unwrap();
    let (code, out, err) = run(&["-t", "-c", path]);
    let said = format!("{out}{err}");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("c.conf:2:1") && said.contains("no_such_key"), "{said}");
    let (code, _, err) = run(&["-t"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("-c"), "{err}");
}

#[test]
fn a_bad_configuration_starts_nothing_and_names_every_error() {
    let config = "max_payload: \"many\"\nno_such_key: 1\nauthorization { users = [ { user: u, pss: p } ] }\n";
    let (status, said) = Options::new().config(config).start_refused();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("server.conf:2:1") && said.contains("no_such_key"), "{said}");
    if oracle().is_none() {
        assert!(said.contains("server.conf:1:") && said.contains("server.conf:3:"), "{said}");
    }
}

#[test]
fn a_file_in_the_place_of_the_store_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jetstream");
    std::fs::write(&file, "not a directory").unwrap();
    // The store's directory itself, the one above it, and one further up.
    for path in [file.clone(), file.join("below"), dir.path().to_owned()] {
        let config = format!("jetstream {{ store_dir: \"{}\" }}", path.display());
        let (status, said) = Options::new().config(config).start_refused();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("storage directory is not a directory"), "{said}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"not a directory");
}

#[test]
fn a_start_waits_for_the_end_of_the_server_that_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (store, log) = (dir.path().join("store"), dir.path().join("log"));
    std::fs::create_dir_all(store.join("jetstream")).unwrap();
    let lock = std::fs::File::create(store.join("jetstream/.lock")).unwrap();
    lock.lock().unwrap();
    let arguments = ["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"];
    let mut server = Command::new(binary())
        .args(arguments)
        .args([store.as_os_str(), "-l".as_ref(), log.as_os_str()])
        .spawn()
        .unwrap();
    let said = |what: &str| {
        poll(what, || std::fs::read_to_string(&log).ok()?.contains(what).then_some(()));
    };
    said("waiting for its end");
    lock.unlock().unwrap();
    said("Server is ready");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_port_in_use_is_told() {
    let server = Server::plain();
    let (status, said) = Options::new().port(server.port).start_refused();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn start_lines_that_tools_look_for() {
    let server = Server::monitored("server_name: lines");
    let port = server.port;
    for line in [
        "[INF] Starting nats-server",
        "[INF]   Version:  2.15.1",
        "[INF] Using configuration file: ",
        "[INF] Starting http monitor on 127.0.0.1:",
        &format!("[INF] Listening for client connections on 127.0.0.1:{port}"),
        "[INF] Server is ready",
    ] {
        server.wait_log(line);
    }
    let first = server.log_text();
    let first = first.lines().next().unwrap();
    assert!(first.starts_with(&format!("[{}] 2", server.pid())), "{first}");
}

#[test]
fn advice_at_start_has_the_words_of_nats_server() {
    let words = ["Plaintext passwords detected", "Maximum payloads over 8.00 MB"];
    let unwise = "max_payload: 9MB\nauthorization { users: [ { user: u, password: p } ] }\n";
    let server = Options::new().config(unwise).start();
    let plain = "[WRN] Plaintext passwords detected, use nkeys or bcrypt";
    let large = "[WRN] Maximum payloads over 8.00 MB are generally discouraged and could lead to \
                 poor performance";
    server.wait_log(plain);
    server.wait_log(large);
    let wise = "max_payload: 8MB\nauthorization { token: t }\n";
    let server = Options::new().config(wise).start();
    server.wait_log("[INF] Server is ready");
    let text = server.log_text();
    assert!(!words.iter().any(|word| text.contains(word)), "{text}");
}

#[test]
fn flags_override_the_file() {
    let server = Options::new()
        .config("server_name: from_file\nmax_payload: 1000\n")
        .flags(["-n", "from_flag"])
        .start();
    let conn = Conn::greeted(server.port);
    assert_eq!(conn.info["server_name"], "from_flag");
    assert_eq!(conn.info["max_payload"], 1000);
}

#[test]
fn ports_and_pid_files_come_and_go() {
    let mut server = Options::new().flags(["-P", "server.pid", "-m", "-1"]).start();
    let pid_file = server.dir().join("server.pid");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid, server.pid().to_string());
    let ports_file = server.ports_file();
    let ports = poll("the ports file", || {
        let text = std::fs::read(&ports_file).ok()?;
        serde_json::from_slice::<serde_json::Value>(&text).ok()
    });
    assert_eq!(ports["nats"][0], format!("nats://127.0.0.1:{}", server.port));
    let monitor = format!("http://127.0.0.1:{}", server.monitor_port.unwrap());
    assert_eq!(ports["monitoring"][0], monitor);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(!ports_file.exists(), "the ports file stays behind");
}

#[test]
fn log_file_is_written_and_reopened() {
    let server = Options::new().flags(["-l", "server.log"]).log_elsewhere().start();
    let log = server.dir().join("server.log");
    let moved = server.dir().join("server.log.1");
    poll("the ready line in the file", || {
        std::fs::read_to_string(&log).ok()?.contains("Server is ready").then_some(())
    });
    std::fs::rename(&log, &moved).unwrap();
    server.signal(Signal::USR1);
    poll("a new log file", || log.exists().then_some(()));
    server.signal(Signal::HUP);
    poll("new lines in the new file", || {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.lines().count() > 0).then_some(())
    });
}

#[test]
fn log_files_rotate_at_their_size_and_only_so_many_stay() {
    let config = "logfile_size_limit: 20000\nlogfile_max_num: 3\ntrace: true\n";
    let server = Options::new().config(config).flags(["-l", "server.log"]).log_elsewhere().start();
    let mut conn = Conn::quiet(server.port);
    for _ in 0..400 {
        let frame = format!("PUB {} 0\r\n\r\n", "rotation.".repeat(20) + "x");
        conn.send(frame.repeat(5));
        conn.sync();
    }
    poll("three log files", || {
        let files = std::fs::read_dir(server.dir()).unwrap();
        let logs: Vec<String> = files
            .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("server.log"))
            .collect();
        // server.log.YYYY.MM.DD.hh.mm.ss.nnnnnnnnn
        let dated = logs.iter().filter(|name| name.split('.').count() == 9).count();
        (logs.len() == 3 && dated == 2).then_some(())
    });
}

#[test]
fn interrupt_and_terminate_exit_with_zero() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut server = Server::plain();
        server.signal(signal);
        assert_eq!(server.wait_exit().code(), Some(0), "{signal:?}");
        server.wait_log("Server Exiting");
    }
}

#[test]
fn signal_command_reaches_the_process() {
    let mut server =
        Options::new().config("max_payload: 1000\n").flags(["-P", "server.pid"]).start();
    let pid = server.pid();
    let (code, _, err) = run(&["--signal", &format!("reload={pid}")]);
    assert_eq!(code, Some(0), "{err}");
    server.wait_log("Reloaded server configuration");
    let by_file = format!("term={}", server.dir().join("server.pid").display());
    let (code, _, err) = run(&["-sl", &by_file]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.wait_exit().code(), Some(0));
    let (code, _, err) = run(&["--signal", "bogus=1"]);
    assert_eq!(code, Some(1));
    assert!(err.contains(r#"unknown signal "bogus""#), "{err}");
}

#[test]
fn lame_duck_ends_the_process_after_its_clients() {
    let config = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n";
    let mut server = Server::with_config(config);
    server.signal(Signal::USR2);
    server.wait_log("Entering lame duck mode, stop accepting new clients");
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn trace_lines_show_the_protocol_without_secrets() {
    let config = "trace: true\ndebug: true\nauthorization { user: u, password: tr0ub4dor }\n";
    let server = Server::with_config(config);
    let connect = r#"{"verbose":false,"user":"u","pass":"tr0ub4dor","name":"traced"}"#;
    let mut conn = Conn::login(server.port, connect);
    conn.send("PUB traced.subject 2\r\nhi\r\n");
    conn.sync();
    server.wait_log("[PUB traced.subject 2]");
    assert!(!server.log_text().contains("tr0ub4dor"), "a password stands in the log");
}
