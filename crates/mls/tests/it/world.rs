//! A tenant root that signs disclosures, devices with certificates, and a database that can fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffe_envelope::pb;
use greffe_mls::{
    Client, Conversation, Device, DisclosureError, DisclosureInfo, DisclosureVerifier, Event,
    Handshake, KeyPackageKind, MlsError, Mode, Observer, PresentedDevices, Refusal, Row, RowKey,
    SigningKey, StateChange, Table, Trust,
};
use greffe_types::{ConversationId, DeviceId, Digest, Millis, TenantId};
use mls_rs::{CipherSuite, CipherSuiteProvider, CryptoProvider};
use mls_rs_core::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs_crypto_awslc::{AwsLcCipherSuite, AwsLcCryptoProvider};
use prost::Message;
use zeroize::Zeroizing;

pub(crate) const NOW: Millis = Millis::new(1_790_000_000_000);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn suite() -> AwsLcCipherSuite {
    AwsLcCryptoProvider::new()
        .cipher_suite_provider(CipherSuite::CURVE25519_AES128)
        .unwrap()
}

/// Signs disclosures; verifies them for everybody; says which serial is current.
pub(crate) struct Root {
    key: SigningKey,
    minimum: Mutex<u64>,
}

impl Root {
    pub(crate) fn disclosure(
        &self,
        mode: Mode,
        serial: u64,
        tenants: &[&str],
        policy: u8,
    ) -> Vec<u8> {
        let statement = pb::Disclosure {
            tenants: tenants.iter().map(|t| (*t).to_owned()).collect(),
            mode: mode.into(),
            policy_id: "us-broker-dealer".to_owned(),
            policy_digest: vec![policy; 32],
            serial,
            ..Default::default()
        }
        .encode_to_vec();
        let secret = SignatureSecretKey::new_slice(&self.key.to_bytes());
        let signature = suite().sign(&secret, &statement).unwrap();
        pb::SignedStatement {
            r#type: "disclosure".to_owned(),
            statement,
            signatures: vec![pb::Signature {
                signer: "root".to_owned(),
                algorithm: 1,
                signature,
            }],
        }
        .encode_to_vec()
    }

    /// From now on, joiners want at least this serial.
    pub(crate) fn require(&self, serial: u64) {
        *self.minimum.lock().unwrap() = serial;
    }
}

impl DisclosureVerifier for Root {
    fn verify(&self, extension: &[u8]) -> Result<DisclosureInfo, DisclosureError> {
        let bad = |what: &str| DisclosureError::new(what);
        let signed = pb::SignedStatement::decode(extension).map_err(|_| bad("decode"))?;
        if signed.encode_to_vec() != extension || signed.signatures.len() != 1 {
            return Err(bad("form"));
        }
        let key = SignaturePublicKey::new_slice(&self.key.public());
        suite()
            .verify(&key, &signed.signatures[0].signature, &signed.statement)
            .map_err(|_| bad("signature"))?;
        let disclosure =
            pb::Disclosure::decode(&signed.statement[..]).map_err(|_| bad("statement"))?;
        let digest: [u8; 32] = suite().hash(&signed.statement).unwrap().try_into().unwrap();
        Ok(DisclosureInfo {
            mode: disclosure.mode(),
            serial: disclosure.serial,
            tenants: disclosure
                .tenants
                .iter()
                .map(|t| TenantId::new(t).unwrap())
                .collect(),
            digest: Digest::new(digest),
            key_ids: Vec::new(),
            policy_digest: Digest::try_from(&disclosure.policy_digest[..])
                .map_err(|_| bad("policy"))?,
            standing_order: None,
        })
    }

    fn verify_current(&self, info: &DisclosureInfo) -> Result<(), DisclosureError> {
        if info.serial < *self.minimum.lock().unwrap() {
            return Err(DisclosureError::new("not current"));
        }
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) root: Arc<Root>,
    pub(crate) devices: Arc<PresentedDevices>,
    pub(crate) trust: Trust,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = Arc::new(Root {
            key: SigningKey::generate().unwrap(),
            minimum: Mutex::new(0),
        });
        let devices = Arc::new(PresentedDevices::new());
        let trust = Trust {
            disclosures: root.clone(),
            devices: devices.clone(),
        };
        Self {
            root,
            devices,
            trust,
        }
    }

    /// A journaled disclosure of the tenant "acme".
    pub(crate) fn disclosure(&self, serial: u64) -> Vec<u8> {
        self.root.disclosure(Mode::Journaled, serial, &["acme"], 1)
    }

    /// A device with a presented certificate.
    pub(crate) fn device(&self, number: u8) -> Peer {
        let key = SigningKey::generate().unwrap();
        let device = self.certify(number, &key);
        let client = Client::new(
            device.device,
            device.certificate,
            key.clone(),
            self.trust.clone(),
        )
        .unwrap();
        Peer {
            client,
            key,
            device,
            database: Database::default(),
        }
    }

    pub(crate) fn certify(&self, number: u8, key: &SigningKey) -> Device {
        let device = device("acme", number, key);
        self.devices.present(device.clone());
        device
    }

    /// A conversation of these devices, the first one having created it.
    pub(crate) fn conversation(&self, peers: &mut [Peer]) -> Vec<Conversation> {
        let (first, others) = peers.split_first_mut().unwrap();
        let (mut conversation, change) = first
            .client
            .create(ID, &self.disclosure(1), first.database.disclosures(), NOW)
            .unwrap();
        first.database.write(&change);
        conversation.persisted();
        let packages: Vec<_> = others.iter_mut().map(|p| p.key_package().bytes).collect();
        let (handshake, change) = conversation.add(&packages, NOW).unwrap();
        first.database.write(&change);
        let (_, change) = conversation.apply_pending().unwrap();
        first.database.write(&change);
        conversation.persisted();
        let mut all = vec![conversation];
        for peer in others {
            all.push(peer.join(handshake.welcome.as_ref().unwrap()).unwrap());
        }
        all
    }
}

