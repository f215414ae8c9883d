//! The corpus that is kept of fuzzing, before the same targets: what was once found stays found. In:
//! fuzz/corpus/TARGET/*. Out: a panic, with the name of the input before it.

use std::{fs, path::Path};

use crate::targets;

#[test]
fn what_was_found_once_stays_found() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let dir = corpus.join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            // Shown if it is the last.
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", dir.display());
    }
    targets::clear();
}
