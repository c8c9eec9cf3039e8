//! The house rules that a machine can check, over the files of the repository itself: layout,
//! headers, line length, who may use what, links, decision records.
//!
//! Each test gathers everything that offends before it fails. Words that are looked for are put
//! together from pieces, so that this file does not offend.

use std::path::{Path, PathBuf};

/// Longest line, in characters.
const LINE_CHARS_MAX: usize = 100;

/// What the top level holds, besides hidden entries and what a build leaves.
const TOP_LEVEL: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "bench-harness",
    "benches",
    "configs",
    "docs",
    "shards",
    "src",
    "tests",
];

/// A text file of the repository.
struct File {
    /// From the top level, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// Every line with its number, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    /// The lines before the unit tests; none when the file is nothing but tests.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.path.split('/').any(|part| {
            let stem = part.strip_suffix(".rs").unwrap_or(part);
            stem == "tests" || stem == "bench" || stem.ends_with("_tests")
        });
        let lines: Vec<&str> = self.text.lines().collect();
        let end = lines.windows(2).position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        });
        let end = if is_test { 0 } else { end.unwrap_or(lines.len()) };
        self.lines().take(end)
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust, Markdown and configuration files, without what builds, fuzzing and package managers
/// leave behind.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let left_behind = ["target", "artifacts", "corpus", "node_modules"];
            if name.starts_with('.') || left_behind.contains(&name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") || name.ends_with(".md") || name.ends_with(".conf") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push(File { path, text });
            }
        }
    }
    // Whoever walks a wrong folder would find nothing to complain about.
    assert!(found.len() > 100, "only {} files", found.len());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Fails with all offenders, one a line.
