//! Where snapshots and recordings go beside the report: one file or folder per sink. A sink reads
//! the model and never the kernel.

pub mod csv;
pub mod folded;
pub mod hlog;
pub mod html;
pub mod json;
pub mod perfetto;
pub mod prometheus;
pub(crate) mod tables;
pub mod top;

use std::path::PathBuf;

use crate::recording;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Recording(#[from] recording::Error),
    #[error("cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot make the page: {0}")]
    Page(serde_json::Error),
    #[error("top needs a terminal: use `report` or `record` where output is redirected")]
    NotATerminal,
    #[error("cannot use the terminal: {0}")]
    Terminal(std::io::Error),
}
