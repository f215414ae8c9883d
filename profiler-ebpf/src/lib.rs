//! Empty: lets the user side depend on this crate so that cargo rebuilds the object when it changes.
#![no_std]
