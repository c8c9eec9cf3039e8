//! Connections that come back, servers that go, and receivers that do not keep up.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt;
use rustix::process::Signal;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::server::Options;
use crate::support::{Conn, DEADLINE, Server, http, poll, settle, within};

async fn watched(server: &Server) -> (Client, UnboundedReceiver<Event>) {
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    let options = ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(20))
        .event_callback(move |event| {
            let sender = sender.clone();
            // The test may have ended already and dropped the other end.
            async move { drop(sender.send(event)) }
        });
    (within("a connection", options.connect(server.url())).await.unwrap(), events)
}

async fn event(events: &mut UnboundedReceiver<Event>, wanted: &Event) {
    let found = async {
        while let Some(event) = events.recv().await {
            if event == *wanted {
                return;
            }
        }
        panic!("no event {wanted}");
    };
    within(&wanted.to_string(), found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_back_to_a_server_restarted_on_the_same_port() {
    let server = Server::plain();
    let (client, mut events) = watched(&server).await;
    event(&mut events, &Event::Connected).await;
    let mut subscriber = client.subscribe("again").await.unwrap();
    client.flush().await.unwrap();
    let port = server.kill();
    event(&mut events, &Event::Disconnected).await;
    let server = Options::new().port(port).start();
    event(&mut events, &Event::Connected).await;
    let publisher = async_nats::connect(server.url()).await.unwrap();
    settle(&client, &publisher).await;
    publisher.publish("again", "back".into()).await.unwrap();
    assert_eq!(within("a message", subscriber.next()).await.unwrap().payload, "back");
}

#[test]
fn a_killed_server_comes_back_on_its_port_at_once() {
    let mut port = Server::plain().kill();
    for _ in 0..20 {
        let server = Options::new().port(port).start();
        let _conn = Conn::quiet(server.port);
        port = server.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lame_duck_mode_is_told_to_clients() {
    let server = Server::plain();
    let (client, mut events) = watched(&server).await;
    client.flush().await.unwrap();
    server.signal(Signal::USR2);
    event(&mut events, &Event::LameDuckMode).await;
    let mut subscriber = client.subscribe("still").await.unwrap();
    client.publish("still", "serving".into()).await.unwrap();
    assert_eq!(within("a message", subscriber.next()).await.unwrap().payload, "serving");
    assert!(is_refused(server.port), "a lame duck took a new connection");
}

/// Whether the port takes no connection, or ends it at once.
fn is_refused(port: u16) -> bool {
    let Ok(mut conn) = Conn::try_open(port) else {
        return true;
    };
    conn.line_within(Duration::from_secs(2)).is_err()
}

#[test]
fn a_client_that_stops_reading_is_closed_as_slow_consumer() {
    let server = Server::monitored("max_pending: 1048576\nwrite_deadline: \"1s\"");
    let mut slow = Conn::quiet(server.port);
    slow.shrink_receive_buffer();
    let cid = slow.info["client_id"].clone();
    slow.send("SUB flood 1\r\nPING\r\n");
    slow.expect("PONG");
    let mut fast = Conn::quiet(server.port);
    fast.send("SUB flood 1\r\n");
    fast.sync();
    let mut publisher = Conn::quiet(server.port);
    // The fast reader keeps up by construction: each round waits for it.
    let frames =
        [b"PUB flood 32768\r\n".as_slice(), &[b'x'; 32 * 1024], b"\r\n"].concat().repeat(8);
    for _ in 0..200 {
        publisher.send(&frames);
        for _ in 0..8 {
            fast.expect("MSG flood 1 32768");
            assert_eq!(fast.line().unwrap().len(), 32 * 1024);
        }
    }
    publisher.sync();
    let path = format!("/connz?state=closed&cid={cid}");
    let reason = poll("the slow consumer among the closed", || {
        let page = http::json(&server, &path);
        page["connections"][0]["reason"].as_str().map(String::from)
    });
    assert!(reason.starts_with("Slow Consumer"), "{reason}");
    let varz = http::json(&server, "/varz");
    for count in [&varz["slow_consumers"], &varz["slow_consumer_stats"]["clients"]] {
        assert!(count.as_u64().is_some_and(|count| count >= 1), "{varz:#}");
    }
    server.wait_log("Slow Consumer Detected");
}

#[test]
fn a_client_that_does_not_take_bytes_in_time_is_closed_by_the_write_deadline() {
    let server = Server::monitored("write_deadline: \"500ms\"");
    let mut slow = Conn::quiet(server.port);
    slow.shrink_receive_buffer();
    let cid = slow.info["client_id"].clone();
    slow.send("SUB flood 1\r\n");
    slow.sync();
    let mut publisher = Conn::quiet(server.port);
    let frame = [b"PUB flood 32768\r\n".as_slice(), &[b'x'; 32 * 1024], b"\r\n"].concat();
    for _ in 0..400 {
        publisher.send(&frame);
    }
    publisher.sync();
    let path = format!("/connz?state=closed&cid={cid}");
    let reason = poll("the slow consumer among the closed", || {
        let page = http::json(&server, &path);
        page["connections"][0]["reason"].as_str().map(String::from)
    });
    assert_eq!(reason, "Slow Consumer (Write Deadline)");
}

#[test]
fn a_receiver_that_stays_behind_holds_others_up_only_for_a_moment() {
    const FRAMES: usize = 3000;
    let server = Server::monitored("max_pending: 33554432\nwrite_deadline: \"60s\"");
    let mut slow = Conn::quiet(server.port);
    slow.shrink_receive_buffer();
    slow.send("SUB both 1\r\n");
    slow.sync();
    let mut fast = Conn::quiet(server.port);
    fast.send("SUB both 1\r\n");
    fast.sync();
    let mut publisher = Conn::quiet(server.port);
    let frame = [b"PUB both 32768\r\n".as_slice(), &[b'x'; 32 * 1024], b"\r\n"].concat();
    let start = std::time::Instant::now();
    let mut longest = Duration::ZERO;
    for _ in 0..FRAMES {
        let sent = std::time::Instant::now();
        publisher.send(&frame);
        fast.expect("MSG both 1 32768");
        assert_eq!(fast.line().unwrap().len(), 32 * 1024);
        longest = longest.max(sent.elapsed());
    }
    // The slow one is over its limit after a third of the messages and must be gone by then.
    assert!(start.elapsed() < DEADLINE * 2, "{:?} for {FRAMES} messages", start.elapsed());
    assert!(longest < Duration::from_secs(2), "one message took {longest:?}");
    drop(slow);
}

#[test]
fn a_burst_that_outruns_its_receiver_for_a_moment_is_not_closed() {
    const FRAMES: usize = 400;
    let server = Server::monitored("max_pending: 8388608");
    let mut receiver = Conn::quiet(server.port);
    receiver.send("SUB burst 1\r\n");
    receiver.sync();
    let mut publisher = Conn::quiet(server.port);
    let frame = [b"PUB burst 32768\r\n".as_slice(), &[b'x'; 32 * 1024], b"\r\n"].concat();
    let sender = std::thread::spawn(move || {
        for _ in 0..FRAMES {
            publisher.send(&frame);
        }
        publisher.sync();
    });
    let mut received = 0;
    while received < FRAMES {
        let line = receiver.line().unwrap();
        received += usize::from(line.len() == 32 * 1024);
    }
    sender.join().unwrap();
    assert_eq!(http::json(&server, "/varz")["slow_consumers"], 0);
}

#[test]
fn closing_clients_leave_nothing_behind() {
    let server = Server::monitored("");
    for round in 0..20 {
        let mut conn = Conn::quiet(server.port);
        conn.send(format!("SUB left.{round} 1\r\nSUB left.> q 2\r\n"));
        conn.sync();
    }
    poll("all connections and subscriptions gone", || {
        let varz = http::json(&server, "/varz");
        let subsz = http::json(&server, "/subsz?subs=1&acc=$G");
        let left = subsz.to_string().contains("left.");
        (varz["connections"] == 0 && !left).then_some(())
    });
}

#[test]
fn sigterm_ends_connections_and_the_process_cleanly() {
    let mut server = Server::plain();
    let mut conn = Conn::quiet(server.port);
    server.signal(Signal::TERM);
    conn.read_to_close();
    let start = std::time::Instant::now();
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(start.elapsed() < DEADLINE);
}
