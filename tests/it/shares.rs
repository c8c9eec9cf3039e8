//! Exports and imports between accounts: what a reload adds and takes away, what monitoring shows,
//! and that nobody reaches what was not exported to them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::server::Options;
use crate::support::{Conn, Server, http};

const EXPORTS: &str = "accounts {
  A { users = [ { user: a, password: p } ]
      exports = [ { stream: \"s.>\" }, { service: \"r\" }, { service: \"t.*\", accounts: [ C ] } ] }
  C { users = [ { user: c, password: p } ] }
  B { users = [ { user: b, password: p } ]";
const IMPORTS: &str = "
      imports = [ { stream: { account: A, subject: \"s.>\" }, prefix: of }
                  { service: { account: A, subject: \"r\" }, to: \"q\", share: true } ]";

fn config(imports: &str) -> String {
    format!("{EXPORTS}{imports} }}\n}}\n")
}

fn login(server: &Server, user: &str) -> Conn {
    let fields = format!(
        r#"{{"user":"{user}","pass":"p","headers":true,"no_responders":true,"verbose":false}}"#
    );
    let mut conn = Conn::login(server.port, &fields);
    conn.sync();
    conn
}

/// What a connection has got by now.
fn taken(conn: &mut Conn) -> String {
    conn.send("PING\r\n");
    conn.lines_until("PONG").join("\n")
}

/// Does something again until a connection has got what is wanted: shards take a new configuration
/// one after the other.
fn until(wanted: impl Fn(&str) -> bool, mut act: impl FnMut() -> String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let came = act();
        if wanted(&came) {
            return;
        }
        assert!(Instant::now() < deadline, "the last that came: {came:?}");
    }
}

/// Publishes in one account and takes what comes in the other.
fn publish(from: &mut Conn, to: &mut Conn) -> String {
    from.send("PUB s.x 1\r\nm\r\n");
    taken(from);
    taken(to)
}

#[test]
fn a_reload_adds_shares_and_takes_them_away() {
    for shards in 1..=3 {
        let server = Options::new().shards(shards).config(config("")).start();
        let (mut a, mut b) = (login(&server, "a"), login(&server, "b"));
        a.send("SUB r 1\r\n");
        taken(&mut a);
        b.send("SUB of.> 1\r\nSUB in.* 2\r\n");
        taken(&mut b);
        assert_eq!(publish(&mut a, &mut b), "");
        for _ in 0..2 {
            assert!(server.reload(&config(IMPORTS)).contains("Reloaded"));
            until(|came| came == "MSG of.s.x 1 1\nm", || publish(&mut a, &mut b));
            let ask = || {
                b.send("PUB q in.1 0\r\n\r\n");
                taken(&mut b);
                taken(&mut a)
            };
            until(|came| came.starts_with("HMSG r 1 _R_.") && came.contains("\"user\":\"b\""), ask);
            assert!(server.reload(&config("")).contains("Reloaded"));
            until(str::is_empty, || publish(&mut a, &mut b));
            let ask = || {
                b.send("PUB q in.1 0\r\n\r\n");
                taken(&mut b)
            };
            until(|came| came.contains("503") && came.contains("Nats-Subject: q"), ask);
            taken(&mut a);
        }
    }
}

#[test]
fn monitoring_shows_exports_and_imports() {
    let server = Server::monitored(&config(IMPORTS));
    let a = http::json(&server, "/accountz?acc=A")["account_detail"].clone();
    // Services come before streams, those of a kind in any order.
    let mut exports = a["exports"].as_array().unwrap().clone();
    exports[..2].sort_by_key(|export| export["subject"].to_string());
    assert_eq!(
        json!(exports),
        json!([
            { "subject": "r", "type": "service", "response_type": "Singleton" },
            { "subject": "t.*", "type": "service", "response_type": "Singleton",
              "approved_accounts": ["C"] },
            { "subject": "s.>", "type": "stream" },
        ])
    );
    let b = http::json(&server, "/accountz?acc=B")["account_detail"].clone();
    // nats-server shows imports of the system account, too.
    let imports = b["imports"].as_array().unwrap().iter();
    let imports: Vec<_> = imports.filter(|import| import["account"] == "A").collect();
    assert_eq!(
        json!(imports),
        json!([
            { "subject": "s.>", "account": "A", "local_subject": "of.s.>", "type": "stream",
              "invalid": false, "share": false, "tracking": false },
            { "subject": "r", "account": "A", "to": "q", "local_subject": "q", "type": "service",
              "invalid": false, "share": true, "tracking": false },
        ])
    );
}

#[test]
fn what_is_not_exported_is_out_of_reach() {
    for shards in 1..=3 {
        let server = Options::new().shards(shards).config(config(IMPORTS)).start();
        let (mut a, mut b, mut c) = (login(&server, "a"), login(&server, "b"), login(&server, "c"));
        for conn in [&mut a, &mut b, &mut c] {
            conn.send("SUB > 1\r\n");
            taken(conn);
        }
        // Nothing of the importers comes into the exporter but requests to the service.
        for subject in ["s.x", "of.s.x", "r", "t.x", "_R_.0000000.0123456789abcdef"] {
            b.send(format!("PUB {subject} 1\r\nx\r\n"));
            assert_eq!(taken(&mut b), format!("MSG {subject} 1 1\nx"));
            assert_eq!((taken(&mut a), taken(&mut c)), (String::new(), String::new()), "{subject}");
        }
        // Nothing of the exporter comes into the importers but the stream; of that, all.
        for subject in ["s", "r", "q", "t.x", "of.s.x", "in.1"] {
            a.send(format!("PUB {subject} 1\r\nx\r\n"));
            assert_eq!(taken(&mut a), format!("MSG {subject} 1 1\nx"));
            assert_eq!((taken(&mut b), taken(&mut c)), (String::new(), String::new()), "{subject}");
        }
        // A private reply is of use to the account that was asked, and to no other.
        b.send("PUB q in.1 1\r\n?\r\n");
        assert_eq!(taken(&mut b), "MSG q 1 in.1 1\n?");
        let request = taken(&mut a);
        let reply = request.split(' ').find(|word| word.starts_with("_R_.")).unwrap();
        for other in [&mut c, &mut b] {
            other.send(format!("PUB {reply} 1\r\nx\r\n"));
            assert_eq!(taken(other), format!("MSG {reply} 1 1\nx"));
        }
        a.send(format!("PUB {reply} 1\r\n!\r\nPUB {reply} 1\r\n2\r\n"));
        taken(&mut a);
        until(|came| came == "MSG in.1 1 1\n!", || taken(&mut b));
        assert_eq!((taken(&mut b), taken(&mut c)), (String::new(), String::new()));
    }
}

#[test]
fn answers_find_the_requester_on_every_shard() {
    let server = Options::new().shards(3).config(config(IMPORTS)).start();
    let mut responders: Vec<Conn> = (0..6).map(|_| login(&server, "a")).collect();
    for conn in &mut responders {
        conn.send("SUB r workers 1\r\n");
        taken(conn);
    }
    let mut requesters: Vec<Conn> = (0..6).map(|_| login(&server, "b")).collect();
    for (number, conn) in requesters.iter_mut().enumerate() {
        conn.send(format!("SUB in.{number} 1\r\n"));
        taken(conn);
    }
    for round in 0..60 {
        let number = round % requesters.len();
        requesters[number].send(format!("PUB q in.{number} 1\r\n?\r\n"));
        taken(&mut requesters[number]);
        let asked: Vec<(usize, String)> = responders
            .iter_mut()
            .enumerate()
            .map(|(at, conn)| (at, taken(conn)))
            .filter(|(_, came)| !came.is_empty())
            .collect();
        let [(at, came)] = asked.as_slice() else { panic!("{asked:?}") };
        let reply = came.split(' ').find(|word| word.starts_with("_R_.")).unwrap();
        responders[*at].send(format!("PUB {reply} 2\r\nok\r\n"));
        requesters[number].expect(&format!("MSG in.{number} 1 2"));
        requesters[number].expect("ok");
    }
}
