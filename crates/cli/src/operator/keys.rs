//! Key files of people: 64 hexadecimal digits that the owner alone may read, and the public line beside each.

use std::path::Path;

use ed25519_dalek::SigningKey;
use greffe_client::secrets::read_secret;
use greffe_envelope::trust::RootKey;
use greffe_types::{TenantId, from_hex, to_hex};
use zeroize::Zeroizing;

use super::Authority;
use crate::fail::{Failure, Result, chain};
use crate::layout::{private_folder, read_text, write, write_secret};

/// The tenant root's key: offline.
pub(crate) const ROOT_KEY: &str = "root.key";
/// The root that follows: committed to, and kept elsewhere.
pub(crate) const NEXT_ROOT_KEY: &str = "next-root.key";
/// The device issuer's key.
pub(crate) const ISSUER_KEY: &str = "issuer.key";
/// What clients, nodes and services pin.
pub(crate) const ROOT_PUBLIC: &str = "root.pub";
/// What a trust bundle commits to.
pub(crate) const NEXT_ROOT_PUBLIC: &str = "next-root.pub";
/// What a trust bundle names.
pub(crate) const ISSUER_PUBLIC: &str = "issuer.pub";

/// Makes `root.key` and `next-root.key` in a folder, with their public lines.
pub(crate) fn make_root(folder: &Path, tenant: &TenantId) -> Result<[RootKey; 2]> {
    let make = |secret: &str, public: &str| {
        let key = new_key(&folder.join(secret))?;
        let root = RootKey::new(tenant.clone(), &key.verifying_key().to_bytes());
        let root =
            root.map_err(|e| Failure::because("ROOT_KEY", "the root key cannot be used", &e))?;
        write(&folder.join(public), format!("{root}\n").as_bytes())?;
        Ok::<_, Failure>(root)
    };
    private_folder(folder)?;
    Ok([
        make(ROOT_KEY, ROOT_PUBLIC)?,
        make(NEXT_ROOT_KEY, NEXT_ROOT_PUBLIC)?,
    ])
}

/// Makes `issuer.key` in a folder, with its public line.
pub(crate) fn make_issuer(folder: &Path, tenant: &TenantId) -> Result<[u8; 32]> {
    private_folder(folder)?;
    let public = new_key(&folder.join(ISSUER_KEY))?
        .verifying_key()
        .to_bytes();
    let line = format!("{}\n", public_line("issuer", tenant, &public));
    write(&folder.join(ISSUER_PUBLIC), line.as_bytes())?;
    Ok(public)
}

/// Makes a TLS authority in a folder, for a tenant that has none of its own.
pub(crate) fn make_authority(folder: &Path, tenant: &TenantId) -> Result<Authority> {
    private_folder(folder)?;
    Authority::create(folder, &format!("TLS authority of {tenant}"))
}

/// A public key as a file has it: `greffe-KIND-v1 TENANT HEX`, as [`RootKey`] does for the root.
fn public_line(kind: &str, tenant: &TenantId, key: &[u8; 32]) -> String {
    format!("greffe-{kind}-v1 {tenant} {}", to_hex(key))
}

/// Reads such a file, which has to be of that tenant.
pub(crate) fn read_public(path: &Path, kind: &str, tenant: &TenantId) -> Result<[u8; 32]> {
    let text = read_text(path)?;
    let wrong = |why: &str| {
        Failure::usage(
            "PUBLIC_KEY_FILE",
            format_args!(
                "{} {why}: it has to be one line, greffe-{kind}-v1 {tenant} and 64 hexadecimal digits",
                path.display()
            ),
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [magic, of, key] = words.as_slice() else {
        return Err(wrong("is no public key file"));
    };
    if *magic != format!("greffe-{kind}-v1") {
        return Err(wrong("is another kind of key"));
    }
    if *of != tenant.as_str() {
        return Err(Failure::refused(
            "WRONG_TENANT",
            format_args!(
                "{} is of tenant {of}, not of {tenant}: name that tenant's file",
                path.display()
            ),
        ));
    }
    from_hex(key).map_err(|_| wrong("is no public key file"))
}

/// Reads a root's public line.
pub(crate) fn read_root(path: &Path) -> Result<RootKey> {
    RootKey::parse(&read_text(path)?).map_err(|error| {
        Failure::usage(
            "ROOT_KEY",
            format_args!(
                "{} is no root's public key ({}): it has to be one line, greffe-root-v1 TENANT HEX",
                path.display(),
                chain(&error)
            ),
        )
    })
}

/// Makes an Ed25519 key and its file: 64 hexadecimal digits, readable by the owner alone.
pub(crate) fn new_key(path: &Path) -> Result<SigningKey> {
    let seed = random::<32>()?;
    write_secret(
        path,
        Zeroizing::new(format!("{}\n", to_hex(&*seed))).as_bytes(),
    )?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Reads such a file; one that others may read is refused, since it may be theirs by now.
pub(crate) fn read_key(path: &Path) -> Result<SigningKey> {
    Ok(SigningKey::from_bytes(&*read_secret(path)?))
}

/// Fresh bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut()).map_err(|error| {
        Failure::failed(
            "NO_RANDOMNESS",
            format_args!("the system gave no randomness: {error}"),
        )
    })?;
    Ok(bytes)
}
