//! The services' gRPC contracts, generated from `proto/`, and the descriptor set that reflection serves.
//!
//! Messages that are signed, sealed or logged are `greffe_envelope::pb`; everything here is how they travel.

macro_rules! generated {
    ($(#[$doc:meta])* $module:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(clippy::all, missing_docs, unreachable_pub, unused_qualifications, elided_lifetimes_in_paths)]
        pub mod $module {
            tonic::include_proto!($package);
        }
    };
}

generated!(
    /// `greffe.audit.v1`: the log.
    audit, "greffe.audit.v1"
);
generated!(
    /// `greffe.escrow.v1`: escrow nodes and witnesses.
    escrow, "greffe.escrow.v1"
);
generated!(
    /// `greffe.archive.v1`: ingest, search, acts, orders.
    archive, "greffe.archive.v1"
);
generated!(
    /// `greffe.relay.v1`: directory, conversations, messages.
    relay, "greffe.relay.v1"
);

/// Every file, message and RPC, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/greffe.bin"));

/// An RPC of the contracts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rpc {
    /// Path of its calls, such as `/greffe.audit.v1.LogService/GetCheckpoint`.
    pub path: String,
    /// The caller sends more than one message.
    pub client_streams: bool,
    /// The answer is more than one message.
    pub server_streams: bool,
}

/// Every RPC of `DESCRIPTORS`, sorted by path.
pub fn rpcs() -> Vec<Rpc> {
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let mut rpcs = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                rpcs.push(Rpc {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    client_streams: method.client_streaming(),
                    server_streams: method.server_streaming(),
                });
            }
        }
    }
    rpcs.sort();
    rpcs
}

/// Full names of every RPC of `DESCRIPTORS`, such as `/greffe.audit.v1.LogService/GetCheckpoint`, sorted.
pub fn methods() -> Vec<String> {
    rpcs().into_iter().map(|rpc| rpc.path).collect()
}

#[cfg(test)]
mod tests {
    use super::methods;

    #[test]
    fn the_descriptor_set_names_every_service() {
        let methods = methods();
        for service in [
            "audit.v1.AuditService",
            "audit.v1.LogService",
            "escrow.v1.EscrowService",
            "escrow.v1.WitnessService",
            "archive.v1.IngestService",
            "archive.v1.ArchiveService",
            "archive.v1.OrderService",
            "relay.v1.DirectoryService",
            "relay.v1.RelayService",
        ] {
            assert!(
                methods
                    .iter()
                    .any(|m| m.contains(&format!("greffe.{service}/"))),
                "{service}"
            );
        }
    }
}
