//! Sessions: what a device holds after its login, a structured token under the relay's own secret.
//!
//! `version 1 ‖ LP issuer ‖ LP tenant ‖ LP audience ‖ LP device ‖ LP user ‖ LP certificate ‖ be64 expiry ‖ MAC`, where the
//! MAC is HKDF-Expand (one HMAC-SHA256) under the secret over everything before it. Every claim is checked on every call:
//! a token that is genuine but meant for another issuer, tenant or service is as refused as a forged one.

use std::time::Duration;

use greffe_envelope::label::{Prk, push_lp};
use greffe_types::{DeviceId, Digest, Millis, TenantId, UserId};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// How long a session lasts.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Who issues sessions, and for whom: this service.
pub const SERVICE: &str = "relay";
/// Metadata key that carries a session.
pub const METADATA: &str = "greffe-session-bin";

const VERSION: u8 = 1;
const MAC: usize = 32;
/// A session has 3 names, 2 ids and a user: well under this.
const MAX_TOKEN: usize = 1024;

/// A device that has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The device.
    pub device: DeviceId,
    /// Its user, as the certificate names them.
    pub user: UserId,
    /// SHA-256 of the certificate's statement bytes.
    pub certificate: Digest,
    /// First instant no longer valid.
    pub expiry: Millis,
}

/// Why a session was refused; the caller is unauthenticated, whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The call carries none.
    #[error("the call carries no session: log in first")]
    Missing,
    /// Not the form of a session.
    #[error("the session is malformed")]
    Malformed,
    /// Not made with this relay's secret.
    #[error("the session was not issued by this relay, or before its restart: log in again")]
    Forged,
    /// Issued by another service.
    #[error("the session was issued by another service")]
    Issuer,
    /// For another tenant.
    #[error("the session is for another tenant")]
    Tenant,
    /// For another service.
    #[error("the session is for another service")]
    Audience,
    /// Its time has run out.
    #[error("the session has expired: log in again")]
    Expired,
}

impl SessionError {
    /// Stable reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "SESSION_MISSING",
            Self::Malformed => "SESSION_MALFORMED",
            Self::Forged => "SESSION_FORGED",
            Self::Issuer => "SESSION_ISSUER",
            Self::Tenant => "SESSION_TENANT",
            Self::Audience => "SESSION_AUDIENCE",
            Self::Expired => "SESSION_EXPIRED",
        }
    }
}

/// Everything a token says.
#[derive(Clone)]
struct Claims<'a> {
    issuer: &'a str,
    tenant: &'a str,
    audience: &'a str,
    session: &'a Session,
}

/// Issues and checks sessions.
pub struct Sessions {
    tenant: TenantId,
    secret: Zeroizing<[u8; 32]>,
}

impl Sessions {
    /// With the relay's secret: 32 random bytes, shared by the replicas of one relay and known to nobody else.
    pub const fn new(tenant: TenantId, secret: Zeroizing<[u8; 32]>) -> Self {
        Self { tenant, secret }
    }

    /// Issues a session of [`LIFETIME`], or less when the certificate ends before.
    pub fn issue(
        &self,
        device: DeviceId,
        user: UserId,
        certificate: Digest,
        certificate_ends: Millis,
        now: Millis,
    ) -> (Vec<u8>, Session) {
        let session = Session {
            device,
            user,
            certificate,
            expiry: now.plus(LIFETIME).min(certificate_ends),
        };
        let token = self.seal(&Claims {
            issuer: SERVICE,
            tenant: self.tenant.as_str(),
            audience: SERVICE,
            session: &session,
        });
        (token, session)
    }

