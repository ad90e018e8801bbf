//! The build makes Rust of the statements of imports.

use std::{env, error::Error, fs, path::Path};

const STATEMENTS: &str = "src/sql";
/// What they have in common with the service's.
const SHARED: &str = "../../src/store/sql/shared.sql";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={STATEMENTS}");
    println!("cargo:rerun-if-changed={SHARED}");
    let statements = chatledger_statements::generate(&[Path::new(STATEMENTS)], &[Path::new(SHARED)])?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("statements.rs"), statements)?;
    Ok(())
}
