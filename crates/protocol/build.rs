//! Compiles `proto/` to Rust with protox (no protoc is needed), and writes the descriptor set.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTO: &str = "../../proto";

/// The answers that a server gives as bytes: those that most of its time goes into.
const ENCODED: [&str; 2] = ["ListMessagesResponse", "ReadMessagesResponse"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let mut files: Vec<PathBuf> = fs::read_dir(format!("{PROTO}/chatledger/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let descriptors = protox::compile(files, [PROTO])?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Bytes: a payload is a slice of the request that was received, not a copy.
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::Codec")
        .build_server(false)
        .compile_fds(descriptors.clone())?;
    let servers = out.join("servers");
    fs::create_dir_all(&servers)?;
    let mut build = tonic_prost_build::configure()
        .codec_path("crate::codec::Codec")
        .build_client(false)
        .extern_path(".chatledger.v1", "crate")
        .out_dir(servers);
    for name in ENCODED {
        build = build.extern_path(
            format!(".chatledger.v1.{name}"),
            format!("crate::Encoded<crate::{name}>"),
        );
    }
    build.compile_fds(descriptors)?;
    Ok(())
}
