//! `/`: a page with a link to each endpoint.

use std::fmt::Write;

use super::facts::ServerFacts;
use super::response::{HTML, Response};

/// The links, by what they show. They are relative, so that they work below a base path.
const LINKS: [(&str, &str); 14] = [
    ("General", "varz"),
    ("Connections", "connz"),
    ("Subscriptions", "subsz"),
    ("Accounts", "accountz"),
    ("Account traffic", "accstatz"),
    ("JetStream", "jsz"),
    ("Routes", "routez"),
    ("Leaf nodes", "leafz"),
    ("Gateways", "gatewayz"),
    ("Raft groups", "raftz"),
    ("Health", "healthz"),
    ("Queues between shards", "ipqueuesz?all=1"),
    ("Prometheus metrics", "metrics"),
    ("Process variables", "debug/vars"),
];

pub(super) fn render(facts: &ServerFacts) -> Response {
    // A page at `/nats` resolves `./varz` against `/`, so the base path has to be in the link.
    let base = facts.http_base_path.trim_matches('/');
    let prefix = if base.is_empty() { "./".to_owned() } else { format!("/{}/", escaped(base)) };
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>Shearwater</title>\n<style>\n\
         body { font: 16px/1.6 system-ui, sans-serif; margin: 2rem; color: #223 }\n\
         a { color: #1a5fb4 }\n\
         </style>\n</head>\n<body>\n",
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "<h1>Shearwater {}</h1>\n<p>{}</p>\n<ul>",
        escaped(&facts.build_version),
        escaped(&facts.server_name)
    );
    for (title, link) in LINKS {
        let _ = writeln!(page, "<li><a href=\"{prefix}{link}\">{title}</a></li>");
    }
    page.push_str("</ul>\n</body>\n</html>\n");
    Response::page(HTML, page.into_bytes())
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
