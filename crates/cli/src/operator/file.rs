//! Statements as files that are carried between machines: a draft as text, everything else as the protobuf of a
//! `SignedStatement`, which is what services read and the relay takes.

use std::path::Path;

use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement, decode_strict};
use greffe_envelope::trust::{Bundle, RootKey};
use prost::Message as _;

use super::draft::Draft;
use crate::fail::{Failure, Result, chain};
use crate::layout::{read_text, write_whole};

/// Reads a statement, signed or not: a draft of a bundle is text, everything else protobuf.
pub(crate) fn read(path: &Path) -> Result<pb::SignedStatement> {
    if path.extension().is_some_and(|end| end == "toml") {
        let bundle = Draft::parse(&read_text(path)?, &path.display().to_string())?;
        return Ok(Signed::sign(bundle, &[]).into_raw());
    }
    let bytes = std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
    decode_strict("signed-statement", &bytes).map_err(|error| malformed(path, &chain(&error)))
}

/// Reads a statement that has to be of one type.
pub(crate) fn read_as<M: Statement>(path: &Path) -> Result<Signed<M>> {
    Signed::decode(read(path)?).map_err(|error| malformed(path, &chain(&error)))
}

/// Reads a bundle that the root has signed.
pub(crate) fn read_bundle(path: &Path, root: &RootKey) -> Result<Bundle> {
    let signed = read_as::<pb::TrustBundle>(path)?;
    if signed.tenant != root.tenant().as_str() {
        return Err(wrong_tenant(&signed.tenant, root));
    }
    Bundle::verify(signed, root).map_err(|error| {
        Failure::unverified(
            "NOT_SIGNED_BY_ROOT",
            format_args!(
                "{} is no trust bundle of this root ({}): name the file that `greffe operator sign` wrote",
                path.display(),
                chain(&error)
            ),
        )
    })
}

/// Writes a statement; the file is there as a whole or not at all.
pub(crate) fn write(path: &Path, statement: &pb::SignedStatement) -> Result<()> {
    write_whole(path, &statement.encode_to_vec())
}

/// Something of another tenant.
pub(crate) fn wrong_tenant(found: &str, root: &RootKey) -> Failure {
    Failure::refused(
        "WRONG_TENANT",
        format_args!(
            "this is of tenant {found:?}, and the root is that of {}: take that tenant's root, or draft it anew for this one",
            root.tenant()
        ),
    )
}

fn malformed(path: &Path, why: &str) -> Failure {
    Failure::usage(
        "STATEMENT_FILE",
        format_args!(
            "{} is not the statement that is wanted here ({why}): copy it again from where it was written",
            path.display()
        ),
    )
}
