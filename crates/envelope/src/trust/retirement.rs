//! The end of a journaling key: the root says so, and the archive that nothing is left to be opened with it.

use super::receipt::signed_by_archive;
use super::{Bundle, RootKey, TrustError, require};
use crate::pb;
use crate::statement::Signed;
use greffe_types::Millis;

/// Verifies the retirement of a key: signed by the root, with the word of an archive, given after the key's period, that it holds
/// no wrap of it. Neither can end a key alone. The archive's key may be of an older bundle, so several may be given, each verified
/// by the caller.
///
/// # Errors
/// [`TrustError`].
pub fn verify_key_retirement(
    retirement: &Signed<pb::KeyRetirement>,
    record: &Signed<pb::KeyRecord>,
    root: &RootKey,
    bundles: &[&Bundle],
) -> Result<(), TrustError> {
    root.verify(retirement)?;
    let unused = verify_key_unused(
        retirement.unused.clone().unwrap_or_default(),
        record,
        bundles,
    )?;
    if retirement.tenant != record.tenant
        || retirement.key_id != record.key_id
        || retirement.key_record != record.digest().as_bytes()
    {
        return Err(TrustError::Mismatch("journaling key"));
    }
    require(retirement.at > 0 && unused.at > 0, "at")
}

/// Verifies the archive's word that it holds no wrap of a key, and gives it.
///
/// # Errors
/// [`TrustError`].
pub fn verify_key_unused(
    raw: pb::SignedStatement,
    record: &Signed<pb::KeyRecord>,
    bundles: &[&Bundle],
) -> Result<Signed<pb::KeyUnused>, TrustError> {
    let unused = Signed::<pb::KeyUnused>::decode(raw)?;
    let at = Millis::new(unused.at);
    let mut signed = Err(TrustError::Unknown("receipt key", String::new()));
    for bundle in bundles {
        signed = signed_by_archive(&unused, &unused.tenant, at, bundle);
        if signed.is_ok() {
            break;
        }
    }
    signed?;
    if unused.tenant != record.tenant
        || unused.key_id != record.key_id
        || unused.key_record != record.digest().as_bytes()
    {
        return Err(TrustError::Mismatch("journaling key"));
    }
    // Before, more could have been sealed to it.
    if unused.at < record.not_after {
        return Err(TrustError::Period {
            what: "end of the journaling key",
            at,
        });
    }
    Ok(unused)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{World, signer};
    use super::super::{Applied, ROOT, TrustState};
    use super::*;

    const END: u64 = 2_000_000;

    /// The bundle of a later day, when the archive's key signs still.
    fn bundle(world: &World) -> Bundle {
        let mut message = world.bundle.message().clone();
        message.receipt_keys[0].not_after = 2 * END;
        Bundle::verify(
            Signed::sign(message, &[(ROOT, &world.root_key)]),
            &world.root,
        )
        .unwrap()
    }

    fn unused(world: &World, at: u64) -> pb::KeyUnused {
        pb::KeyUnused {
            tenant: "acme".into(),
            key_id: world.record.key_id.clone(),
            key_record: world.record.digest().to_vec(),
            at,
        }
    }

    fn retirement(world: &World, unused: pb::SignedStatement) -> Signed<pb::KeyRetirement> {
        let retirement = pb::KeyRetirement {
            tenant: "acme".into(),
            key_id: world.record.key_id.clone(),
            key_record: world.record.digest().to_vec(),
            at: END + 1,
            unused: Some(unused),
        };
        Signed::sign(retirement, &[(ROOT, &world.root_key)])
    }

    #[test]
    fn neither_root_nor_archive_retires_a_key_alone_nor_before_its_end() {
        let world = World::new();
        let later = bundle(&world);
        let bundles = [&later];
        let verify = |retirement: &Signed<pb::KeyRetirement>| {
            verify_key_retirement(retirement, &world.record, &world.root, &bundles)
        };
        let by_archive = |unused: pb::KeyUnused| {
            Signed::sign(unused, &[("archive", &world.receipts)]).into_raw()
        };
        let good = retirement(&world, by_archive(unused(&world, END)));
        verify(&good).unwrap();
        let others = [
            Signed::sign(unused(&world, END), &[("archive", &signer(77))]).into_raw(),
            Signed::sign(unused(&world, END), &[]).into_raw(),
            by_archive(unused(&world, END - 1)),
            by_archive(pb::KeyUnused {
                key_record: vec![1; 32],
                ..unused(&world, END)
            }),
            by_archive(pb::KeyUnused {
                key_id: vec![1; 32],
                ..unused(&world, END)
            }),
            pb::SignedStatement::default(),
        ];
        for (at, other) in others.into_iter().enumerate() {
            assert!(verify(&retirement(&world, other)).is_err(), "case {at}");
        }
        let forged = Signed::sign(good.message().clone(), &[(ROOT, &signer(77))]);
        assert!(verify(&forged).is_err());
        let mut other = good.message().clone();
        other.key_record = vec![1; 32];
        assert!(verify(&Signed::sign(other, &[(ROOT, &world.root_key)])).is_err());
    }

    #[test]
    fn a_retired_key_is_disclosed_and_shared_no_more() {
        let world = World::new();
        let first = bundle(&world).signed().raw().clone();
        let mut state = TrustState::new(world.root.clone(), first).unwrap();
        let said = Signed::sign(unused(&world, END), &[("archive", &world.receipts)]);
        let retired = retirement(&world, said.raw().clone());
        assert!(matches!(
            state.apply(retired.raw(), 1),
            Err(TrustError::Unknown(..))
        ));
        state.apply(world.record.raw(), 1).unwrap();
        let mut told = state.clone();
        told.apply(world.disclosure.raw(), 2).unwrap();
        assert!(matches!(
            told.apply(retired.raw(), 3),
            Err(TrustError::InUse(_))
        ));
        assert_eq!(state.apply(retired.raw(), 2).unwrap(), Applied::New);
        assert_eq!(state.apply(retired.raw(), 9).unwrap(), Applied::Known);
        assert!(state.retirement(state.key_ids().next().unwrap()).is_some());
        assert!(matches!(
            state.apply(world.disclosure.raw(), 3),
            Err(TrustError::Retired(_))
        ));
        let mut again = retired.message().clone();
        again.at += 1;
        let again = Signed::sign(again, &[(ROOT, &world.root_key)]);
        assert!(matches!(
            state.apply(again.raw(), 4),
            Err(TrustError::Retired(_))
        ));
    }
}
