//! Golden cases: folders of a request, `given.yaml`, and the answer to it, which a review reads as YAML. Knows no plugin.
//! `make golden` rewrites the answers: it sets `UPDATE`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::paths;

/// The answer to a case as it stands in its folder.
#[derive(Debug)]
pub struct Answer {
    /// Name of its file.
    pub file: &'static str,
    /// The file that stands there if the answer is of the other kind, e.g. a refusal instead of a plan.
    pub other: Option<&'static str>,
    /// What the file holds.
    pub text: String,
}

/// The request of a case in the folder `case`.
///
/// # Panics
/// It cannot be read.
pub fn given<T: DeserializeOwned>(case: &Path) -> T {
    let file = case.join("given.yaml");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The case at this path below `tests/golden`.
pub fn case(path: &str) -> PathBuf {
    paths::root().join("tests/golden").join(path)
}

/// An answer as YAML.
///
/// # Panics
/// It has no YAML.
pub fn yaml(answer: &impl Serialize) -> String {
    serde_saphyr::to_string(answer).expect("an answer is plain data")
}

/// Asserts that each case below `tests/golden/<folder>` is answered as in its folder, or rewrites the answer, with `UPDATE`.
///
/// # Panics
/// A case is answered otherwise, or there is none.
#[track_caller]
pub fn check(folder: &str, answer: impl Fn(&Path) -> Answer) {
    let folder = case(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    cases.sort();
    let mut wrong = Vec::new();
    for case in &cases {
        let Answer { file, other, text } = answer(case);
        let other = other.map(|name| case.join(name));
        if std::env::var_os("UPDATE").is_some() {
            other.iter().for_each(|other| drop(fs::remove_file(other)));
            fs::write(case.join(file), &text).expect("the case is writable");
        }
        let expected = fs::read_to_string(case.join(file)).unwrap_or_default();
        if expected != text || other.is_some_and(|other| other.exists()) {
            let differs = expected.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(0);
            let line = text.lines().nth(differs).unwrap_or_default();
            wrong.push(format!("{}: {file} is no longer the answer, from line {}: {line}", case.display(), differs + 1));
        }
    }
    assert!(wrong.is_empty(), "make golden rewrites the answers\n{}", wrong.join("\n"));
    assert!(!cases.is_empty(), "{} is empty", folder.display());
}
