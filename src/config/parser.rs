//! Builds the tree of a configuration text: maps, arrays, the outer braces, variables and
//! includes.
//!
//! ```text
//!   text -> Lexer (words) -> Parser (tree, scopes for $names) -> Map
//!                              ^ include: the same for another file, merged
//! ```
//!
//! Depth, includes and the number of values are bounded, so that no text can exhaust the stack or
//! the memory: 100 levels, 16 files deep, 4 million values.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::Source;
use super::error::{Finding, Pos, io_text};
use super::lexer::{Lexer, Scalar, is_blank, is_newline};
use super::value::{Map, Node, Value};

/// Levels of arrays, maps and braces.
const DEPTH_MAX: usize = 100;
/// Files that include one another.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Values in all, counting what variables repeat.
const VALUES_MAX: usize = 4_000_000;

/// What one load keeps over all its files.
struct Load<'s> {
    source: &'s dyn Source,
    /// The files being read now, to refuse one that includes itself.
    open_files: Vec<PathBuf>,
    /// The environment variables being read now.
    open_variables: Vec<String>,
    /// Names that were looked up and not found, perhaps because they are defined too late.
    missing: Vec<String>,
    values: usize,
    findings: Vec<Finding>,
}

/// Parses `text` as the file called `file`. What could be read is returned with all errors; a
/// grammar error ends the reading, a missing variable or include does not.
pub(super) fn parse(text: &[u8], file: &str, source: &dyn Source) -> (Map, Vec<Finding>) {
    let mut load = Load {
        source,
        open_files: vec![joined(Path::new(""), file)],
        open_variables: Vec::new(),
        missing: Vec::new(),
        values: 0,
        findings: Vec::new(),
    };
    let map = match Parser::run(text, &Arc::from(file), 0, &mut load) {
        Ok(map) => map,
        Err(finding) => {
            load.findings.push(finding);
            Map::default()
        }
    };
    (map, load.findings)
}

struct Parser<'a, 's> {
    lexer: Lexer<'a>,
    file: Arc<str>,
    /// The maps being filled, the outermost first; where variables are looked up.
    scopes: Vec<Map>,
    depth: usize,
    load: &'a mut Load<'s>,
}

/// Where the reading of a file's outermost level stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    /// Outside of any braces.
    Top,
    /// Inside of braces around the whole file.
    Braces,
    /// After a closing brace that had another one around it.
    AfterBrace,
}

impl<'a, 's> Parser<'a, 's> {
    /// Reads a text that stands inside of `depth` levels of another one.
    fn run(
        text: &'a [u8],
        file: &Arc<str>,
        depth: usize,
        load: &'a mut Load<'s>,
    ) -> Result<Map, Finding> {
        let mut parser = Self {
            lexer: Lexer::new(text, file),
            file: Arc::clone(file),
            scopes: vec![Map::default()],
            depth,
            load,
        };
        if text.contains(&0) {
            while parser.lexer.peek().is_some_and(|c| c != 0) {
                parser.lexer.take();
            }
            return Err(parser.lexer.error("Unexpected NUL byte."));
        }
        parser.document()?;
        Ok(parser.scopes.pop().unwrap_or_default())
    }

    /// The outermost level of a file.
    fn document(&mut self) -> Result<(), Finding> {
        let mut level = Level::Top;
        let mut around: Vec<Level> = Vec::new();
        loop {
            if level == Level::AfterBrace {
                level = self.after_brace(&mut around)?;
                continue;
            }
            self.lexer.skip_space();
            if self.lexer.comment() {
                continue;
            }
            match self.lexer.peek() {
                None => return Ok(()),
                Some(b'/') => return Err(self.lexer.error("Unexpected EOF.")),
                Some(b'{') => {
                    self.lexer.take();
                    around.push(if level == Level::Top { level } else { Level::AfterBrace });
                    self.check_depth(around.len())?;
                    level = Level::Braces;
                }
                Some(b'}') if level == Level::Braces => {
                    self.lexer.take();
                    level = around.pop().unwrap_or(Level::Top);
                }
                _ => {
                    if self.top_entry()? {
                        return Ok(());
                    }
                    level = self.after_top_value(level)?;
                }
            }
        }
    }

