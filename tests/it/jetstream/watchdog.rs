//! The watchdog: a consumer whose clients wait although there are messages is named in the log,
//! in an advisory and on `/metrics`.

use std::time::Duration;

use serde_json::Value;

use super::{Asker, text};
use crate::support::server::Server;
use crate::support::{http, poll};

const CONFIG: &str = "jetstream { store_dir: \"{dir}/js\", stuck_consumer: \"200ms\" }";
/// One message may be out, and nobody gets it again soon.
const CONSUMER: &str = concat!(
    r#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"explicit","#,
    r#""max_ack_pending":1,"ack_wait":3600000000000}}"#
);

/// The figure of the consumer on `/metrics`.
fn is_stuck(server: &Server) -> bool {
    let page = http::get(server, "/metrics").body;
    let line = page.lines().find(|line| line.contains("jetstream_consumer_stuck{"));
    line.is_some_and(|line| line.ends_with(" 1"))
}

#[test]
fn a_consumer_that_hangs_is_named() {
    let server = Server::monitored(CONFIG);
    let mut asker = Asker::new(&server);
    asker.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    asker.ask("$JS.API.CONSUMER.DURABLE.CREATE.S.c", CONSUMER);
    for _ in 0..3 {
        asker.ask("s", "x");
    }
    let mut events = Asker::new(&server);
    events.conn.send("SUB $JS.EVENT.ADVISORY.CONSUMER.STUCK.> 1\r\n");
    events.conn.sync();
    let mut client = Asker::new(&server);
    client.request("$JS.API.CONSUMER.MSG.NEXT.S.c", b"{\"batch\":3}");
    let head = text(&mut client.conn);
    let ack = head.split(' ').nth(3).unwrap().to_owned();
    assert_eq!(text(&mut client.conn), "x");
    // The first message is not acknowledged: two wait, and a request waits for them.
    let head = text(&mut events.conn);
    assert!(head.starts_with("MSG $JS.EVENT.ADVISORY.CONSUMER.STUCK.S.c "), "{head}");
    let event: Value = serde_json::from_str(&text(&mut events.conn)).unwrap();
    assert_eq!((&event["stream"], &event["consumer"]), (&"S".into(), &"c".into()));
    assert_eq!((&event["num_pending"], &event["num_waiting"]), (&2.into(), &1.into()));
    assert_eq!(
        (&event["num_ack_pending"], &event["oldest_stream_seq"]),
        (&1.into(), &1.into()),
        "{event}"
    );
    let line = server.wait_log("is stuck: 2 messages and 1 requests wait");
    assert!(line.contains("[WRN]") && line.contains("> S > c"), "{line}");
    poll("the figure", || is_stuck(&server).then_some(()));
    // It is told once.
    assert!(events.conn.line_within(Duration::from_millis(600)).is_err());
    assert_eq!(server.log_text().matches("is stuck").count(), 1);
    client.conn.send(format!("PUB {ack} 0\r\n\r\n"));
    assert_eq!(text(&mut client.conn).split(' ').next(), Some("MSG"));
    poll("the figure to go", || (!is_stuck(&server)).then_some(()));
}