pub(crate) fn device(tenant: &str, number: u8, key: &SigningKey) -> Device {
    let mut certificate = key.public();
    certificate[0] ^= 0xff;
    Device {
        tenant: TenantId::new(tenant).unwrap(),
        device: DeviceId::new([number; 16]),
        certificate: Digest::new(certificate),
        mls_key: key.public(),
    }
}

pub(crate) const ID: ConversationId = ConversationId::new([0xc0; 16]);

/// A device and its database.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) key: SigningKey,
    pub(crate) device: Device,
    pub(crate) database: Database,
}

impl Peer {
    pub(crate) fn key_package(&mut self) -> greffe_mls::KeyPackage {
        let (mut packages, change) = self
            .client
            .key_packages(1, KeyPackageKind::Once, NOW, DAY)
            .unwrap();
        self.database.write(&change);
        packages.remove(0)
    }

    pub(crate) fn join(&mut self, welcome: &[u8]) -> Result<Conversation, MlsError> {
        let keys = self.client.welcome_rows(welcome)?;
        let mut rows = self.database.rows(&keys);
        rows.extend(self.database.disclosures());
        let (mut conversation, change) = self.client.join(welcome, rows)?;
        self.database.write(&change);
        conversation.persisted();
        Ok(conversation)
    }

    pub(crate) fn load(&self, id: ConversationId) -> Result<Conversation, MlsError> {
        let mut rows = self.database.rows(&RowKey::of_conversation(id));
        rows.extend(self.database.disclosures());
        self.client.load(id, rows)
    }
}

/// What a caller's database does with changes.
#[derive(Default, Clone)]
pub(crate) struct Database(BTreeMap<RowKey, Vec<u8>>);

impl Database {
    pub(crate) fn write(&mut self, change: &StateChange) {
        for (key, value) in change.rows() {
            match value {
                Some(value) => self.0.insert(key.clone(), value.to_vec()),
                None => self.0.remove(key),
            };
        }
    }

    pub(crate) fn rows(&self, keys: &[RowKey]) -> Vec<Row> {
        let found = keys.iter().filter_map(|key| Some((key, self.0.get(key)?)));
        found.map(|(key, value)| row(key, value)).collect()
    }

    pub(crate) fn disclosures(&self) -> Vec<Row> {
        let all = self.0.iter();
        all.filter(|(key, _)| key.table == Table::Disclosure)
            .map(|(key, value)| row(key, value))
            .collect()
    }

    pub(crate) fn count(&self, table: Table) -> usize {
        self.0.keys().filter(|key| key.table == table).count()
    }
}

fn row(key: &RowKey, value: &[u8]) -> Row {
    Row {
        key: key.clone(),
        value: Zeroizing::new(value.to_vec()),
    }
}

/// Hands a message to a conversation and demands that it is refused with a code.
pub(crate) fn refused(conversation: &mut Conversation, message: &[u8]) -> Refusal {
    let epoch = conversation.epoch();
    let authenticator = conversation.epoch_authenticator().unwrap();
    let (event, _) = conversation.receive(message).unwrap();
    let Event::Refused(refusal) = event else {
        panic!("accepted: {event:?}");
    };
    assert_eq!(conversation.epoch(), epoch);
    assert_eq!(conversation.epoch_authenticator().unwrap(), authenticator);
    refusal
}

/// The commit takes effect at its maker and at the others, who all see the same.
pub(crate) fn settle(
    from: &mut Conversation,
    others: &mut [&mut Conversation],
    handshake: &Handshake,
) {
    let (made, _) = from.apply_pending().unwrap();
    from.persisted();
    for other in others {
        let (event, _) = other.receive(&handshake.commit).unwrap();
        let Event::Commit(seen) = event else {
            panic!("not accepted: {event:?}");
        };
        other.persisted();
        assert_eq!(seen.epoch, made.epoch);
        assert_eq!(
            other.epoch_authenticator().unwrap(),
            from.epoch_authenticator().unwrap()
        );
    }
}

/// A message from one arrives at another.
pub(crate) fn talk(from: &mut Conversation, to: &mut Conversation, byte: u8) {
    let envelope = Digest::new([byte; 32]);
    let (message, _) = from.seal(&[byte; 32], &envelope).unwrap();
    from.persisted();
    let (event, _) = to.receive(&message).unwrap();
    to.persisted();
    let Event::Application(application) = event else {
        panic!("not accepted: {event:?}");
    };
    assert_eq!(*application.seed, [byte; 32]);
    assert_eq!(application.envelope, envelope);
    assert_eq!(application.sender, from.me().unwrap());
    assert_eq!(application.epoch, from.epoch());
}

pub(crate) fn observe(world: &World, conversation: &Conversation) -> Observer {
    Observer::start(world.trust.clone(), &conversation.group_info().unwrap()).unwrap()
}

/// The refusal in an error.
pub(crate) fn refusal(error: MlsError) -> Refusal {
    match error {
        MlsError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}