    /// A key and its value at the outermost level; true when the text ended with a lone brace.
    fn top_entry(&mut self) -> Result<bool, Finding> {
        let (key, pos, include) = self.lexer.key(false)?;
        if include {
            self.include()?;
            return Ok(false);
        }
        let separated = self.lexer.key_separator();
        if self.lexer.peek().is_none() && !separated {
            // A closing brace too much at the end is accepted.
            if key == "}" {
                return Ok(true);
            }
            return Err(Finding::grammar(&self.lexer.here(), "config is invalid"));
        }
        self.lexer.skip_blanks();
        let node = self.value()?;
        self.set(key, pos, node);
        Ok(false)
    }

    /// Passes over what may follow a value of the outermost level.
    fn after_top_value(&mut self, level: Level) -> Result<Level, Finding> {
        let name = if level == Level::Top { "top" } else { "block" };
        loop {
            if self.lexer.comment() {
                return Ok(level);
            }
            match (self.lexer.peek(), level) {
                (Some(b'/'), _) => {}
                (Some(c), _) if is_blank(c) => {}
                (Some(c), _) if is_newline(c) || c == b',' || c == b';' => {
                    self.lexer.take();
                    return Ok(level);
                }
                (Some(b'}'), Level::Top) => {
                    self.lexer.take();
                    return Ok(level);
                }
                (Some(b'}'), _) => return Ok(Level::AfterBrace),
                (None, Level::Top) => return Ok(level),
                _ => {
                    let before = format!(
                        "Expected a {name}-level value to end with a new line, comment or EOF, \
                         but got '"
                    );
                    return Err(self.lexer.unexpected(&before, "' instead."));
                }
            }
            self.lexer.take();
        }
    }

    /// Passes over what may stand before the brace that ends the outermost level.
    fn after_brace(&mut self, around: &mut Vec<Level>) -> Result<Level, Finding> {
        loop {
            if self.lexer.comment() {
                return Ok(Level::Braces);
            }
            match self.lexer.peek() {
                Some(b'/') => {}
                Some(c) if is_blank(c) || is_newline(c) => {}
                Some(b',' | b';') => {
                    self.lexer.take();
                    return Ok(Level::Braces);
                }
                Some(b'}') => {
                    self.lexer.take();
                    return Ok(around.pop().unwrap_or(Level::Top));
                }
                _ => {
                    let before = "Expected a block-level to end with a '}', but got '";
                    return Err(self.lexer.unexpected(before, "' instead."));
                }
            }
            self.lexer.take();
        }
    }

