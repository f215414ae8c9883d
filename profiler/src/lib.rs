//! vmascope: see README.md. Data flows one way: kernel -> loader -> collect -> model -> sinks.

mod beside;
pub mod child;
pub mod cli;
pub mod collect;
pub mod commands;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod error;
pub mod kernel;
pub mod loader;
pub mod model;
pub mod recording;
pub mod report;
pub mod session;
pub mod sinks;
pub mod user;
