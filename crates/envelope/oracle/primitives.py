"""Labels, labelled hashes, HKDF, padding, STREAM, RFC 6962 trees."""

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK = 64 * 1024


def be(value, size):
    return value.to_bytes(size, "big")


def lp(data):
    return be(len(data), 4) + data


def label(word):
    return lp(b"greffe/v1/" + word.encode())


def sha256(data):
    return hashlib.sha256(data).digest()


def hashed(word, *parts):
    return sha256(label(word) + b"".join(parts))


def hkdf_extract(salt, ikm):
    return hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()


def hkdf_expand(prk, info, length):
    out = block = b""
    counter = 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:length]


def expand(prk, word, *parts, length=32):
    return hkdf_expand(prk, label(word) + b"".join(parts), length)


def padme(length):
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    low = exponent - exponent.bit_length()
    mask = (1 << low) - 1
    return (length + mask) & ~mask


def pad(data):
    total = padme(8 + len(data))
    return be(len(data), 8) + data + bytes(total - 8 - len(data))


def stream_chunks(length):
    """Bounds and nonce of every chunk of a plaintext."""
    count = max(1, -(-length // CHUNK))
    for i in range(count):
        yield i * CHUNK, min(length, (i + 1) * CHUNK), bytes(7) + be(i, 4) + bytes([i == count - 1])


def stream_seal(key, plain):
    aead = AESGCM(key)
    return b"".join(aead.encrypt(nonce, plain[start:end], None) for start, end, nonce in stream_chunks(len(plain)))


def stream_open(key, ciphertext):
    aead = AESGCM(key)
    count = -(-len(ciphertext) // (CHUNK + 16))
    out = b""
    for start, end, nonce in stream_chunks(len(ciphertext) - 16 * count):
        at = start // CHUNK * (CHUNK + 16)
        out += aead.decrypt(nonce, ciphertext[at : at + end - start + 16], None)
    return out


def leaf(data):
    return sha256(b"\0" + data)


def tree(digests):
    """RFC 6962 2.1."""
    if len(digests) == 1:
        return leaf(digests[0])
    at = 1 << ((len(digests) - 1).bit_length() - 1)
    return sha256(b"\1" + tree(digests[:at]) + tree(digests[at:]))


def path(digests, index):
    """RFC 6962 2.1.1, lowest neighbour first."""
    if len(digests) == 1:
        return []
    at = 1 << ((len(digests) - 1).bit_length() - 1)
    if index < at:
        return path(digests[:at], index) + [tree(digests[at:])]
    return path(digests[at:], index - at) + [tree(digests[:at])]
