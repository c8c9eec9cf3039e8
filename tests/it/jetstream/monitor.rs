//! JetStream on the monitoring pages. With nats-server as the oracle the same pages are asked of
//! it, so what is expected here is what both say.

use super::Asker;
use crate::support::server::oracle;
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

/// The page without what differs from run to run: times, ids and folders; streams by name.
fn page(server: &Server, path: &str) -> String {
    let mut body = http::get(server, path).json();
    for key in ["server_id", "now"] {
        body[key] = "any".into();
    }
    if body["config"].get("store_dir").is_some() {
        body["config"]["store_dir"] = "any".into();
    }
    let accounts = body.get_mut("account_details").and_then(|list| list.as_array_mut());
    for account in accounts.into_iter().flatten() {
        let Some(streams) = account.get_mut("stream_detail") else { continue };
        let streams = streams.as_array_mut().unwrap();
        streams.sort_by_key(|stream| stream["name"].as_str().unwrap().to_owned());
        for stream in streams {
            assert!(stream["created"].as_str().unwrap().ends_with('Z'));
            stream["created"] = "any".into();
            for key in ["first_ts", "last_ts"] {
                stream["state"][key] = "any".into();
            }
            let Some(consumers) = stream.get_mut("consumer_detail") else { continue };
            let consumers = consumers.as_array_mut().unwrap();
            consumers.sort_by_key(|consumer| consumer["name"].as_str().unwrap().to_owned());
            for consumer in consumers {
                consumer["created"] = "any".into();
                consumer["ts"] = "any".into();
            }
        }
    }
    serde_json::to_string(&body).unwrap()
}

const HEAD: &str = r#"{"memory":22,"storage":190,"reserved_memory":500,"reserved_storage":9000,"accounts":1,"ha_assets":0,"api":{"level":5,"total":7,"errors":1},"server_id":"any","now":"any","config":{"max_memory":10485760,"max_storage":20971520,"store_dir":"any","sync_interval":120000000000,"sync_always":true,"domain":"hub","compress_ok":true,"strict":true},"limits":{"default_max_consumers":1000},"streams":3,"consumers":2,"messages":6,"bytes":212,"#;
const ACCOUNT: &str = r#"{"name":"$G","id":"$G","memory":22,"storage":190,"reserved_memory":18446744073709551615,"reserved_storage":18446744073709551615,"accounts":0,"ha_assets":0,"api":{"level":0,"total":7,"errors":1}"#;

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
    let file = r#"{"name":"FILE","created":"any","cluster":{"leader":"one"},"state":{"messages":5,"bytes":190,"first_seq":1,"first_ts":"any","last_seq":6,"last_ts":"any","num_subjects":2,"num_deleted":1,"consumer_count":2}}"#;
    let memory = r#"{"name":"MEM","created":"any","cluster":{"leader":"one"},"state":{"messages":1,"bytes":22,"first_seq":1,"first_ts":"any","last_seq":1,"last_ts":"any","num_subjects":1,"consumer_count":0}}"#;
    let none = r#"{"name":"NONE","created":"any","cluster":{"leader":"one"},"state":{"messages":0,"bytes":0,"first_seq":0,"first_ts":"any","last_seq":0,"last_ts":"any","consumer_count":0}}"#;
    let list = |first: &str| {
        let streams = format!("\"stream_detail\":[{first},{memory},{none}]");
        format!("{HEAD}\"account_details\":[{ACCOUNT},{streams}}}],\"total\":1}}")
    };
    for query in
        ["streams=1", "acc=$G&streams=true&limit=1&offset=9", "streams=1&direct-consumers=1"]
    {
        assert_eq!(page(&server, &format!("/jsz?{query}")), list(file), "{query}");
    }
    let pull = r#"{"stream_name":"FILE","name":"PULL","created":"any","delivered":{"consumer_seq":0,"stream_seq":0},"ack_floor":{"consumer_seq":0,"stream_seq":0},"num_ack_pending":0,"num_redelivered":0,"num_waiting":0,"num_pending":5,"ts":"any"}"#;
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
    let mut block = http::json(&server, "/varz")["jetstream"].clone();
    block["config"]["store_dir"] = "any".into();
    let expected = r#"{"config":{"max_memory":10485760,"max_storage":20971520,"store_dir":"any","sync_interval":120000000000,"sync_always":true,"domain":"hub","compress_ok":true,"strict":true},"stats":{"memory":22,"storage":190,"reserved_memory":500,"reserved_storage":9000,"accounts":1,"ha_assets":0,"api":{"level":5,"total":7,"errors":1}},"limits":{"default_max_consumers":1000}}"#;
    assert_eq!(block.to_string(), expected);
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
