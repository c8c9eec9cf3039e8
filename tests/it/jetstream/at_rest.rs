//! What lies on the disk: with a key nothing of a message can be read there, and no name leads out
//! of the store.

use std::path::Path;

use super::Asker;
use crate::support::server::{Options, Server};

const NEEDLE: &str = "a body that is looked for in all files";

/// Whether a file below `folder` has the text anywhere.
fn is_found(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_found(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// Stores a message under a telling subject, restarts, and reads it back.
fn stored(options: &str) -> Server {
    let config = format!("jetstream {{ store_dir: \"{{dir}}/js\" {options} }}");
    let mut server = Server::with_config(&config);
    let mut asker = Asker::new(&server);
    asker.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    asker.ask("s", NEEDLE);
    server.restart();
    let mut asker = Asker::new(&server);
    let answer = asker.ask("$JS.API.STREAM.MSG.GET.S", r#"{"seq":1}"#);
    assert!(answer.contains("YSBib2R5"), "{answer}");
    server
}

#[test]
fn without_a_key_the_body_is_in_a_file() {
    let server = stored("");
    assert!(is_found(&server.dir().join("js"), NEEDLE));
}

#[test]
fn with_a_key_it_is_in_none() {
    for cipher in ["chacha", "aes"] {
        let server = stored(&format!(", key: \"correct horse\", cipher: {cipher}"));
        assert!(!is_found(&server.dir().join("js"), NEEDLE), "in the clear with {cipher}");
    }
}

#[test]
fn a_wrong_key_hides_nothing_for_good() {
    let mut server = stored(", key: \"correct horse\"");
    server.stop();
    let with_key = |key: &str| {
        let config = "jetstream { store_dir: \"{dir}/js\", key: \"KEY\" }".replace("KEY", key);
        Options::new().config(config)
    };
    server.start_with(with_key("battery staple"));
    server.wait_log("stream \"S\" of account \"$G\" is encrypted with another key");
    let answer = Asker::new(&server).ask_anyhow("$JS.API.STREAM.INFO.S", "");
    assert!(answer.contains("10059"), "{answer}");
    server.stop();
    server.start_with(with_key("correct horse"));
    let answer = Asker::new(&server).ask("$JS.API.STREAM.MSG.GET.S", r#"{"seq":1}"#);
    assert!(answer.contains("YSBib2R5"), "{answer}");
}

#[test]
fn no_name_leads_out_of_the_store() {
    let server = Server::with_config("jetstream { store_dir: \"{dir}/js/deep/down\" }");
    let mut asker = Asker::new(&server);
    for name in ["..", "../../out", "/out", "a/../../out", "..\\\\out", "out\\u0000", "."] {
        let body = format!(r#"{{"name":"{name}","subjects":["out"]}}"#);
        let answer = asker.ask_anyhow("$JS.API.STREAM.CREATE.out", body);
        assert!(answer.contains("\"error\""), "{name}: {answer}");
        let body = format!(r#"{{"config":{{"name":"{name}"}},"state":{{}}}}"#);
        let answer = asker.ask_anyhow("$JS.API.STREAM.RESTORE.out", body);
        assert!(answer.contains("\"error\""), "{name}: {answer}");
    }
    asker.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    for name in ["..", "../../out", "/out", "..\\\\out", "out\\u0000"] {
        let body = format!(r#"{{"stream_name":"S","config":{{"durable_name":"{name}"}}}}"#);
        let answer = asker.ask_anyhow("$JS.API.CONSUMER.DURABLE.CREATE.S.out", body);
        assert!(answer.contains("\"error\""), "{name}: {answer}");
    }
    let outside = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.contains("out").then_some(name)
    };
    for folder in ["", "js", "js/deep"] {
        let found: Vec<String> =
            std::fs::read_dir(server.dir().join(folder)).unwrap().filter_map(outside).collect();
        assert!(found.is_empty(), "{found:?} in {folder:?}");
    }
}
