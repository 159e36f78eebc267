//! The committed inputs, through every check, with every `cargo test`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path};

use cognigy_fuzz_checks::CHECKS;

#[test]
fn every_committed_input_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (name, check) in CHECKS {
        let mut inputs = 0;
        for entry in fs::read_dir(corpus.join(name)).expect(name) {
            let path = entry.unwrap().path();
            // A panic says which input it was.
            println!("{}", path.display());
            check(&fs::read(path).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 10, "{name} has only {inputs} inputs");
    }
}

#[test]
fn every_target_and_every_folder_of_inputs_has_its_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let names = |folder: &str| {
        let mut names: Vec<_> = fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let checks = CHECKS.map(|(name, _)| name);
    assert_eq!(names("corpus"), checks);
    assert_eq!(names("targets"), checks);
}
