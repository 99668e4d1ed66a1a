//! Compiles the protobuf messages that are signed, sealed and logged; no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    let files: Vec<String> = [
        "ceremony",
        "disclosure",
        "log",
        "message",
        "order",
        "share",
        "statement",
        "trust",
    ]
    .iter()
    .map(|name| format!("{root}/greffe/envelope/v1/{name}.proto"))
    .collect();
    println!("cargo:rerun-if-changed={root}/greffe/envelope");
    let descriptors = protox::compile(&files, [root])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
