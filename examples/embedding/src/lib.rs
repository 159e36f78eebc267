//! The README's Rust code is compiled and run as this crate's documentation tests. The program
//! beside it, `main.rs`, is the smallest complete service around the library.
#![doc = include_str!("../../../README.md")]
