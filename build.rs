//! Compiles `proto/` to Rust with protox (no protoc is needed), writes the descriptor set that server reflection
//! serves, and lists the migrations' ways back, which refinery doesn't embed.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");

    let mut files: Vec<PathBuf> = fs::read_dir("proto/chatledger/v1")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let descriptors = protox::compile(files, ["proto"])?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    fs::write(out.join("downs.rs"), downs()?)?;
    // Bytes: a payload is a slice of the request that was received, not a copy.
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::api::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}

/// `&[(set, file, text), ...]` as Rust, for every `migrations/<set>/V<n>__<what>.down.sql`. One that is missing ends
/// the build.
// refinery reads no `.SQL` either.
#[allow(clippy::case_sensitive_file_extension_comparisons)]
fn downs() -> Result<String, Box<dyn Error>> {
    let mut list = String::from("&[\n");
    for set in fs::read_dir("migrations")? {
        let set = set?.path();
        if !set.is_dir() {
            continue;
        }
        let name = set.file_name().unwrap_or_default().to_string_lossy();
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
                list,
                "({name:?}, {migration:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{down}\"))),"
            )?;
        }
    }
    list.push_str("]\n");
    Ok(list)
}
