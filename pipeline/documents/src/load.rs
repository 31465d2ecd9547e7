//! Reads files and directories. The only part of this crate that touches the world.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::document::Collector;
use crate::settings::FileRef;
use crate::tree::MAX_BYTES;
use crate::{Documents, Problem, Secret, Source, ViewFile};

/// Most files in one load.
pub const MAX_FILES: usize = 20_000;
/// Deepest directory below one that was named.
const MAX_DEPTH: usize = 32;
/// Most bytes of bearer tokens.
const MAX_SECRETS: u64 = 1 << 20;

struct Loader {
    collector: Collector,
    seen: BTreeSet<PathBuf>,
    files: usize,
}

/// Reads files and directories: a directory whole, with `*.yaml`, `*.yml`, `*.json` and `*.sql` at any depth, in the order of
/// names, without what begins with a dot. Relative files that settings name are relative to the file that names them.
///
/// # Errors
/// Every problem of every document, and files that cannot be read.
pub fn load(paths: &[PathBuf]) -> Result<Documents, Vec<Problem>> {
    let mut loader = Loader { collector: Collector::default(), seen: BTreeSet::new(), files: 0 };
    for path in paths {
        let before = loader.files;
        loader.path(path, 0);
        if loader.files == before && path.is_dir() {
            loader.problem(path, "no documents here", Some("documents end in .yaml, .yml, .json or .sql"));
        }
    }
    let (mut documents, files, mut problems) = loader.collector.finish();
    for (source, file) in &files {
        problems.extend(named_file(&mut documents, source, file));
    }
    if problems.is_empty() { Ok(documents) } else { Err(problems) }
}

/// Makes a file that settings name absolute to the document, checks that it can be read, and reads tokens; gives what is wrong.
fn named_file(documents: &mut Documents, source: &Source, file: &FileRef) -> Option<Problem> {
    let path = Path::new(&source.file).parent().unwrap_or_else(|| Path::new("")).join(&file.path);
    let problem = |message: String, hint: Option<&str>| Problem {
        file: source.file.clone(),
        line: (file.line > 0).then_some(file.line),
        path: file.at.clone(),
        value: Some(file.path.display().to_string()),
        message,
        hint: hint.map(str::to_owned),
    };
    let mut text = String::new();
    let opened = fs::File::open(&path).and_then(|file| file.take(MAX_SECRETS).read_to_string(&mut text));
    if let Err(error) = opened {
        return Some(problem(format!("cannot be read: {error}"), Some("relative to the file that names it")));
    }
    let receiver = &mut documents.settings.receiver;
    if file.tokens {
        let tokens = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        receiver.bearer_tokens = tokens.map(Secret::new).collect();
        if receiver.bearer_tokens.is_empty() {
            return Some(problem("holds no token".to_owned(), Some("one token per line")));
        }
    }
    let named = receiver.tls.iter_mut().flat_map(|tls| [Some(&mut tls.cert), Some(&mut tls.key), tls.client_ca.as_mut()]).flatten();
    for field in named.chain(receiver.bearer_tokens_file.as_mut()) {
        if *field == file.path {
            field.clone_from(&path);
        }
    }
    None
}

// === impl Loader ===

impl Loader {
    fn problem(&mut self, path: &Path, message: impl Into<String>, hint: Option<&str>) {
        self.collector.problems.push(Problem {
            file: path.display().to_string(),
            line: None,
            path: String::new(),
            value: None,
            message: message.into(),
            hint: hint.map(str::to_owned),
        });
    }

    fn path(&mut self, path: &Path, depth: usize) {
        match fs::canonicalize(path) {
            // A file that is named twice, or reached by a link, is read once.
            Ok(real) if !self.seen.insert(real.clone()) => {}
            Ok(real) if real.is_dir() => self.directory(path, depth),
            Ok(_) => self.file(path),
            Err(error) => self.problem(path, format!("cannot be read: {error}"), None),
        }
    }

    fn directory(&mut self, path: &Path, depth: usize) {
        if depth > MAX_DEPTH {
            self.problem(path, format!("directories nested deeper than {MAX_DEPTH}"), None);
            return;
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.problem(path, format!("cannot be read: {error}"), None),
        };
        // Hidden entries hold other things: mounted config maps keep their versions there, editors their copies.
        let hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !hidden(path)).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() || is_document(&path) {
                self.path(&path, depth + 1);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        self.files += 1;
        if self.files > MAX_FILES {
            if self.files == MAX_FILES + 1 {
                self.problem(path, format!("more than {MAX_FILES} files; this one and what follows is not read"), None);
            }
            return;
        }
        if !is_document(path) {
            self.problem(path, "not a document", Some("documents end in .yaml, .yml, .json or .sql"));
            return;
        }
        // A pipe would keep us waiting for ever.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            self.problem(path, "not a regular file", Some("documents are read from files and directories"));
            return;
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
        if let Err(error) = fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)) {
            return self.problem(path, format!("cannot be read: {error}"), None);
        }
        if bytes.len() > MAX_BYTES {
            return self.problem(path, format!("more than {MAX_BYTES} bytes"), Some("split it into several files"));
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
                return self.problem(path, format!("not UTF-8 from line {line} on"), Some("save the file as UTF-8"));
            }
        };
        if extension(path) == "sql" {
            self.collector.documents.views.push(ViewFile { path: path.to_owned(), sql: text });
        } else {
            self.collector.text(&path.display().to_string(), &text);
        }
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn is_document(path: &Path) -> bool {
    matches!(extension(path).as_str(), "yaml" | "yml" | "json" | "sql")
}
