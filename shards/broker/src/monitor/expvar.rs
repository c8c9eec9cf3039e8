//! `/debug/vars`: the command line and the memory of the process. Values of flags that hold
//! secrets are hidden, which nats-server does not do.

use serde::Serialize;

use super::facts::ServerFacts;
use super::json::indented;
use super::response::Response;

/// The reply.
#[derive(Serialize)]
struct Vars {
    cmdline: Vec<String>,
    memstats: MemStats,
}

/// The two figures of Go's memory statistics that have a meaning here: both are the memory the
/// process occupies, in bytes.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemStats {
    alloc: u64,
    sys: u64,
}

/// Flags whose value is a secret.
const SECRET_FLAGS: [&str; 5] = ["pass", "auth", "user", "js_key", "jwt"];

const HIDDEN: &str = "[REDACTED]";

pub(super) fn render(facts: &ServerFacts) -> Response {
    let vars = Vars {
        cmdline: without_secrets(&facts.command_line),
        memstats: MemStats { alloc: facts.mem_bytes, sys: facts.mem_bytes },
    };
    Response::page("application/json; charset=utf-8", indented(&vars))
}

fn without_secrets(command_line: &[String]) -> Vec<String> {
    let mut hides_next = false;
    command_line
        .iter()
        .map(|word| {
            if std::mem::take(&mut hides_next) {
                return HIDDEN.to_owned();
            }
            let Some(flag) = word.strip_prefix('-') else {
                return without_user_info(word);
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            match flag.split_once('=') {
                Some((name, _)) if SECRET_FLAGS.contains(&name) => {
                    let dashes = word.len() - flag.len();
                    let shown = word.get(..dashes + name.len()).unwrap_or_default();
                    format!("{shown}={HIDDEN}")
                }
                Some(_) => without_user_info(word),
                None => {
                    hides_next = SECRET_FLAGS.contains(&flag);
                    word.clone()
                }
            }
        })
        .collect()
}

/// Hides what stands between `://` and the last `@` of the authority in every address of a word,
/// which may be a list with commas.
fn without_user_info(word: &str) -> String {
    let shown: Vec<String> = word
        .split(',')
        .map(|address| {
            let Some((scheme, rest)) = address.split_once("://") else {
                return address.to_owned();
            };
            match rest.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}"),
                None => address.to_owned(),
            }
        })
        .collect();
    shown.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_command_line_are_hidden() {
        let words = "shearwater -p 4222 --pass s3cret -auth=s3cret --user=bob -auth s3cret \
                     --routes nats://u:s3cret@h:1,nats://h:2 --name=x -js_key s3cret --cert=c \
                     --routes=nats://s3cret@h:3 -pass"
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let shown = without_secrets(&words).join(" ");
        assert_eq!(
            shown,
            "shearwater -p 4222 --pass [REDACTED] -auth=[REDACTED] --user=[REDACTED] \
             -auth [REDACTED] --routes nats://[REDACTED]@h:1,nats://h:2 --name=x \
             -js_key [REDACTED] --cert=c --routes=nats://[REDACTED]@h:3 -pass"
        );
    }
}
