//! The build lists the migrations' ways back, which refinery doesn't embed, and makes Rust of the statements.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Where the statements are.
const STATEMENTS: [&str; 2] = ["src/store/sql", "src/ledger/sql"];

fn main() -> Result<(), Box<dyn Error>> {
    for directory in ["migrations"].iter().chain(&STATEMENTS) {
        println!("cargo:rerun-if-changed={directory}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("downs.rs"), downs()?)?;
    let statements = chatledger_statements::generate(&STATEMENTS.map(Path::new), &[])?;
    fs::write(out.join("statements.rs"), statements)?;
    Ok(())
}

/// `const <SET>_DOWNS: &[(file, text)]` as Rust, for every `migrations/<set>/V<n>__<what>.down.sql`. One that is missing
/// ends the build.
// refinery reads no `.SQL` either.
#[allow(clippy::case_sensitive_file_extension_comparisons)]
fn downs() -> Result<String, Box<dyn Error>> {
    let mut lists = String::new();
    for set in fs::read_dir("migrations")? {
        let set = set?.path();
        if !set.is_dir() {
            continue;
        }
        let name = set
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        writeln!(lists, "const {name}_DOWNS: &[(&str, &str)] = &[")?;
        for file in fs::read_dir(&set)? {
            let up = file?.path().to_string_lossy().into_owned();
            let Some(path) = up.strip_suffix(".sql").filter(|path| !path.ends_with(".down")) else {
                continue;
            };
            let down = format!("{path}.down.sql");
            if !fs::exists(&down)? {
                return Err(format!("{up} has no way back: write {down}").into());
            }
            let migration = path.rsplit('/').next().unwrap_or_default();
            writeln!(
                lists,
                "({migration:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{down}\"))),"
            )?;
        }
        lists.push_str("];\n");
    }
    Ok(lists)
}
