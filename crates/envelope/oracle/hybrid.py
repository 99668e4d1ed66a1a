"""HPKE base mode (RFC 9180) with MLKEM768-P256 (KEM 0x0050), HKDF-SHA256 and AES-256-GCM."""

import hashlib

import p256
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kyber_py.ml_kem import ML_KEM_768
from primitives import hkdf_expand, hkdf_extract

LABEL = b"MLKEM768-P256"
SUITE = b"HPKE" + bytes([0x00, 0x50, 0x00, 0x01, 0x00, 0x02])


def kem_keys(seed):
    """ML-KEM-768 key pair of a 64-byte seed (FIPS 203, d || z): encapsulation key, decapsulation key."""
    return ML_KEM_768.key_derive(seed)


def decapsulate(dk, ciphertext):
    return ML_KEM_768.decaps(dk, ciphertext)


def reject(dk, enc):
    """What an ML-KEM ciphertext with its first bit changed gives: FIPS 203 6.3, implicit rejection."""
    return decapsulate(dk, bytes([enc[0] ^ 1]) + enc[1:1088])


def encapsulate(ek, randomness):
    """FIPS 203 algorithm 17: shared secret and ciphertext of 32 bytes of randomness."""
    secret, ciphertext = ML_KEM_768._encaps_internal(ek, randomness)
    return secret, ciphertext


def first_scalar(data):
    """The first 32-byte window above zero and below q."""
    for at in range(0, len(data), 32):
        value = int.from_bytes(data[at : at + 32], "big")
        if 0 < value < p256.Q:
            return value
    raise ValueError("no window is a scalar")


def key_of_seed(seed):
    """A private key of 32 bytes (draft-irtf-cfrg-concrete-hybrid-kems 4.1): decapsulation key, scalar, public key."""
    full = hashlib.shake_256(seed).digest(64 + 128)
    ek, dk = kem_keys(full[:64])
    scalar = first_scalar(full[64:])
    return dk, scalar, ek + p256.uncompressed(p256.mul(scalar, p256.G))


def combine(ss_mlkem, point, e, pk):
    """The KEM's shared secret from both halves; e and pk are uncompressed points."""
    x = point[0].to_bytes(32, "big")
    return hashlib.sha3_256(ss_mlkem + x + e + pk + LABEL).digest()


def encap(public_key, randomness):
    """Shared secret and encapsulation: 32 bytes of randomness for ML-KEM, then windows of 32 for P-256."""
    ss, ciphertext = encapsulate(public_key[:1184], randomness[:32])
    r = first_scalar(randomness[32:])
    e = p256.uncompressed(p256.mul(r, p256.G))
    point = p256.mul(r, p256.from_uncompressed(public_key[1184:]))
    return combine(ss, point, e, public_key[1184:]), ciphertext + e


def decap(dk, scalar, public_key, enc):
    ss = decapsulate(dk, enc[:1088])
    point = p256.mul(scalar, p256.from_uncompressed(enc[1088:]))
    return combine(ss, point, enc[1088:], public_key[1184:])


def labeled_extract(salt, label, ikm):
    return hkdf_extract(salt, b"HPKE-v1" + SUITE + label + ikm)


def labeled_expand(prk, label, info, length):
    return hkdf_expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + SUITE + label + info, length)


def schedule(secret, info):
    """RFC 9180 5.1, base mode, first message: AEAD and nonce."""
    context = b"\0" + labeled_extract(b"", b"psk_id_hash", b"") + labeled_extract(b"", b"info_hash", info)
    prk = labeled_extract(secret, b"secret", b"")
    return AESGCM(labeled_expand(prk, b"key", context, 32)), labeled_expand(prk, b"base_nonce", context, 12)


def seal(secret, info, aad, plain):
    aead, nonce = schedule(secret, info)
    return aead.encrypt(nonce, plain, aad)


def unseal(secret, info, aad, ciphertext):
    aead, nonce = schedule(secret, info)
    return aead.decrypt(nonce, ciphertext, aad)
