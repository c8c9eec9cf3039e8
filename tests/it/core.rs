//! Core messaging through the official client library, with connections spread over shards.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{Client, HeaderMap, RequestErrorKind, Subscriber};
use futures_util::StreamExt;

use crate::support::server::Options;
use crate::support::{Conn, Server, settle, within};

async fn connect(server: &Server) -> Client {
    within("a connection", async_nats::connect(server.url())).await.unwrap()
}

async fn next(subscriber: &mut Subscriber) -> async_nats::Message {
    within("a message", subscriber.next()).await.expect("the subscription is open")
}

async fn flush(client: &Client) {
    within("a flush", client.flush()).await.unwrap();
}

/// Nothing more comes: a marker published after all else is the next message.
async fn expect_drained(publisher: &Client, subscriber: &mut Subscriber, subject: &str) {
    publisher.publish(String::from(subject), "marker".into()).await.unwrap();
    assert_eq!(next(subscriber).await.payload, "marker");
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_reaches_subscribers_on_other_connections() {
    let server = Server::plain();
    let (publisher, receiver) = (connect(&server).await, connect(&server).await);
    let mut plain = receiver.subscribe("greet.joe").await.unwrap();
    let mut star = receiver.subscribe("greet.*").await.unwrap();
    let mut rest = receiver.subscribe("greet.>").await.unwrap();
    settle(&receiver, &publisher).await;
    publisher.publish("greet.joe", "hello".into()).await.unwrap();
    for subscriber in [&mut plain, &mut star, &mut rest] {
        let message = next(subscriber).await;
        assert_eq!((message.subject.as_str(), &message.payload[..]), ("greet.joe", &b"hello"[..]));
    }
}

#[test]
fn pong_after_subscribe_means_every_later_publish_is_seen() {
    const CONNECTIONS: usize = 6;
    let server = Options::new().shards(3).start();
    let mut conns: Vec<Conn> = (0..CONNECTIONS).map(|_| Conn::quiet(server.port)).collect();
    for round in 0..300 {
        let (receiver, publisher) = (round % CONNECTIONS, (round * 5 + 1) % CONNECTIONS);
        conns[receiver].send(format!("SUB round.{round} {round}\r\n"));
        conns[receiver].sync();
        conns[publisher].send(format!("PUB round.{round} 2\r\nhi\r\n"));
        conns[receiver].expect(&format!("MSG round.{round} {round} 2"));
        conns[receiver].expect("hi");
        conns[receiver].send(format!("UNSUB {round}\r\n"));
        conns[receiver].sync();
        conns[publisher].send(format!("PUB round.{round} 2\r\nno\r\n"));
        conns[publisher].sync();
        conns[receiver].sync();
    }
}

#[test]
fn pong_after_publish_means_the_message_is_queued_for_its_receivers() {
    const CONNECTIONS: usize = 6;
    let server = Options::new().shards(3).start();
    let mut conns: Vec<Conn> = (0..CONNECTIONS).map(|_| Conn::quiet(server.port)).collect();
    for conn in &mut conns {
        conn.send("SUB all 1\r\n");
        conn.sync();
    }
    for round in 0..200 {
        let publisher = round % CONNECTIONS;
        let text = format!("number {round:03}");
        conns[publisher].send(format!("PUB all 10\r\n{text}\r\nPING\r\n"));
        for offset in 0..CONNECTIONS {
            let conn = &mut conns[(publisher + offset) % CONNECTIONS];
            if offset > 0 {
                conn.send("PING\r\n");
            }
            let before_pong = conn.lines_until("PONG");
            assert_eq!(before_pong.last(), Some(&text), "{offset} places from the publisher");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_is_answered() {
    let server = Server::plain();
    let (requester, responder) = (connect(&server).await, connect(&server).await);
    let mut requests = responder.subscribe("double").await.unwrap();
    settle(&responder, &requester).await;
    let answering = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let number: u32 = std::str::from_utf8(&request.payload).unwrap().parse().unwrap();
            let reply = request.reply.unwrap();
            responder.publish(reply, (number * 2).to_string().into()).await.unwrap();
        }
    });
    for number in 0..200_u32 {
        let request = requester.request("double", number.to_string().into());
        assert_eq!(within("a reply", request).await.unwrap().payload, (number * 2).to_string());
    }
    answering.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn request_without_responders_fails_at_once() {
    let server = Server::plain();
    let client = connect(&server).await;
    let error = within("the 503", client.request("nobody", "".into())).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_to_a_silent_subscriber_times_out() {
    let server = Server::plain();
    let (requester, silent) = (connect(&server).await, connect(&server).await);
    let _subscriber = silent.subscribe("silence").await.unwrap();
    settle(&silent, &requester).await;
    let request = async_nats::Request::new().timeout(Some(Duration::from_millis(200)));
    let error = requester.send_request("silence", request).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::TimedOut);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_groups_spread_over_members_and_shards() {
    const MEMBERS: usize = 8;
    const MESSAGES: usize = 4000;
    let server = Options::new().shards(2).start();
    let publisher = connect(&server).await;
    let (counted, mut counts) = tokio::sync::mpsc::unbounded_channel();
    let mut members = Vec::new();
    for member in 0..MEMBERS {
        let client = connect(&server).await;
        let mut subscriber = client.queue_subscribe("work", String::from("workers")).await.unwrap();
        settle(&client, &publisher).await;
        let counted = counted.clone();
        tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                counted.send((member, message.payload)).unwrap();
            }
        });
        members.push(client);
    }
    for number in 0..MESSAGES {
        publisher.publish("work", number.to_string().into()).await.unwrap();
    }
    flush(&publisher).await;
    let (mut by_member, mut seen) = (HashMap::new(), vec![false; MESSAGES]);
    for _ in 0..MESSAGES {
        let (member, payload) = within("all messages", counts.recv()).await.unwrap();
        *by_member.entry(member).or_insert(0_usize) += 1;
        let number: usize = std::str::from_utf8(&payload).unwrap().parse().unwrap();
        assert!(!std::mem::replace(&mut seen[number], true), "{number} came twice");
    }
    let fair = MESSAGES / MEMBERS;
    for member in 0..MEMBERS {
        let count = by_member.get(&member).copied().unwrap_or(0);
        assert!((fair / 2..fair * 2).contains(&count), "member {member} got {count} of {MESSAGES}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_queue_members_get_between_a_tenth_and_nine_tenths() {
    const MESSAGES: usize = 500;
    let server = Server::plain();
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut first = one.queue_subscribe("q", String::from("g")).await.unwrap();
    let mut second = two.queue_subscribe("q", String::from("g")).await.unwrap();
    let publisher = connect(&server).await;
    settle(&one, &publisher).await;
    settle(&two, &publisher).await;
    for _ in 0..MESSAGES {
        publisher.publish("q", "x".into()).await.unwrap();
    }
    flush(&publisher).await;
    let (mut firsts, mut seconds) = (0, 0);
    while firsts + seconds < MESSAGES {
        let either = async {
            tokio::select! {
                _ = first.next() => firsts += 1,
                _ = second.next() => seconds += 1,
            }
        };
        within("all messages", either).await;
    }
    let corridor = MESSAGES / 10..=MESSAGES * 9 / 10;
    assert!(corridor.contains(&firsts), "{firsts} and {seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn order_of_each_publisher_holds_across_shards() {
    const PUBLISHERS: usize = 6;
    const MESSAGES: usize = 2000;
    let server = Options::new().shards(3).start();
    let mut receivers = Vec::new();
    for _ in 0..4 {
        let client = connect(&server).await;
        receivers.push((client.subscribe("order.>").await.unwrap(), client));
    }
    for publisher in 0..PUBLISHERS {
        let client = connect(&server).await;
        for (_, receiver) in &receivers {
            settle(receiver, &client).await;
        }
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                let subject = format!("order.{publisher}.{}", number % 3);
                client.publish(subject, number.to_string().into()).await.unwrap();
            }
            client.flush().await.unwrap();
        });
    }
    for (subscriber, _client) in &mut receivers {
        let mut wanted = [0_usize; PUBLISHERS];
        for _ in 0..PUBLISHERS * MESSAGES {
            let message = next(subscriber).await;
            let publisher = message.subject.split('.').nth(1).unwrap();
            let publisher: usize = publisher.parse().unwrap();
            assert_eq!(message.payload, wanted[publisher].to_string(), "of {publisher}");
            wanted[publisher] += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_travel_with_the_message() {
    let server = Server::plain();
    let (publisher, receiver) = (connect(&server).await, connect(&server).await);
    let mut subscriber = receiver.subscribe("h").await.unwrap();
    settle(&receiver, &publisher).await;
    let mut headers = HeaderMap::new();
    headers.append("X-Trace", "one");
    headers.append("X-Trace", "two");
    headers.insert("lower-case", "väl ue");
    publisher.publish_with_headers("h", headers.clone(), "body".into()).await.unwrap();
    let message = next(&mut subscriber).await;
    assert_eq!(message.payload, "body");
    assert_eq!(message.headers, Some(headers));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_pass_whole() {
    let server = Server::plain();
    let (publisher, receiver) = (connect(&server).await, connect(&server).await);
    let mut subscriber = receiver.subscribe("large").await.unwrap();
    settle(&receiver, &publisher).await;
    for size in [0, 1, 4095, 4096, 65_535, 65_536, 300_000, 1_048_576] {
        let payload: Vec<u8> = (0..size).map(|at: usize| (at % 251) as u8).collect();
        publisher.publish("large", payload.clone().into()).await.unwrap();
        let message = next(&mut subscriber).await;
        assert!(message.payload == payload, "{size} bytes came changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsubscribe_after_lets_so_many_come() {
    let server = Server::plain();
    let (publisher, receiver) = (connect(&server).await, connect(&server).await);
    let mut subscriber = receiver.subscribe("limited").await.unwrap();
    subscriber.unsubscribe_after(5).await.unwrap();
    settle(&receiver, &publisher).await;
    for _ in 0..10 {
        publisher.publish("limited", "x".into()).await.unwrap();
    }
    flush(&publisher).await;
    let mut count = 0;
    while within("the end of the subscription", subscriber.next()).await.is_some() {
        count += 1;
    }
    assert_eq!(count, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsubscribe_ends_delivery() {
    let server = Server::plain();
    let (publisher, receiver) = (connect(&server).await, connect(&server).await);
    let mut ended = receiver.subscribe("news").await.unwrap();
    let mut stays = receiver.subscribe("news").await.unwrap();
    ended.unsubscribe().await.unwrap();
    settle(&receiver, &publisher).await;
    publisher.publish("news", "x".into()).await.unwrap();
    assert_eq!(next(&mut stays).await.payload, "x");
    assert!(within("the end", ended.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_echo_spares_the_publisher() {
    let server = Server::plain();
    let options = async_nats::ConnectOptions::new().no_echo();
    let deaf = options.connect(server.url()).await.unwrap();
    let other = connect(&server).await;
    let mut own = deaf.subscribe("echo").await.unwrap();
    let mut others = other.subscribe("echo").await.unwrap();
    settle(&deaf, &other).await;
    settle(&other, &deaf).await;
    deaf.publish("echo", "mine".into()).await.unwrap();
    assert_eq!(next(&mut others).await.payload, "mine");
    expect_drained(&other, &mut own, "echo").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_delivers_what_was_on_its_way() {
    const MESSAGES: usize = 500;
    let server = Server::plain();
    let (publisher, receiver) = (connect(&server).await, connect(&server).await);
    let mut subscriber = receiver.subscribe("drain").await.unwrap();
    settle(&receiver, &publisher).await;
    for _ in 0..MESSAGES {
        publisher.publish("drain", "x".into()).await.unwrap();
    }
    settle(&publisher, &receiver).await;
    within("a drain", receiver.drain()).await.unwrap();
    let mut count = 0;
    while within("the end of the drain", subscriber.next()).await.is_some() {
        count += 1;
    }
    assert_eq!(count, MESSAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_all_hear_one_publish() {
    const CONNECTIONS: usize = 100;
    let server = Options::new().shards(3).start();
    let publisher = connect(&server).await;
    let mut subscribers = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = connect(&server).await;
        let subscriber = client.subscribe("all").await.unwrap();
        settle(&client, &publisher).await;
        subscribers.push((subscriber, client));
    }
    for number in 0..20_u32 {
        publisher.publish("all", number.to_string().into()).await.unwrap();
    }
    for (subscriber, _client) in &mut subscribers {
        for number in 0..20_u32 {
            assert_eq!(next(subscriber).await.payload, number.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_greeting_tells_what_the_client_library_decides_on() {
    let server = Server::plain();
    let client = connect(&server).await;
    let info = client.server_info();
    assert!(client.is_server_compatible(2, 15, 1));
    assert_eq!(info.max_payload, 1_048_576);
    assert!(info.headers && !info.auth_required && !info.tls_required && !info.lame_duck_mode);
    assert_eq!((info.client_ip.as_str(), info.proto), ("127.0.0.1", 1));
    assert!(info.server_id.starts_with('N') && info.server_id.len() == 56, "{}", info.server_id);
}
