//! vmascope
