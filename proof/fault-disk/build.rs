//! Compiles the library that is preloaded, where there is a loader that can do that.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/disk.c");
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS")? != "linux" {
        return Ok(());
    }
    let library = PathBuf::from(env::var("OUT_DIR")?).join("fault_disk.so");
    let mut compiler = cc::Build::new().try_get_compiler()?.to_command();
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"]);
    let status = compiler.arg(&library).args(["src/disk.c", "-ldl", "-lpthread"]).status()?;
    if status.success() { Ok(()) } else { Err(format!("src/disk.c: {status}").into()) }
}
