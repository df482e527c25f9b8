fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "klamm/v1/admin.proto",
        "klamm/v1/controller.proto",
        "klamm/v1/quorum.proto",
        "klamm/v1/raft.proto",
        "klamm/v1/replica.proto",
        "klamm/v1/transactions.proto",
    ];
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
