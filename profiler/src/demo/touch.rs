//! `touch`: N first touches of private anonymous memory are N faults, in its address range, by one
//! thread. In: N. Out: the range, and the faults that getrusage counted around the touches.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{
    faults_of_thread,
    memory::{Mapping, available, page_size},
    tid,
};

/// Pages of the practice run.
const PRACTICE: usize = 16;

#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    tid: u32,
    start: u64,
    end: u64,
    pages: usize,
    page_size: usize,
    minor: u64,
    major: u64,
    elapsed_ns: u64,
}

pub fn run(pages: usize) -> Result<Truth> {
    let bytes = pages
        .checked_mul(page_size())
        .filter(|b| *b as u64 <= available());
    if bytes.is_none() {
        bail!("{pages} pages are more memory than is available: ask for fewer with --pages");
    }
    // Once for practice: the code, the stack and the clock's pages fault now and not between the
    // two readings. Both mappings stay, so that their addresses differ.
    let [_practice, real] = [PRACTICE, pages].map(measure);
    let (_memory, truth) = real.context("cannot touch the pages")?;
    if truth.minor + truth.major != pages as u64 {
        bail!(
            "touched {pages} pages but the kernel counted {} + {} faults: try again on a calmer machine",
            truth.minor,
            truth.major
        );
    }
    Ok(truth)
}

/// One copy of this code, for practice and for real: another would have pages of its own.
#[inline(never)]
fn measure(pages: usize) -> Result<(Mapping, Truth)> {
    let page_size = page_size();
    let memory = Mapping::new(pages * page_size)?;
    let before = faults_of_thread();
    let begin = Instant::now();
    memory.touch(0, pages * page_size, page_size);
    let elapsed = begin.elapsed();
    let after = faults_of_thread();
    let truth = Truth {
        scenario: "touch",
        pid: std::process::id(),
        tid: tid(),
        start: memory.start(),
        end: memory.end(),
        pages,
        page_size,
        minor: after.minor - before.minor,
        major: after.major - before.major,
        elapsed_ns: elapsed.as_nanos() as u64,
    };
    Ok((memory, truth))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_touch_is_a_fault() {
        let truth = super::run(100).unwrap();
        assert_eq!(truth.minor + truth.major, 100);
        assert_eq!((truth.end - truth.start) as usize, 100 * truth.page_size);
    }

    #[test]
    fn more_than_there_is_is_refused() {
        for pages in [usize::MAX, usize::MAX / super::page_size()] {
            let error = super::run(pages).unwrap_err().to_string();
            assert!(error.contains("--pages"), "{error}");
        }
    }
}
