//! A store in which nats-server has streams: they are named and left alone, and a stream that is
//! made in the place of one moves its files out of the way.

use std::fs;
use std::path::Path;

use super::api;
use super::client::Client;
use super::failing::{assert_readable, create, store};
use super::server;

/// What nats-server keeps of a stream, in names.
const FILES: [&str; 3] = ["meta.inf", "msgs/1.blk", "obs/c/o.dat"];

fn put(dir: &Path) {
    for name in FILES {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
}

fn assert_there(dir: &Path) {
    for name in FILES {
        assert_eq!(fs::read(dir.join(name)).unwrap(), name.as_bytes(), "{}", dir.display());
    }
}

#[test]
fn streams_of_nats_server_are_left_alone() {
    let mut server = server(3);
    server.stop();
    let store_dir = server.dir().join("js/jetstream");
    let streams = store_dir.join("$G/streams");
    // At home on different shards, whichever they are.
    let names: Vec<String> = (0..8).map(|number| format!("S{number}")).collect();
    names.iter().for_each(|name| put(&streams.join(name)));
    server.start_again();
    let mut client = Client::new(server.port);
    for name in &names {
        server.wait_log(&format!("streams/{name} is of nats-server: it is left alone"));
        assert_there(&streams.join(name));
    }
    let (kept, taken) = names.split_at(2);
    for name in taken {
        create(&mut client, name, "");
        (1..=3).for_each(|number| store(&mut client, name, number));
    }
    let moved = |name: &str| {
        let found = fs::read_dir(store_dir.join("quarantine")).unwrap();
        let found = found.map(|entry| entry.unwrap().path());
        let begin = format!("{name}-");
        let is_its = |path: &std::path::PathBuf| {
            path.file_name().unwrap().to_str().unwrap().starts_with(&begin)
        };
        found.filter(is_its).collect::<Vec<_>>()
    };
    server.restart();
    let mut client = Client::new(server.port);
    for name in taken {
        assert_readable(&mut client, name, 3);
        api(&mut client, &format!("STREAM.DELETE.{name}"), "");
        let [place] = &moved(name)[..] else { panic!("{name}: {:?}", moved(name)) };
        assert_there(place);
    }
    kept.iter().for_each(|name| assert_there(&streams.join(name)));
}
