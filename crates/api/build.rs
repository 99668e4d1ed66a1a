//! Compiles the services' contracts and the descriptor set that reflection serves; no protoc is needed.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let mut files = Vec::new();
    for service in ["audit", "escrow", "archive", "relay"] {
        files.push(format!("{root}/greffe/{service}/v1/{service}.proto"));
        files.push(format!(
            "{root}/greffe/{service}/v1/{service}_service.proto"
        ));
    }
    let descriptors = protox::compile(&files, [root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("greffe.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".greffe.envelope.v1", "::greffe_envelope::pb")
        .compile_fds(descriptors)?;
    Ok(())
}
