//! vmascope: see README.md. Data flows one way: kernel -> loader -> collect -> model -> sinks.

pub mod model;
