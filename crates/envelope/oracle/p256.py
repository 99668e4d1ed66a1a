"""P-256 in plain integers: strict SEC1 encodings, arithmetic, hashing to the curve (RFC 9380). Not constant-time."""

import hashlib

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
Q = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
A = P - 3
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
# A point is a pair (x, y); the identity is None.


def on_curve(point):
    x, y = point
    return 0 <= x < P and 0 <= y < P and (y * y - (x * x * x + A * x + B)) % P == 0


assert on_curve(G)


def double_jacobian(point):
    x, y, z = point
    if z == 0 or y == 0:
        return (1, 1, 0)
    zz = z * z % P
    yy = y * y % P
    s = 4 * x * yy % P
    m = 3 * (x - zz) * (x + zz) % P
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P


def add_jacobian(one, two):
    x1, y1, z1 = one
    x2, y2, z2 = two
    if z1 == 0:
        return two
    if z2 == 0:
        return one
    z1z1, z2z2 = z1 * z1 % P, z2 * z2 % P
    u1, u2 = x1 * z2z2 % P, x2 * z1z1 % P
    s1, s2 = y1 * z2 * z2z2 % P, y2 * z1 * z1z1 % P
    if u1 == u2:
        return double_jacobian(one) if s1 == s2 else (1, 1, 0)
    h, r = (u2 - u1) % P, (s2 - s1) % P
    hh = h * h % P
    hhh = h * hh % P
    v = u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - s1 * hhh) % P, h * z1 * z2 % P


def to_jacobian(point):
    return (1, 1, 0) if point is None else (point[0], point[1], 1)


def to_affine(point):
    x, y, z = point
    if z == 0:
        return None
    inverse = pow(z, -1, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P


def add(one, two):
    return to_affine(add_jacobian(to_jacobian(one), to_jacobian(two)))


def neg(point):
    return None if point is None else (point[0], -point[1] % P)


def mul(k, point):
    out, step = (1, 1, 0), to_jacobian(point)
    for bit in bin(k % Q)[2:]:
        out = double_jacobian(out)
        if bit == "1":
            out = add_jacobian(out, step)
    return to_affine(out)


def sqrt(square):
    root = pow(square, (P + 1) // 4, P)
    return root if root * root % P == square % P else None


def compress(point):
    """SEC1 2.3.3, 33 bytes; the identity has none."""
    if point is None:
        raise ValueError("the identity has no encoding")
    return bytes([2 + (point[1] & 1)]) + point[0].to_bytes(32, "big")


def uncompressed(point):
    """SEC1 2.3.3, 65 bytes; the identity has none."""
    if point is None:
        raise ValueError("the identity has no encoding")
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def from_compressed(data):
    if len(data) != 33 or data[0] not in (2, 3):
        raise ValueError("not a compressed point")
    x = int.from_bytes(data[1:], "big")
    if x >= P:
        raise ValueError("a coordinate that is not reduced")
    y = sqrt(x * x * x + A * x + B)
    if y is None:
        raise ValueError("not on the curve")
    return (x, y) if y & 1 == data[0] & 1 else (x, P - y)


def from_uncompressed(data):
    if len(data) != 65 or data[0] != 4:
        raise ValueError("not an uncompressed point")
    point = int.from_bytes(data[1:33], "big"), int.from_bytes(data[33:], "big")
    if not on_curve(point):
        raise ValueError("not on the curve")
    return point


def scalar(data, zero=False):
    """32 bytes, big-endian, below q; zero only where it is allowed."""
    value = int.from_bytes(data, "big")
    if len(data) != 32 or value >= Q or (value == 0 and not zero):
        raise ValueError("not a canonical scalar")
    return value


def reduce(data):
    """Bytes modulo q; a zero result fails."""
    value = int.from_bytes(data, "big") % Q
    if value == 0:
        raise ValueError("a zero scalar")
    return value


def weights(indices, target=0):
    """Lagrange coefficients that take the values at the indices to the value at the target."""
    out = []
    for i in indices:
        up = down = 1
        for j in indices:
            if j != i:
                up = up * (target - j) % Q
                down = down * (i - j) % Q
        out.append(up * pow(down, -1, Q) % Q)
    return out


def combine(terms):
    out = None
    for k, point in terms:
        out = add(out, mul(k, point))
    return out


def expand_message_xmd(message, dst, length):
    """RFC 9380 5.3.1 with SHA-256."""
    if not 0 < len(dst) < 256:
        raise ValueError("a tag of 1 to 255 bytes")
    dst = dst + bytes([len(dst)])
    first = hashlib.sha256(bytes(64) + message + length.to_bytes(2, "big") + b"\0" + dst).digest()
    block = hashlib.sha256(first + b"\1" + dst).digest()
    out = block
    for i in range(2, -(-length // 32) + 1):
        mixed = bytes(a ^ b for a, b in zip(first, block))
        block = hashlib.sha256(mixed + bytes([i]) + dst).digest()
        out += block
    return out[:length]


def sswu(u):
    """RFC 9380 6.6.2, Z = -10."""
    z = P - 10
    tv = (z * z * pow(u, 4, P) + z * u * u) % P
    if tv == 0:
        x = B * pow(z * A, -1, P) % P
    else:
        x = -B * pow(A, -1, P) * (1 + pow(tv, -1, P)) % P
    y = sqrt(x * x * x + A * x + B)
    if y is None:
        x = z * u * u * x % P
        y = sqrt(x * x * x + A * x + B)
    return (x, y) if y & 1 == u & 1 else (x, P - y)


def hash_to_curve(dst, message):
    """P256_XMD:SHA-256_SSWU_RO_."""
    uniform = expand_message_xmd(message, dst, 96)
    one, two = (int.from_bytes(uniform[i : i + 48], "big") % P for i in (0, 48))
    return add(sswu(one), sswu(two))
