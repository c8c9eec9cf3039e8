//! A store on a file system that really is full. Mounting one needs root; without it the test
//! fails and says so, for a fault that is not tried is not survived.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::api;
use super::client::Client;
use super::content::{BRIEF, Origin};
use crate::support::poll;
use crate::support::server::{Options, Server};

/// A file system in memory of a fixed size, unmounted at the end.
struct SmallDisk {
    dir: PathBuf,
    /// Holds the mount point, and goes after it.
    _home: tempfile::TempDir,
}

impl SmallDisk {
    fn new(mebibytes: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("disk");
        std::fs::create_dir(&dir).unwrap();
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir);
        let status = mount.status().expect("the program mount");
        assert!(status.success(), "this test mounts a tmpfs, which needs root");
        Self { dir, _home: home }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the folder then stays.
        drop(Command::new("umount").arg("-l").arg(&self.dir).status());
    }
}

fn server_on(dir: &Path) -> Server {
    let config = format!("jetstream {{ store_dir: \"{}\", max_file: 1G }}", dir.display());
    Options::new().config(config).shards(1).start()
}

fn payload(number: u64) -> Vec<u8> {
    let mut payload = Origin { writer: BRIEF, number }.payload();
    payload.resize(16 << 10, b'.');
    payload
}

fn publish(client: &mut Client, number: u64) -> Value {
    client.try_request("S.x", &[], &payload(number)).unwrap().json()
}

/// Publishes until the disk is full; gives the last sequence.
fn fill(client: &mut Client, last: u64) -> u64 {
    let mut last = last;
    loop {
        let answer = publish(client, last + 1);
        if answer["error"].is_null() {
            assert_eq!(answer["seq"], last + 1, "{answer}");
            last += 1;
            continue;
        }
        let code = answer["error"]["err_code"].as_u64();
        assert!(matches!(code, Some(10_023 | 10_077 | 10_047)), "{answer}");
        return last;
    }
}

fn assert_stored(client: &mut Client, from: u64, to: u64) {
    for seq in from..=to {
        let body = format!("{{\"seq\":{seq}}}");
        let answer = client.try_request("$JS.API.DIRECT.GET.S", &[], body.as_bytes()).unwrap();
        assert_eq!(answer.status(), 0, "{seq}: {answer:?}");
        assert!(answer.payload == payload(seq), "{seq} is not what was written");
    }
}

#[test]
fn a_full_file_system_serves_and_recovers() {
    let disk = SmallDisk::new(12);
    let mut server = server_on(&disk.dir);
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.CREATE.S", r#"{"name":"S","subjects":["S.*"],"allow_direct":true}"#);
    let config = r#"{"durable_name":"c","ack_policy":"explicit"}"#;
    let body = format!(r#"{{"stream_name":"S","config":{config}}}"#);
    api(&mut client, "CONSUMER.CREATE.S.c", &body);
    let full = fill(&mut client, 0);
    assert!(full > 100, "only {full} messages found a place");
    // Reads, acknowledgements, deletes and purges go on.
    assert_stored(&mut client, 1, full);
    let reply = format!("{}.p", client.inbox);
    client.publish("$JS.API.CONSUMER.MSG.NEXT.S.c", &reply, &[], br#"{"batch":20}"#).unwrap();
    let deliveries: Vec<_> = (0..20).map(|_| client.message().unwrap()).collect();
    for delivery in deliveries {
        assert_eq!(client.ask(&delivery.reply, "+ACK"), b"");
    }
    api(&mut client, "STREAM.MSG.DELETE.S", r#"{"seq":15}"#);
    let keep = full - 10;
    api(&mut client, "STREAM.PURGE.S", &format!("{{\"seq\":{keep}}}"));
    // The purge gave space back, and publishing goes on without a restart.
    poll("publishes to be taken again", || {
        publish(&mut client, full + 1)["error"].is_null().then_some(())
    });
    // The files that the purge emptied go one after the other.
    let mut again = full + 1;
    poll("a place for 50 messages after the purge", || {
        again = fill(&mut client, again);
        (again > full + 50).then_some(())
    });
    assert_stored(&mut client, keep, again);
    // A full disk is opened, too, and all of it is there.
    server.crash();
    server.start_again();
    let mut client = Client::new(server.port);
    assert_stored(&mut client, keep, again);
    let info = api(&mut client, "CONSUMER.INFO.S.c", "");
    assert!(info["ack_floor"]["stream_seq"].as_u64() >= Some(20), "{info}");
    assert_eq!(info["num_pending"], again + 1 - keep, "{info}");
    api(&mut client, "STREAM.PURGE.S", "");
    poll("publishes to be taken", || {
        publish(&mut client, again + 1)["error"].is_null().then_some(())
    });
}
