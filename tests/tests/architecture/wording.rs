//! Plain English: no words with a private meaning, and error codes with the endings of docs/adr/0033.

use std::collections::BTreeSet;

use crate::assert_none;
use crate::document::{error_codes, first_column};
use crate::source::{Named, RustFile};
use crate::workspace::{crates, files, root, shipped, text};

/// Words that are refused everywhere: in code, names, comments, tests and documents.
const REFUSED: [&str; 8] = ["told", "nobody", "somebody", "whoever", "anew", "deaf", "stray", "groundwork"];

/// Further words that are refused in texts for users: each has a term that users know, or makes a person of a program.
const REFUSED_IN_TEXTS: [&str; 42] = [
    // Terms of the glossary stand for these.
    "already so", "awake", "back end", "back ends", "came true", "equipment", "feed", "flight recorder", "for people",
    "in vain", "in words", "ladder", "last word", "last words", "leftover", "leftovers", "mend", "mended", "patience",
    "rung", "seat", "settle", "settled", "strays", "sweep", // A program does not do this.
    "maqet hears", "maqet knows", "maqet likes", "maqet owns", "maqet sees", "maqet tells", "maqet thinks",
    "maqet wants", "qemu hears", "qemu knows", "qemu likes", "qemu owns", "qemu sees", "qemu tells", "qemu thinks",
    "qemu wants", "was heard",
];

/// The endings of error codes (docs/adr/0033).
const ENDINGS: [&str; 19] = [
    "ambiguous", "busy", "conflict", "corrupt", "exists", "failed", "full", "in-use", "insecure", "interrupted",
    "invalid", "not-found", "refused", "required", "timed-out", "too-large", "unavailable", "unresponsive",
    "unsupported",
];

/// Returns the words of a text in lower case, each with its line; names such as `is_deaf` and `DeafVm` are several.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut previous = ' ';
        for letter in line.chars() {
            let begins = !previous.is_alphabetic() || (previous.is_lowercase() && letter.is_uppercase());
            if letter.is_alphabetic() {
                if begins {
                    words.push((index + 1, String::new()));
                }
                words.last_mut().expect("one was begun").1.extend(letter.to_lowercase());
            }
            previous = letter;
        }
    }
    words
}

/// Returns the refused words and phrases of a text, each with its line; a phrase may continue on the next line.
fn refused(text: &str, refused: &[&str]) -> Vec<(usize, String)> {
    let words = words(text);
    let mut found = Vec::new();
    for phrase in refused {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let windows = words.windows(phrase.len());
        let matching = windows.filter(|window| window.iter().map(|(_, word)| word.as_str()).eq(phrase.iter().copied()));
        found.extend(matching.map(|window| (window[0].0, phrase.join(" "))));
    }
    found.sort();
    found
}

/// Returns the findings in a whole file.
fn refused_in(path: &str, text: &str, list: &[&str]) -> Vec<String> {
    refused(text, list).into_iter().map(|(line, phrase)| format!("{path}:{line}: `{phrase}`")).collect()
}

/// Returns the findings in what users read of a Rust file: messages of errors, help, hints and other literals.
fn refused_in_texts(file: &RustFile) -> Vec<String> {
    let texts = file.messages.iter().chain(&file.texts).filter(|text| !text.for_tests);
    let findings = texts.flat_map(|text| refused(&text.name, &REFUSED_IN_TEXTS).into_iter().map(move |it| (text, it)));
    let findings: BTreeSet<(usize, String)> =
        findings.map(|(Named { line, .. }, (_, phrase))| (*line, phrase)).collect();
    findings.into_iter().map(|(line, phrase)| format!("{}:{line}: `{phrase}`", file.path)).collect()
}

/// Returns the text files of the repository but this one, the others that quote refused words.
fn text_files() -> Vec<(String, String)> {
    let folders = ["crates", "docs", "fuzz", "tests", ".ci", ".cargo"].map(|folder| files(folder, "")).concat();
    let of_root = ["md", "toml"].map(|extension| files("", extension)).concat();
    let of_root = of_root.into_iter().filter(|path| !path.contains('/'));
    let paths = folders.into_iter().chain(of_root).filter(|path| *path != THIS_FILE);
    let read = |path: String| std::fs::read_to_string(root().join(&path)).ok().map(|text| (path, text));
    paths.filter_map(read).collect()
}

const THIS_FILE: &str = "tests/tests/architecture/wording.rs";

/// Returns whether an error code has one of the endings.
fn has_ending(code: &str) -> bool {
    let Some((_, problem)) = code.split_once('.') else { return false };
    ENDINGS.iter().any(|ending| problem.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('-')))
}

#[test]
fn test_words_with_private_meanings_are_in_no_file() {
    let files = text_files();

    assert!(files.iter().any(|(path, _)| path == "README.md") && files.len() > 500, "{} files", files.len());
    let findings = files.iter().flat_map(|(path, text)| refused_in(path, text, &REFUSED));
    assert_none("plain English has other words", &findings.collect::<Vec<_>>());
}

#[test]
fn test_words_of_texts_for_users_are_plain_english() {
    let rust: Vec<&RustFile> = crates().iter().flat_map(|name| shipped(name)).collect();
    let documents = files("", "md");

    let in_documents = documents.iter().flat_map(|path| refused_in(path, &text(path), &REFUSED_IN_TEXTS));
    let findings = rust.into_iter().flat_map(refused_in_texts).chain(in_documents);

    assert_none("texts for users have the terms of the field", &findings.collect::<Vec<_>>());
}

#[test]
fn test_error_codes_end_in_one_of_a_closed_set() {
    let in_docs = first_column(&text("docs/reference/json.md"), "## Endings of error codes");

    let others = error_codes().into_iter().filter(|code| !has_ending(code)).map(str::to_owned);
    assert_none("error codes end as docs/adr/0033 says", &others.collect::<Vec<_>>());
    assert_eq!(in_docs, ENDINGS.map(str::to_owned).into(), "docs/reference/json.md lists the endings");
}

#[test]
fn test_refused_words_in_names_comments_and_texts_are_found() {
    let text = "/// Nobody.\nfn is_deaf() { Stray::new(\"toldX\", \"was\n in vain\") } // strays, anewer";

    assert_eq!(refused_in("f", text, &REFUSED), ["f:1: `nobody`", "f:2: `deaf`", "f:2: `stray`", "f:2: `told`"]);
    assert_eq!(refused_in("f", text, &["in vain"]), ["f:3: `in vain`"]);
    assert_eq!(refused("a\nflight\nrecorder", &["flight recorder"]), [(2, "flight recorder".to_owned())]);
}

#[test]
fn test_refused_words_in_errors_help_and_hints_are_found() {
    let file = RustFile::new(
        "f",
        "#[derive(Debug, thiserror::Error)] #[error(\"waited in vain\")] struct E;\n\
         /// What QEMU knows\n#[derive(clap::Args)] struct A;\n\
         fn explain() { x.hint(\"have patience\") }\n\
         /// A leftover\nfn f() {}\n\
         #[cfg(test)] fn g() { \"mend\" }",
    );

    assert_eq!(refused_in_texts(&file), ["f:1: `in vain`", "f:2: `qemu knows`", "f:4: `patience`"]);
}

#[test]
fn test_error_code_with_other_ending_is_found() {
    assert!(["vm.not-found", "log.boot-not-found", "usage.invalid"].iter().all(|code| has_ending(code)));
    assert!(["vm.deaf", "vm.notfound", "log.of-no-boot", "failed", "vm.xfailed"].iter().all(|code| !has_ending(code)));
}
