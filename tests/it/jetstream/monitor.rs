//! JetStream on the monitoring pages. With nats-server as the oracle the same pages are asked of
//! it, so what is expected here is what both say.

use super::Asker;
use crate::support::server::{Options, oracle};
use crate::support::{Server, http, poll};

/// A server with three streams, some messages, and consumers in several states.
fn furnished() -> (Server, Asker) {
    let server = Server::monitored(concat!(
        "server_name: one\n",
        "jetstream { store_dir: \"{dir}/js\", domain: hub, max_mem: 10MB, max_file: 20MB, \
         sync: always }"
    ));
    let mut asker = Asker::new(&server);
    for config in [
        r#"{"name":"FILE","subjects":["a.>"],"storage":"file","num_replicas":1,"max_bytes":9000}"#,
        r#"{"name":"MEM","subjects":["b"],"storage":"memory","num_replicas":1,"max_bytes":500}"#,
        r#"{"name":"NONE","subjects":["c"],"storage":"file","num_replicas":1}"#,
    ] {
        let name = config.split('"').nth(3).unwrap();
        asker.ask(&format!("$JS.API.STREAM.CREATE.{name}"), config);
    }
    for number in 0..6 {
        asker.ask(&format!("a.{}", number % 2), "hello");
    }
    asker.ask("b", "world");
    asker.ask("$JS.API.STREAM.MSG.DELETE.FILE", r#"{"seq":3}"#);
    for (name, config) in [
        ("PULL", r#"{"durable_name":"PULL","ack_policy":"explicit"}"#),
        ("PUSH", r#"{"durable_name":"PUSH","ack_policy":"none","deliver_subject":"nobody"}"#),
    ] {
        let body = format!(r#"{{"stream_name":"FILE","config":{config}}}"#);
        asker.ask(&format!("$JS.API.CONSUMER.DURABLE.CREATE.FILE.{name}"), body);
    }
    assert!(asker.ask_anyhow("$JS.API.STREAM.INFO.ABSENT", "").contains("10059"));
    (server, asker)
}

/// A line without what differs from run to run: times, ids and folders.
fn same_line(line: &str) -> String {
    let varies = ["server_id", "now", "store_dir", "created", "ts", "first_ts", "last_ts"];
    match line.trim_start().strip_prefix('"').and_then(|line| line.split_once("\": \"")) {
        Some((key, value)) if varies.contains(&key) => {
            let comma = if value.ends_with(',') { "," } else { "" };
            format!("\"{key}\":\"any\"{comma}")
        }
        _ => line.trim_start().replacen("\": ", "\":", 1),
    }
}

/// Puts the objects of the lists at one depth in order: nats-server's come in any.
fn in_order(lines: &[String], depth: usize) -> Vec<String> {
    let brace = |letter: char| format!("{}{letter}", " ".repeat(depth));
    let (mut out, mut objects) = (Vec::new(), Vec::new());
    let mut lines = lines.iter().peekable();
    while let Some(line) = lines.next() {
        if *line != brace('{') {
            out.push(line.clone());
            continue;
        }
        let mut object = vec![line.clone()];
        while let Some(line) = lines.next_if(|line| !line.starts_with(&brace('}'))) {
            object.push(line.clone());
        }
        lines.next();
        objects.push(object);
        if lines.peek().is_none_or(|line| **line != brace('{')) {
            objects.sort();
            let count = objects.len();
            for (at, object) in objects.drain(..).enumerate() {
                out.extend(object);
                out.push(format!("{}{}", brace('}'), if at + 1 < count { "," } else { "" }));
            }
        }
    }
    out
}

/// The page on one line with its keys in their order, streams and consumers by name.
fn page(server: &Server, path: &str) -> String {
    let body = http::get(server, path).body;
    let lines: Vec<String> = body.lines().map(ToOwned::to_owned).collect();
    let blank = |line: &String| " ".repeat(line.len() - line.trim_start().len());
    let lines: Vec<String> =
        lines.iter().map(|line| format!("{}{}", blank(line), same_line(line))).collect();
    // Consumers begin behind twelve blanks, streams behind eight.
    let lines = in_order(&in_order(&lines, 12), 8);
    lines.iter().map(|line| line.trim_start()).collect()
}

const HEAD: &str = concat!(
    r#"{"memory":22,"storage":190,"reserved_memory":500,"reserved_storage":9000,"accounts":1,"#,
    r#""ha_assets":0,"api":{"level":5,"total":7,"errors":1},"server_id":"any","now":"any","#,
    r#""config":{"max_memory":10485760,"max_storage":20971520,"store_dir":"any","#,
    r#""sync_interval":120000000000,"sync_always":true,"domain":"hub","compress_ok":true,"#,
    r#""strict":true},"limits":{"default_max_consumers":1000},"streams":3,"consumers":2,"#,
    r#""messages":6,"bytes":212,"#,
);
const ACCOUNT: &str = concat!(
    r#"{"name":"$G","id":"$G","memory":22,"storage":190,"reserved_memory":18446744073709551615,"#,
    r#""reserved_storage":18446744073709551615,"accounts":0,"ha_assets":0,"api":{"level":0,"#,
    r#""total":7,"errors":1}"#,
);

#[test]
fn jsz_says_what_nats_server_says() {
    let (server, _asker) = furnished();
    let plain = format!("{HEAD}\"total\":1}}");
    assert_eq!(page(&server, "/jsz"), plain);
    for unchanged in ["acc=nope", "direct-consumers=1", "accounts=1&offset=1", "leader-only=1"] {
        assert_eq!(page(&server, &format!("/jsz?{unchanged}")), plain, "{unchanged}");
    }
    let account = format!("{HEAD}\"account_details\":[{ACCOUNT}}}],\"total\":1}}");
    for query in ["accounts=true", "acc=$G", "accounts=1&limit=-1", "accounts=1&config=1"] {
        assert_eq!(page(&server, &format!("/jsz?{query}")), account, "{query}");
    }
    let led = plain.replace("\"streams\":3,", "\"streams\":3,\"streams_leader\":3,");
    let led = led.replace("\"consumers\":2,", "\"consumers\":2,\"consumers_leader\":2,");
    assert_eq!(page(&server, "/jsz?raft=1"), led);
}

#[test]
fn jsz_lists_streams_and_consumers_as_nats_server_does() {
    let (server, _asker) = furnished();
    let file = concat!(
        r#"{"name":"FILE","created":"any","cluster":{"leader":"one"},"state":{"messages":5,"#,
        r#""bytes":190,"first_seq":1,"first_ts":"any","last_seq":6,"last_ts":"any","#,
        r#""num_subjects":2,"num_deleted":1,"consumer_count":2}}"#,
    );
    let memory = concat!(
        r#"{"name":"MEM","created":"any","cluster":{"leader":"one"},"state":{"messages":1,"#,
        r#""bytes":22,"first_seq":1,"first_ts":"any","last_seq":1,"last_ts":"any","#,
        r#""num_subjects":1,"consumer_count":0}}"#,
    );
    let none = concat!(
        r#"{"name":"NONE","created":"any","cluster":{"leader":"one"},"state":{"messages":0,"#,
        r#""bytes":0,"first_seq":0,"first_ts":"any","last_seq":0,"last_ts":"any","#,
        r#""consumer_count":0}}"#,
    );
    let list = |first: &str| {
        let streams = format!("\"stream_detail\":[{first},{memory},{none}]");
        format!("{HEAD}\"account_details\":[{ACCOUNT},{streams}}}],\"total\":1}}")
    };
    for query in
        ["streams=1", "acc=$G&streams=true&limit=1&offset=9", "streams=1&direct-consumers=1"]
    {
        assert_eq!(page(&server, &format!("/jsz?{query}")), list(file), "{query}");
    }
    let pull = concat!(
        r#"{"stream_name":"FILE","name":"PULL","created":"any","delivered":{"consumer_seq":0,"#,
        r#""stream_seq":0},"ack_floor":{"consumer_seq":0,"stream_seq":0},"num_ack_pending":0,"#,
        r#""num_redelivered":0,"num_waiting":0,"num_pending":5,"ts":"any"}"#,
    );
    let push = pull.replace("PULL", "PUSH");
    let with = |consumers: &str| {
        list(&format!("{},\"consumer_detail\":[{consumers}]}}", file.strip_suffix('}').unwrap()))
    };
    assert_eq!(page(&server, "/jsz?consumers=1"), with(&format!("{pull},{push}")));
    let shown = http::json(&server, "/jsz?consumers=1&config=1");
    let streams = shown["account_details"][0]["stream_detail"].as_array().unwrap();
    let file = streams.iter().find(|stream| stream["name"] == "FILE").unwrap();
    assert_eq!(file["config"]["max_bytes"], 9000);
    assert_eq!(file["config"]["metadata"].to_string(), r#"{"_nats.req.level":"0"}"#);
    let config = &file["consumer_detail"][0]["config"];
    assert_eq!(config["metadata"].to_string(), r#"{"_nats.req.level":"0"}"#);
}

#[test]
fn varz_and_accountz_show_jetstream() {
    let (server, _asker) = furnished();
    let varz = page(&server, "/varz");
    let expected = concat!(
        r#""jetstream":{"config":{"max_memory":10485760,"max_storage":20971520,"store_dir":"any","#,
        r#""sync_interval":120000000000,"sync_always":true,"domain":"hub","compress_ok":true,"#,
        r#""strict":true},"stats":{"memory":22,"storage":190,"reserved_memory":500,"#,
        r#""reserved_storage":9000,"accounts":1,"ha_assets":0,"api":{"level":5,"total":7,"#,
        r#""errors":1}},"limits":{"default_max_consumers":1000}}"#,
    );
    assert!(varz.contains(expected), "{expected} in {varz}");
    let account = http::json(&server, "/accountz?acc=$G");
    assert_eq!(account["account_detail"]["jetstream_enabled"], true);
    let account = http::json(&server, "/accountz?acc=$SYS");
    assert_eq!(account["account_detail"]["jetstream_enabled"], false);
}

#[test]
fn healthz_probes_what_is_stored() {
    let (server, mut asker) = furnished();
    let ok = r#"{"status":"ok"}"#;
    for query in [
        "",
        "js-enabled-only=1&account=nope",
        "js-server-only=1&account=nope",
        "account=$G",
        "account=$G&stream=FILE",
        "account=$G&stream=FILE&consumer=PULL",
    ] {
        let page = http::get(&server, &format!("/healthz?{query}"));
        assert_eq!((page.status, page.body.as_str()), (200, ok), "{query}");
    }
    for (query, error) in [
        ("account=nope", r#"JetStream account \"nope\" not found"#),
        ("js-meta-only=1&account=nope", r#"JetStream account \"nope\" not found"#),
        ("account=$SYS", r#"JetStream account \"$SYS\" not found"#),
        ("account=$G&stream=x", r#"JetStream stream \"x\" not found on account \"$G\""#),
        (
            "account=$G&stream=FILE&consumer=x",
            r#"JetStream consumer \"x\" not found for stream \"FILE\" on account \"$G\""#,
        ),
    ] {
        let page = http::get(&server, &format!("/healthz?{query}"));
        let body = format!(r#"{{"status":"unavailable","error":"{error}"}}"#);
        assert_eq!((page.status, page.body), (404, body), "{query}");
    }
    let page = http::get(&server, "/healthz?details=1&account=$G&stream=x");
    let error = r#"JetStream stream \"x\" not found on account \"$G\""#;
    let error = format!(r#"{{"type":"STREAM","account":"$G","stream":"x","error":"{error}"}}"#);
    assert_eq!(page.body, format!(r#"{{"status":"error","errors":[{error}]}}"#));
    asker.ask("$JS.API.STREAM.DELETE.FILE", "");
    assert_eq!(http::get(&server, "/healthz?account=$G&stream=FILE").status, 404);
}

#[test]
fn the_log_tells_of_jetstream_before_clients_are_served() {
    let server = Server::monitored("jetstream { store_dir: \"{dir}/js\", domain: hub }");
    server.wait_log("Server is ready");
    let log = server.log_text();
    let at = |line: &str| log.find(line).unwrap_or_else(|| panic!("no {line} in\n{log}"));
    let store = format!("  Store Directory: \"{}/js/jetstream\"", server.dir().display());
    let order = [
        at("[INF] Starting http monitor on "),
        at("[INF] Starting JetStream"),
        at("[INF] ---------------- JETSTREAM ----------------"),
        at("[INF]   Strict:          true"),
        at("[INF]   Max Memory:      "),
        at("[INF]   Max Storage:     "),
        at(&store),
        at("[INF]   Domain:          hub"),
        at("[INF]   API Level:       5"),
        at("[INF] -------------------------------------------"),
        at(" to start JetStream"),
        at("[INF] Listening for client connections on "),
        at("[INF] Server is ready"),
    ];
    assert!(order.is_sorted(), "{order:?}\n{log}");
}

#[test]
fn metrics_have_streams_consumers_and_disks() {
    if oracle().is_some() {
        return; // nats-server has no such page.
    }
    let (server, mut asker) = furnished();
    asker.request("$JS.API.CONSUMER.MSG.NEXT.FILE.PULL", br#"{"batch":2,"no_wait":true}"#);
    let metric = |name: &str| {
        let body = http::get(&server, "/metrics").body;
        let line = body.lines().find_map(|line| line.strip_prefix(&format!("shearwater_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {body}")).to_owned()
    };
    let consumer = "{account=\"$G\",stream=\"FILE\",consumer=\"PULL\"}";
    poll("two deliveries", || {
        (metric(&format!("jetstream_consumer_ack_pending{consumer}")) == "2").then_some(())
    });
    for (name, value) in [
        ("jetstream_stream_messages{account=\"$G\",stream=\"FILE\"}", "5"),
        ("jetstream_stream_deleted{account=\"$G\",stream=\"FILE\"}", "1"),
        ("jetstream_stream_bytes{account=\"$G\",stream=\"MEM\"}", "22"),
        ("jetstream_api_requests_total", "7"),
        ("jetstream_api_errors_total", "1"),
        ("jetstream_storage_bytes", "190"),
        ("jetstream_sync_always", "1"),
        ("jetstream_streams_unlisted", "0"),
    ] {
        assert_eq!(metric(name), value, "{name}");
    }
    assert_eq!(metric(&format!("jetstream_consumer_pending{consumer}")), "3");
    assert_eq!(metric(&format!("jetstream_consumer_delivered_stream_sequence{consumer}")), "2");
    assert_eq!(metric(&format!("jetstream_consumer_stuck{consumer}")), "0");
    let body = http::get(&server, "/metrics").body;
    let sum = |name: &str| -> u64 {
        let lines = body.lines().filter(|line| line.starts_with(&format!("shearwater_{name}{{")));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    };
    assert!(sum("disk_written_bytes_total") > 0);
    assert!(sum("disk_operations_total") > 0);
    assert_eq!(sum("disk_errors_total"), 0);
    assert_eq!(sum("jetstream_streams"), 3);
}

/// A server whose disk does as `fault` says while the file `bad` is in its folder, with two
/// streams, each with a message.
fn with_faults(fault: &str) -> (Server, Asker) {
    let options = Options::new()
        .config("jetstream { store_dir: \"{dir}/js\" }")
        .flags(["-m", "-1"])
        .variable("SHEARWATER_DISK_FAULTS", &format!("{fault}?{{dir}}/bad"));
    let server = options.start();
    let mut asker = Asker::new(&server);
    for name in ["WELL", "ILL"] {
        let config = format!(r#"{{"name":"{name}","subjects":["{name}"]}}"#);
        asker.ask(&format!("$JS.API.STREAM.CREATE.{name}"), config);
        asker.ask(name, "x");
    }
    assert_eq!(http::get(&server, "/healthz").status, 200);
    (server, asker)
}

#[test]
fn a_stream_that_could_not_be_written_is_unwell() {
    if oracle().is_some() {
        return; // The faults are ours.
    }
    let (server, mut asker) = with_faults("write:1+=eio");
    let bad = server.dir().join("bad");
    std::fs::write(&bad, "").unwrap();
    assert!(asker.ask_anyhow("ILL", "y").contains("\"error\""));
    std::fs::remove_file(&bad).unwrap();
    let page = http::get(&server, "/healthz");
    let start = r#"{"status":"unavailable","error":"JetStream stream '$G \u003e ILL' has failed: "#;
    assert_eq!((page.status, page.body.starts_with(start)), (503, true), "{}", page.body);
    let named = http::get(&server, "/healthz?details=1").json();
    assert_eq!(
        (&named["errors"][0]["type"], &named["errors"][0]["stream"]),
        (&"STREAM".into(), &"ILL".into())
    );
    for (query, status) in [
        ("account=$G&stream=ILL", 503),
        ("account=$G&stream=WELL", 200),
        ("js-server-only=1", 200),
        ("js-enabled-only=1", 200),
    ] {
        assert_eq!(http::get(&server, &format!("/healthz?{query}")).status, status, "{query}");
    }
    asker.ask("WELL", "z");
    let metrics = http::get(&server, "/metrics").body;
    for (stream, failed) in [("ILL", 1), ("WELL", 0)] {
        let name = format!("jetstream_stream_failed{{account=\"$G\",stream=\"{stream}\"}}");
        assert!(metrics.contains(&format!("\nshearwater_{name} {failed}\n")), "{metrics}");
    }
}

#[test]
fn a_disk_that_hangs_is_unwell() {
    if oracle().is_some() {
        return; // The faults are ours.
    }
    let (server, mut asker) = with_faults("write:1+=hang");
    std::fs::write(server.dir().join("bad"), "").unwrap();
    asker.request("ILL", b"y");
    let page = poll("a stuck disk", || {
        Some(http::get(&server, "/healthz?js-server-only=1")).filter(|page| page.status != 200)
    });
    let start = r#"{"status":"unavailable","error":"JetStream disk operation has been under way "#;
    assert_eq!((page.status, page.body.starts_with(start)), (503, true), "{}", page.body);
    assert_eq!(http::get(&server, "/healthz?js-enabled-only=1").status, 200);
}
