//! Readers that do not read, messages that nobody settles, and no more file descriptors: what the
//! server holds for them has a bound, and it stays up.

use std::time::Duration;

use super::client::Client;
use super::{JETSTREAM, api, number_from_env, server};
use crate::support::http;
use crate::support::raw::Conn;
use crate::support::server::Options;

/// Publishes `count` messages of 100 bytes, many at once, and waits for all acknowledgements.
fn publish(client: &mut Client, subject: &str, count: u64) {
    let payload = [b'x'; 100];
    let mut waiting = 0;
    for number in 0..count {
        let reply = format!("{}.{number}", client.inbox);
        client.publish(subject, &reply, &[], &payload).unwrap();
        waiting += 1;
        while waiting > 1000 {
            assert!(client.message().unwrap().json()["seq"].is_u64());
            waiting -= 1;
        }
    }
    (0..waiting).for_each(|_| assert!(client.message().unwrap().json()["seq"].is_u64()));
}

/// `SHEARWATER_UNACKED` asks for more messages than the usual 100,000.
#[test]
fn messages_that_nobody_settles_cost_a_bounded_amount_of_memory() {
    let count = number_from_env("SHEARWATER_UNACKED", 100_000);
    let mut server = server(1);
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    publish(&mut client, "s", count);
    let config = r#"{"durable_name":"c","ack_policy":"explicit","max_ack_pending":-1,
        "ack_wait":3600000000000}"#;
    let body = format!(r#"{{"stream_name":"S","config":{config}}}"#).replace('\n', "");
    api(&mut client, "CONSUMER.CREATE.S.c", &body);
    let before = server.resident_bytes();
    let reply = format!("{}.p", client.inbox);
    let pull = format!("{{\"batch\":{count},\"expires\":600000000000}}");
    client.publish("$JS.API.CONSUMER.MSG.NEXT.S.c", &reply, &[], pull.as_bytes()).unwrap();
    let mut last = String::new();
    for _ in 0..count {
        last = client.message().unwrap().reply;
    }
    let grown = server.resident_bytes().saturating_sub(before);
    // The pending messages themselves, and the blocks of the stream that are kept for reading.
    let most = 300 * count + (128 << 20);
    println!("{count} unsettled messages: {grown} bytes more, {} in all", server.resident_bytes());
    assert!(grown < most, "{grown} bytes for {count} messages");
    assert_eq!(client.ask(&last, "+ACK"), b"");
    server.crash();
    server.start_again();
    let mut client = Client::new(server.port);
    let info = api(&mut client, "CONSUMER.INFO.S.c", "");
    assert_eq!(info["num_ack_pending"], count - 1, "{info}");
    assert_eq!(info["delivered"]["stream_seq"], count, "{info}");
    println!("after a restart: {} bytes", server.resident_bytes());
}

/// Push consumers whose clients stop reading: they are cut off, others go on.
#[test]
fn readers_that_stop_do_not_fill_the_memory() {
    let config = format!("{JETSTREAM}\nmax_pending: 4MB\nwrite_deadline: \"1s\"\n");
    let server = Options::new().config(config).shards(2).start();
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    let payload = vec![b'y'; 512 << 10];
    for _ in 0..100 {
        let answer = client.try_request("s", &[], &payload).unwrap().json();
        assert!(answer["seq"].is_u64(), "{answer}");
    }
    let before = server.resident_bytes();
    let mut stalled = Vec::new();
    for number in 0..10 {
        let mut conn = Conn::quiet(server.port);
        conn.shrink_receive_buffer();
        conn.send(format!("SUB to.{number} 1\r\n"));
        conn.sync();
        let config = format!(r#"{{"deliver_subject":"to.{number}","ack_policy":"none"}}"#);
        let body = format!(r#"{{"stream_name":"S","config":{config}}}"#);
        api(&mut client, "CONSUMER.CREATE.S", &body);
        stalled.push(conn);
    }
    for _ in 0..20 {
        let answer = client.try_request("s", &[], b"small").unwrap().json();
        assert!(answer["seq"].is_u64(), "{answer}");
    }
    server.wait_log("Slow Consumer");
    let grown = server.resident_bytes().saturating_sub(before);
    println!("ten readers that stopped: {grown} bytes more");
    assert!(grown < 200 << 20, "{grown} bytes for ten readers that do not read");
    drop(stalled);
}

/// With few file descriptors, connections are refused before storage has none; the ones that stand
/// are served, streams too, and new ones come in when others have gone.
#[test]
fn without_file_descriptors_the_server_stays_up_and_says_so() {
    let options = Options::new().config(JETSTREAM).shards(1).files_max(128).flags(["-m", "-1"]);
    let mut server = options.start();
    server.wait_log("the limit of 128 open files");
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    publish(&mut client, "s", 100);
    let mut crowd: Vec<Conn> = Vec::new();
    let (mut served, mut refused) = (0, 0);
    for _ in 0..150 {
        let Ok(mut conn) = Conn::try_open(server.port) else { break };
        let line = conn.line_within(Duration::from_millis(100));
        if line.is_ok_and(|line| line.starts_with(b"INFO ")) {
            conn.send("PING\r\n");
            match conn.line_within(Duration::from_secs(5)).unwrap().as_slice() {
                b"PONG" => served += 1,
                b"-ERR 'maximum connections exceeded'" => refused += 1,
                line => panic!("{}", String::from_utf8_lossy(line)),
            }
        }
        crowd.push(conn);
    }
    assert!((10..128).contains(&served), "{served} connections with 128 files");
    assert!(refused > 0, "nobody is told why");
    server.wait_log("would take open files from storage");
    publish(&mut client, "s", 100);
    // Each stream has a file of its own.
    let mut streams = 0;
    for number in 0..100 {
        let body = format!(r#"{{"name":"T{number}","subjects":["t.{number}"]}}"#);
        let answer = client.ask_json(&format!("$JS.API.STREAM.CREATE.T{number}"), &body);
        let error = &answer["error"];
        assert!(error.is_null() || error["code"].as_u64() >= Some(400), "{answer}");
        if error.is_null() {
            publish(&mut client, &format!("t.{number}"), 3);
            streams += 1;
        }
    }
    println!("{served} connections and {streams} streams with 128 files");
    assert!(streams >= 8, "{streams} streams with 128 files: connections have taken them");
    publish(&mut client, "s", 100);
    assert!(server.is_running());
    drop(crowd);
    let page = crate::support::poll("a new connection to be served", || {
        Client::try_new(server.port).map(|_| http::get(&server, "/healthz"))
    });
    assert_eq!(page.status, 200, "{}", page.body);
    let info = api(&mut client, "STREAM.INFO.S", "");
    assert_eq!(info["state"]["messages"], 300, "{info}");
}

/// With too few for any connection, it says so and does not start.
#[test]
fn with_too_few_file_descriptors_it_does_not_start() {
    let (status, said) = Options::new().shards(1).files_max(64).start_refused();
    assert!(!status.success());
    assert!(said.contains("the limit of 64 open files leaves none for connections"), "{said}");
}