fn assert_none(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

/// Whether `word` stands in `text` with no letter, digit or underscore at either side.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

#[test]
fn the_top_level_holds_what_the_layout_names() {
    let mut names: Vec<String> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    names.sort();
    let mut wanted = TOP_LEVEL;
    wanted.sort_unstable();
    assert_eq!(names, wanted);
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    let offenders: Vec<String> = files()
        .into_iter()
        .filter(|file| file.is("rs") && !file.text.starts_with("//! "))
        .map(|file| file.path)
        .collect();
    assert_none("files that do not begin with `//!`", &offenders);
}

/// What of a line counts: not the text between the first and the last quote of Rust code, which
/// cannot always be broken, and nothing of a Markdown table.
fn counted_chars(file: &File, line: &str) -> usize {
    if file.is("md") && line.trim_start().starts_with('|') {
        return 0;
    }
    let quoted = match (line.find('"'), line.rfind('"')) {
        (Some(first), Some(last)) if file.is("rs") => &line[first..last],
        _ => "",
    };
    line.chars().count() - quoted.chars().count()
}

#[test]
fn no_line_is_too_long() {
    let mut offenders = Vec::new();
    for file in files() {
        for (number, line) in file.lines() {
            let chars = counted_chars(&file, line);
            if chars > LINE_CHARS_MAX {
                offenders.push(format!("{}:{number}: {chars} characters", file.path));
            }
        }
    }
    assert_none("lines that are too long", &offenders);
}

#[test]
fn unsafe_code_and_the_executor_stay_in_their_files() {
    let runtime = "shards/reactor/src/runtime.rs";
    let rules: [(&str, &[&str]); 2] = [
        (concat!("glommio", "::"), &[runtime]),
        (concat!("allow(", "unsafe_code"), &[runtime, "shards/reactor/src/uring.rs"]),
    ];
    let mut offenders = Vec::new();
    for file in files().iter().filter(|file| file.is("rs")) {
        for (needle, homes) in rules {
            if homes.contains(&file.path.as_str()) {
                continue;
            }
            for (number, line) in file.lines() {
                // Right behind a quote it is the name of a log target, not a use.
                let mut found = line.match_indices(needle);
                if found.any(|(at, _)| !line[..at].ends_with('"')) {
                    offenders.push(format!("{}:{number}: {needle}", file.path));
                }
            }
        }
    }
    assert_none("used outside the files that may", &offenders);
}

#[test]
fn pure_crates_touch_no_file_socket_clock_lock_or_log() {
    let pure = ["shards/wire/src/", "shards/broker/src/", "shards/shard/src/"];
    let needles =
        ["std::fs", "TcpStream", "Instant::now", "SystemTime", "Mutex", "RwLock", "tracing"];
    let prints = [concat!("print", "ln!"), concat!("eprint", "ln!")];
    let mut offenders = Vec::new();
    for file in files() {
        if !pure.iter().any(|folder| file.path.starts_with(folder)) {
            continue;
        }
        for (number, line) in file.product_lines() {
            let code = line.split("//").next().unwrap_or_default();
            for needle in needles.iter().chain(&prints) {
                if has_word(code, needle) {
                    offenders.push(format!("{}:{number}: {needle}", file.path));
                }
            }
        }
    }
    assert_none("not for pure crates", &offenders);
}

#[test]
fn nothing_is_left_unfinished() {
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let calls = [concat!("dbg", "!("), concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut offenders = Vec::new();
    for file in files() {
        for (number, line) in file.lines() {
            let word = words.iter().find(|word| has_word(line, word));
            if let Some(needle) = word.or(calls.iter().find(|call| line.contains(**call))) {
                offenders.push(format!("{}:{number}: {needle}", file.path));
            }
        }
    }
    assert_none("left unfinished", &offenders);
}

/// The targets of `[text](target)` in one line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[test]
fn relative_links_of_the_documents_lead_somewhere() {
    let mut offenders = Vec::new();
    let mut checked = 0;
    for file in files() {
        if file.path != "README.md" && !(file.path.starts_with("docs/") && file.is("md")) {
            continue;
        }
        let folder = root().join(&file.path).parent().unwrap().to_owned();
        for (number, line) in file.lines() {
            for link in links(line) {
                let target = link.split('#').next().unwrap_or_default();
                if target.is_empty() || target.contains(':') {
                    continue;
                }
                checked += 1;
                if !folder.join(target).exists() {
                    offenders.push(format!("{}:{number}: {link}", file.path));
                }
            }
        }
    }
    assert!(checked > 0, "no link was found");
    assert_none("links to what is not there", &offenders);
}

/// The number with which a text begins, if it has four digits.
fn record_number(text: &str) -> Option<usize> {
    let digits = text.get(..4).filter(|four| four.bytes().all(|byte| byte.is_ascii_digit()))?;
    if text[4..].starts_with(|c: char| c.is_ascii_digit()) { None } else { digits.parse().ok() }
}

#[test]
fn decision_records_are_numbered_without_gaps_and_exist_where_named() {
    let mut names: Vec<String> = std::fs::read_dir(root().join("docs/adr"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut offenders = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if record_number(name) != Some(at + 1) {
            offenders.push(format!("docs/adr/{name} is not number {}", at + 1));
        }
    }
    for file in files() {
        for (number, line) in file.lines() {
            for prefix in ["adr/", "record "] {
                for named in line.split(prefix).skip(1).filter_map(record_number) {
                    if named == 0 || named > names.len() {
                        offenders.push(format!("{}:{number}: {prefix}{named:04}", file.path));
                    }
                }
            }
        }
    }
    assert_none("decision records", &offenders);
}

/// The keys of one table of `src/config/served.rs`: literals that are a name and nothing else.
fn table_keys(source: &str, table: &str) -> Vec<String> {
    let body = source.split_once(&format!("const {table}:")).unwrap().1;
    let body = body.split_once("];").unwrap().0;
    let is_name = |text: &&str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.')
    };
    body.split('"').skip(1).step_by(2).filter(is_name).map(ToOwned::to_owned).collect()
}

#[test]
fn keys_that_are_not_served_are_in_the_file_of_all_keys() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (source, config) = (read("src/config/served.rs"), read("configs/server.conf"));
    let mut offenders = Vec::new();
    for table in ["NO_EFFECT", "REFUSED"] {
        let keys = table_keys(&source, table);
        assert!(keys.len() >= 5, "{table}: {keys:?}");
        for key in keys {
            let name = key.rsplit('.').next().unwrap_or_default();
            if !has_word(&config, name) {
                offenders.push(format!("{table}: {key}"));
            }
        }
    }
    assert_none("keys that configs/server.conf does not name", &offenders);
}