    /// Checks a session, every claim of it.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn check(&self, token: &[u8], now: Millis) -> Result<Session, SessionError> {
        if token.len() > MAX_TOKEN {
            return Err(SessionError::Malformed);
        }
        let Some((claims, mac)) = token.split_last_chunk::<MAC>() else {
            return Err(SessionError::Malformed);
        };
        // Nothing of the claims is looked at before the MAC holds.
        if !bool::from(self.mac(claims).as_slice().ct_eq(mac)) {
            return Err(SessionError::Forged);
        }
        let mut reader = Reader(claims);
        if reader.take(1)? != [VERSION] {
            return Err(SessionError::Malformed);
        }
        if reader.lp()? != SERVICE.as_bytes() {
            return Err(SessionError::Issuer);
        }
        if reader.lp()? != self.tenant.as_str().as_bytes() {
            return Err(SessionError::Tenant);
        }
        if reader.lp()? != SERVICE.as_bytes() {
            return Err(SessionError::Audience);
        }
        let session = reader.session().ok_or(SessionError::Malformed)?;
        if now >= session.expiry {
            return Err(SessionError::Expired);
        }
        Ok(session)
    }

    fn seal(&self, claims: &Claims<'_>) -> Vec<u8> {
        let mut token = vec![VERSION];
        push_lp(&mut token, claims.issuer.as_bytes());
        push_lp(&mut token, claims.tenant.as_bytes());
        push_lp(&mut token, claims.audience.as_bytes());
        push_lp(&mut token, claims.session.device.as_bytes());
        push_lp(&mut token, claims.session.user.as_str().as_bytes());
        push_lp(&mut token, claims.session.certificate.as_bytes());
        token.extend_from_slice(&claims.session.expiry.get().to_be_bytes());
        let mac = self.mac(&token);
        token.extend_from_slice(mac.as_slice());
        token
    }

    fn mac(&self, claims: &[u8]) -> Zeroizing<[u8; MAC]> {
        Prk::from_key(&self.secret).expand("relay-session", &[claims])
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({})", self.tenant)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], SessionError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(SessionError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn lp(&mut self) -> Result<&'a [u8], SessionError> {
        let length = self.take(4)?.try_into().map(u32::from_be_bytes);
        let length = length.ok().and_then(|length| usize::try_from(length).ok());
        self.take(length.ok_or(SessionError::Malformed)?)
    }

    /// What follows the names, to the end.
    fn session(&mut self) -> Option<Session> {
        let device = DeviceId::try_from(self.lp().ok()?).ok()?;
        let user = std::str::from_utf8(self.lp().ok()?).ok()?;
        let user = UserId::new(user).ok()?;
        let certificate = Digest::try_from(self.lp().ok()?).ok()?;
        let expiry = self.0.try_into().map(u64::from_be_bytes).ok()?;
        Some(Session {
            device,
            user,
            certificate,
            expiry: Millis::new(expiry),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis::new(1_000_000);
    const FAR: Millis = Millis::new(u64::MAX);

    fn sessions(secret: u8) -> Sessions {
        let tenant = TenantId::new("acme").unwrap();
        Sessions::new(tenant, Zeroizing::new([secret; 32]))
    }

    fn session(expiry: u64) -> Session {
        Session {
            device: DeviceId::new([1; 16]),
            user: UserId::new("alice").unwrap(),
            certificate: Digest::new([2; 32]),
            expiry: Millis::new(expiry),
        }
    }

    #[test]
    fn a_session_lasts_fifteen_minutes_or_as_long_as_the_certificate() {
        let relay = sessions(1);
        let wanted = session(0);
        let issue = |ends| {
            relay.issue(
                wanted.device,
                wanted.user.clone(),
                wanted.certificate,
                ends,
                NOW,
            )
        };
        let (token, issued) = issue(FAR);
        assert_eq!(issued.expiry, NOW.plus(LIFETIME));
        assert_eq!(relay.check(&token, NOW), Ok(issued.clone()));
        let last = Millis::new(issued.expiry.get() - 1);
        assert_eq!(relay.check(&token, last), Ok(issued.clone()));
        assert_eq!(
            relay.check(&token, issued.expiry),
            Err(SessionError::Expired)
        );
        let (_, short) = issue(Millis::new(NOW.get() + 5));
        assert_eq!(short.expiry.get(), NOW.get() + 5);
    }

    /// Every combination of right and wrong issuer, tenant, audience, time and secret: one alone passes.
    #[test]
    fn attack_17_a_token_of_the_wrong_issuer_tenant_or_audience_is_unauthenticated() {
        let relay = sessions(1);
        let mut passed = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for secret in [1, 2] {
            for issuer in ["relay", "archive", "", "Relay"] {
                for tenant in ["acme", "other", "", "acme-"] {
                    for audience in ["relay", "archive", "", "relay "] {
                        for expiry in [NOW.get() + 1, NOW.get()] {
                            let token = sessions(secret).seal(&Claims {
                                issuer,
                                tenant,
                                audience,
                                session: &session(expiry),
                            });
                            match relay.check(&token, NOW) {
                                Ok(_) => passed.push((secret, issuer, tenant, audience, expiry)),
                                Err(why) => _ = seen.insert(why.to_string()),
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(passed, [(1, "relay", "acme", "relay", NOW.get() + 1)]);
        assert_eq!(seen.len(), 5, "each claim has its own refusal: {seen:?}");
    }

    #[test]
    fn attack_17_a_token_with_any_byte_changed_cut_or_added_is_unauthenticated() {
        let relay = sessions(1);
        let issued = session(0);
        let (token, _) = relay.issue(issued.device, issued.user, issued.certificate, FAR, NOW);
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut changed = token.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(relay.check(&changed, NOW), Err(SessionError::Forged));
            }
            assert!(relay.check(&token[..at], NOW).is_err());
        }
        let mut longer = token;
        longer.push(0);
        assert_eq!(relay.check(&longer, NOW), Err(SessionError::Forged));
        assert_eq!(
            relay.check(&vec![0; 4096], NOW),
            Err(SessionError::Malformed)
        );
        assert_eq!(relay.check(&[], NOW), Err(SessionError::Malformed));
    }

    /// Bytes may not move from one field into its neighbour.
    #[test]
    fn fields_are_delimited() {
        let relay = sessions(1);
        let session = session(u64::MAX);
        let seal = |issuer, tenant| {
            relay.seal(&Claims {
                issuer,
                tenant,
                audience: SERVICE,
                session: &session,
            })
        };
        assert_ne!(seal("relay", "acme"), seal("relaya", "cme"));
        assert_eq!(
            relay.check(&seal("relaya", "cme"), NOW),
            Err(SessionError::Issuer)
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", sessions(7)), "Sessions(acme)");
    }
}
