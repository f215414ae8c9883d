//! vmascope: see README.md. Data flows one way: kernel -> loader -> collect -> model -> sinks.

pub mod collect;
pub mod kernel;
pub mod loader;
pub mod model;
pub mod recording;
pub mod report;
pub mod session;