    /// Sets a key of the innermost map.
    fn set(&mut self, key: String, pos: Pos, mut node: Node) {
        node.pos = pos;
        node.used = self.load.missing.contains(&key);
        if let Some(map) = self.scopes.last_mut() {
            map.insert(key, node);
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), Finding> {
        if depth <= DEPTH_MAX {
            return Ok(());
        }
        Err(self.lexer.error(&format!("Nested deeper than {DEPTH_MAX} levels")))
    }

    fn count(&mut self, values: usize) -> Result<(), Finding> {
        self.load.values = self.load.values.saturating_add(values);
        if self.load.values <= VALUES_MAX {
            return Ok(());
        }
        Err(self.lexer.error(&format!("More than {VALUES_MAX} values")))
    }

    /// Any value; the next byte begins it.
    fn value(&mut self) -> Result<Node, Finding> {
        self.count(1)?;
        match self.lexer.peek() {
            Some(b'[') => self.nested(Self::array),
            Some(b'{') => self.nested(Self::map),
            _ => {
                let line = self.lexer.here().line;
                let (scalar, pos) = self.lexer.scalar()?;
                match scalar {
                    Scalar::Value(value) => Ok(Node::new(value, pos)),
                    Scalar::Variable(name) => self.variable(&name, line, pos),
                }
            }
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, Finding>) -> Result<Node, Finding> {
        self.lexer.take();
        self.depth += 1;
        self.check_depth(self.depth)?;
        let value = read(self)?;
        self.depth -= 1;
        Ok(Node::new(value, self.lexer.here()))
    }

    /// After `[`: the elements, up to and with `]`.
    fn array(&mut self) -> Result<Value, Finding> {
        let mut items = Vec::new();
        loop {
            self.lexer.skip_space();
            if self.lexer.comment() {
                continue;
            }
            match self.lexer.peek() {
                Some(b']') => break,
                Some(b',' | b'/') => {
                    return Err(self.lexer.error("Unexpected array value terminator ','."));
                }
                _ => items.push(self.value()?),
            }
            if self.after_element()? {
                break;
            }
        }
        self.lexer.take();
        Ok(Value::List(items))
    }

    /// Passes over what may follow an element; true before the closing bracket.
    fn after_element(&mut self) -> Result<bool, Finding> {
        loop {
            self.lexer.skip_blanks();
            if self.lexer.comment() {
                continue;
            }
            match self.lexer.peek() {
                Some(b']') => return Ok(true),
                Some(c) if c == b',' || c == b'/' || is_newline(c) => {
                    self.lexer.take();
                    return Ok(false);
                }
                _ => {
                    let before = "Expected an array value terminator \",\" or an array terminator \
                                  \"]\", but got '";
                    return Err(self.lexer.unexpected(before, "' instead."));
                }
            }
        }
    }

    /// After `{`: keys and values, up to and with `}`.
    fn map(&mut self) -> Result<Value, Finding> {
        self.scopes.push(Map::default());
        while self.map_entry()? {}
        self.lexer.take();
        Ok(Value::Map(self.scopes.pop().unwrap_or_default()))
    }

    /// One entry of a map and what follows it; false before the closing brace.
    fn map_entry(&mut self) -> Result<bool, Finding> {
        self.lexer.skip_space();
        if self.lexer.comment() {
            return Ok(true);
        }
        match self.lexer.peek() {
            Some(b'}') => return Ok(false),
            Some(b']') => {
                return Err(self.lexer.error("Unexpected array end ']' processing map."));
            }
            None => return Err(self.lexer.error("Unexpected EOF processing map.")),
            // A slash that begins no comment is passed over, as nats-server does.
            Some(b'/') => {
                self.lexer.take();
            }
            _ => {}
        }
        let (key, pos, include) = self.lexer.key(true)?;
        if include {
            self.include()?;
            return self.after_map_value();
        }
        if self.lexer.key_separator() {
            self.lexer.skip_space();
        }
        match self.lexer.peek() {
            Some(b',') => return Err(self.lexer.error("Unexpected map value terminator ','.")),
            Some(b'}') => {
                let text = format!("Expected a value for {key:?} but found the end of the map.");
                return Err(self.lexer.error(&text));
            }
            None => return Err(self.lexer.error("Unexpected EOF processing map key.")),
            _ => {}
        }
        let node = self.value()?;
        self.set(key, pos, node);
        self.after_map_value()
    }

    fn after_map_value(&mut self) -> Result<bool, Finding> {
        loop {
            self.lexer.skip_blanks();
            if self.lexer.comment() {
                continue;
            }
            match self.lexer.peek() {
                Some(b'}') => return Ok(false),
                Some(c) if matches!(c, b',' | b';' | b'/') || is_newline(c) => {
                    self.lexer.take();
                    return Ok(true);
                }
                _ => {
                    let before = "Expected a map value terminator \",\" or a map terminator \
                                  \"}\", but got '";
                    return Err(self.lexer.unexpected(before, "' instead."));
                }
            }
        }
    }

    /// Looks `$name` up: the maps around it, then the environment. A name that is nowhere is
    /// reported and stands as a missing value, so that the rest of the file is still checked.
    fn variable(&mut self, name: &str, line: u32, pos: Pos) -> Result<Node, Finding> {
        // An unquoted bcrypt hash begins like a variable.
        if name.starts_with("2a$") {
            return Ok(Node::new(Value::Text(format!("${name}")), pos));
        }
        let defined = self.scopes.iter_mut().rev().find_map(|map| map.get_mut(name));
        if let Some(node) = defined {
            node.used = true;
            let value = node.value.clone();
            self.count(value.size())?;
            self.check_depth(self.depth + value.depth())?;
            return Ok(Node::new(value, pos));
        }
        match self.environment(name, &pos) {
            Ok(Some(node)) => return Ok(node),
            Ok(None) => {
                let text =
                    format!("variable reference for '{name}' on line {line} can not be found");
                self.load.findings.push(Finding::grammar(&pos, text));
                self.load.missing.push(name.to_string());
            }
            Err(reason) => {
                let text = format!(
                    "variable reference for '{name}' on line {line} could not be parsed: {reason}"
                );
                self.load.findings.push(Finding::grammar(&pos, text));
            }
        }
        Ok(Node::new(Value::Missing, pos))
    }

    /// The value of an environment variable, whose text is read like any value in a file.
    fn environment(&mut self, name: &str, pos: &Pos) -> Result<Option<Node>, String> {
        if self.load.open_variables.iter().any(|open| open == name) {
            return Err(format!("variable reference cycle for '{name}'"));
        }
        let Some(text) = self.load.source.variable(name) else {
            return Ok(None);
        };
        self.load.open_variables.push(name.to_string());
        let before = self.load.findings.len();
        let read =
            Parser::run(format!("pk={text}").as_bytes(), &Arc::from(""), self.depth, self.load);
        self.load.open_variables.pop();
        let map = read.map_err(|finding| finding.text)?;
        if let Some(finding) = self.load.findings.drain(before..).next() {
            return Err(finding.text);
        }
        Ok(map.get("pk").cloned().map(|mut node| {
            node.place_all(&self.file, pos);
            node
        }))
    }

    /// After the word `include`: reads the file and merges its keys into the innermost map.
    fn include(&mut self) -> Result<(), Finding> {
        let pos = self.lexer.here();
        let name = self.lexer.include_path()?;
        match self.included(&name) {
            Ok(map) => {
                if let Some(scope) = self.scopes.last_mut() {
                    scope.merge(map);
                }
            }
            Err(reason) => {
                let text = format!("error parsing include file '{name}', {reason}");
                self.load.findings.push(Finding::grammar(&pos, text));
            }
        }
        Ok(())
    }

    fn included(&mut self, name: &str) -> Result<Map, String> {
        let directory = Path::new(&*self.file).parent().unwrap_or(Path::new(""));
        let mut path = joined(directory, name);
        let mut read = self.load.source.read(&path);
        // nats-server reads every path as relative to the including file. An absolute one that
        // is not there is taken as it stands.
        if read.is_err() && Path::new(name).is_absolute() {
            path = PathBuf::from(name);
            read = self.load.source.read(&path);
        }
        let shown = path.to_string_lossy().into_owned();
        let text = read.map_err(|err| io_text("open", &shown, &err))?;
        if self.load.open_files.contains(&path) {
            return Err(format!("{shown} includes itself"));
        }
        if self.load.open_files.len() >= INCLUDE_DEPTH_MAX {
            return Err(format!("more than {INCLUDE_DEPTH_MAX} files include one another"));
        }
        self.load.open_files.push(path);
        let map = Parser::run(&text, &Arc::from(shown.as_str()), self.depth, self.load);
        self.load.open_files.pop();
        map.map_err(|finding| finding.to_string())
    }
}

/// `name` under `directory`, without `.` parts and with `..` resolved in the text alone.
fn joined(directory: &Path, name: &str) -> PathBuf {
    let mut parts: Vec<Component<'_>> = Vec::new();
    let name = Path::new(name);
    let inside = name.components().filter(|c| !directory_is_empty(directory, c));
    for part in directory.components().chain(inside) {
        match (part, parts.last()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                parts.pop();
            }
            (Component::ParentDir, Some(Component::RootDir)) => {}
            _ => parts.push(part),
        }
    }
    parts.iter().collect()
}

/// Whether `part` is the leading slash of a path that is to be read under another directory.
fn directory_is_empty(directory: &Path, part: &Component<'_>) -> bool {
    !directory.as_os_str().is_empty() && *part == Component::RootDir
}
