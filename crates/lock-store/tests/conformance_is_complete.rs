//! Every backend of the workspace has its conformance tests, and every check
//! is one of them.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use lock_store::testing;

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| rust_files(folder));
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "rs");
    files.into_iter().filter(is_rust).chain(below).collect()
}

#[test]
fn every_backend_is_checked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests: Vec<String> = fs::read_dir(root.join("tests"))
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
        .filter(|text| text.contains("conformance_tests!("))
        .collect();
    let mut backends = Vec::new();
    for file in rust_files(&root.join("src"))
        .iter()
        .chain(&rust_files(&root.join("tests")))
    {
        let text = fs::read_to_string(file).unwrap();
        let implementations = text.lines().filter_map(|line| {
            let name = line.strip_prefix("impl Backend for ")?;
            Some(name.trim_end_matches(" {").to_owned())
        });
        backends.extend(implementations);
    }
    assert!(backends.len() >= 2, "{backends:?}");
    for backend in backends {
        let heading = format!("//! Conformance of `{backend}`");
        let checked = tests.iter().any(|text| text.contains(&heading));
        assert!(
            checked,
            "no test file begins with {heading:?} and runs the suite"
        );
    }
}

#[test]
fn the_names_of_checks_tell_them_apart() {
    let mut names: Vec<_> = testing::checks().iter().map(|check| check.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// Each check that is written is in the list.
#[test]
fn every_check_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testing");
    let mut written = 0;
    for file in rust_files(&folder) {
        let text = fs::read_to_string(file).unwrap();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("pub(super) async fn ") else {
                continue;
            };
            let name = rest.split('(').next().unwrap();
            written += 1;
            assert!(
                testing::checks().iter().any(|check| check.name == name),
                "the check {name} is not in the list"
            );
        }
    }
    assert_eq!(written, testing::checks().len());
}
