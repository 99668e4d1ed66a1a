"""What each vector has to be, recomputed from its inputs alone."""

import hashlib

import ceremonies
import contents
import ed25519
import hybrid
import p256
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from primitives import (
    be, expand, hashed, hkdf_extract, label, leaf, lp, pad, padme, path, sha256, stream_open, stream_seal, tree,
)

H = bytes.fromhex


class Failed(Exception):
    """A vector is not what it has to be."""


class Checker:
    """Counts what held; raises at what did not."""

    def __init__(self, schema):
        self.schema, self.count = schema, 0

    def holds(self, what, condition):
        if not condition:
            raise Failed(what)
        self.count += 1

    def same(self, what, found, expected):
        if isinstance(expected, bytes):
            expected = expected.hex()
        self.holds(f"{what}: {found!r} instead of {expected!r}", found == expected)

    # derive.json

    def derive(self, v):
        core = hashed("core", lp(v["tenant"].encode()), H(v["conversation"]), H(v["message"]), H(v["device"]))
        self.same("core", v["core"], core)
        prk = hkdf_extract(b"greffe/v1/seed", H(v["seed"]))
        self.same("prk", v["prk"], prk)
        cek = expand(prk, "cek", core)
        self.same("cek", v["cek"], cek)
        self.same("seed commitment", v["seed_commitment"], expand(prk, "seed-commit", core))
        for a in v["attachments"]:
            digest = sha256(pad(H(a["data"])))
            self.same("padded digest", a["padded_digest"], digest)
            self.same("attachment key", a["key"], expand(cek, "attachment", core, be(a["index"], 4), digest))
        hd = hashed("header", H(v["header"]))
        self.same("hd", v["hd"], hd)
        both = expand(cek, "content", hd, length=64)
        self.same("content key", v["content_key"], both[:32])
        self.same("commitment", v["commitment"], both[32:])
        self.same("key id", v["key_id"], hashed("key-id", lp(v["tenant"].encode()), H(v["public_key"])))

    def padding(self, v):
        if "data" in v:
            self.same("padded", v["padded"], pad(H(v["data"])))
        else:
            self.same("padded length", v["padded_length"], padme(8 + v["length"]))

    def stream(self, v):
        plain = bytes((7 * i + 3) % 256 for i in range(v["length"]))
        ciphertext = stream_seal(H(v["key"]), plain)
        self.same("length", v["ciphertext_length"], len(ciphertext))
        self.same("digest", v["ciphertext_digest"], sha256(ciphertext))
        self.same("last tag", v["last_tag"], ciphertext[-16:])
        self.holds("opens", stream_open(H(v["key"]), ciphertext) == plain)
        if "ciphertext" in v:
            self.same("ciphertext", v["ciphertext"], ciphertext)

    def curve(self, v):
        self.same("point", v["point"], p256.compress(p256.hash_to_curve(v["dst"].encode(), v["message"].encode())))

    def chain(self, v):
        head = bytes(32)
        for n, entry in enumerate(v["entries"], 1):
            digest = H(entry["digest"])
            if entry["kind"] == "handshake":
                self.same("handshake", entry["digest"], hashed("handshake", lp(H(entry["public_message"]))))
            elif entry["kind"] == "void":
                digest = hashed("void", H(entry["refused"]), lp(entry["reason"].encode()))
                self.same("void", entry["digest"], digest)
            else:
                self.same("kind", entry["kind"], "message")
            self.same("sequence", entry["sequence"], n)
            head = hashed("chain", H(v["conversation"]), be(n, 8), head, digest)
            self.same("head", entry["head"], head)

    def records(self, v):
        digests = [H(d) for d in v["digests"]]
        self.holds("sorted and unique", all(a < b for a, b in zip(digests, digests[1:])))
        self.same("root", v["root"], tree(digests))
        self.same("number of paths", len(v["paths"]), len(digests))
        for index, found in enumerate(v["paths"]):
            self.same("path", found, [node.hex() for node in path(digests, index)])
            self.holds("path leads to the root", climb(digests[index], index, len(digests), found) == H(v["root"]))

    def sealbox(self, v):
        table, row, column = v["table"].encode(), H(v["row"]), v["column"].encode()
        key = expand(H(v["master"]), "sealbox", lp(table))
        aad = label("sealbox-ad") + lp(table) + lp(row) + lp(column)
        sealed = H(v["sealed"])
        self.same("version", sealed[0], 1)
        self.same("plain", v["plain"], AESGCM(key).decrypt(sealed[1:13], sealed[13:], aad))

    def ed25519(self, v):
        key, message, signature = H(v["key"]), H(v["message"]), H(v["signature"])
        self.same("accepted", v["accepted"], ed25519.verify(key, message, signature))
        if v["about"] == "the identity as key":
            self.holds("laxness would accept", ed25519.verify(key, message, signature, strict=False))

    # statements.json

    def statement(self, v):
        name = STATEMENTS.get(v["type"])
        self.holds(f"a type: {v['type']!r}", name is not None)
        encoded = self.schema.encode(name, v["fields"])
        self.same("statement", v["statement"], encoded)
        digest = sha256(encoded)
        self.same("digest", v["digest"], digest)
        signed = label(v["type"]) + digest
        names = [s["signer"] for s in v["signatures"]]
        self.holds("signers sorted and unique", all(a < b for a, b in zip(names, names[1:])))
        signatures = []
        for s in v["signatures"]:
            self.signature(s["signing_key"], s["verifying_key"], signed, s["signature"])
            signatures.append({"signer": s["signer"], "algorithm": 1, "signature": s["signature"]})
        raw = {"type": v["type"], "statement": v["statement"], "signatures": signatures}
        self.same("signed statement", v["signed_statement"], self.schema.encode("SignedStatement", raw))
        if "sealed_leaf" in v:
            # ReleasedOrder {order = 1, approvals = 2} without its salt.
            sealed = v["sealed_leaf"]
            plain = b"".join(field(n, d) for n, d in [(1, v["signed_statement"])] + [(2, a) for a in sealed["approvals"]])
            self.same("sealed leaf", sealed["digest"], hashed("sealed-order", H(sealed["salt"]), plain))
            # Opened {order = 1, envelope = 2, key_id = 3, share_epoch = 4, node = 5}.
            opened = sealed["opened"]
            names = enumerate(["envelope", "key_id", "share_epoch"], 2)
            plain = field(1, digest.hex()) + b"".join(field(n, opened[name]) for n, name in names)
            plain += field(5, opened["node"].encode().hex())
            self.same("sealed opening", opened["digest"], hashed("sealed-opened", H(v["fields"]["nonce"]), plain))
            read = sealed["read"]
            self.same("read", read["digest"], hashed("read", H(read["salt"]), H(read["subject"])))

    def signature(self, secret, public, message, signature):
        self.same("verifying key", public, ed25519.public(H(secret)))
        self.same("signature", signature, ed25519.sign(H(secret), message))
        self.holds("signature verifies", ed25519.verify(H(public), message, H(signature)))

    # message.json

    def message(self, v):
        h, c, b = v["header"], v["content"], v["body"]
        header = self.schema.encode("Header", h)
        self.same("header", v["header_bytes"], header)
        content = self.schema.encode("Content", c)
        self.same("content", v["content_bytes"], content)
        body = self.schema.encode("EnvelopeBody", b)
        self.same("body", v["body_bytes"], body)
        self.same("MLS plaintext", v["mls_plaintext"], b"\1" + H(v["seed"]))
        prk = hkdf_extract(b"greffe/v1/seed", H(v["seed"]))
        core = hashed("core", lp(v["tenant"].encode()), H(h["conversation"]), H(h["message_id"]), H(h["sender_device"]))
        self.same("core", v["core"], core)
        cek = expand(prk, "cek", core)
        self.same("cek", v["cek"], cek)
        commit = expand(prk, "seed-commit", core)
        self.same("seed commitment", v["seed_commitment"], commit)
        self.attachments(v, core, cek)
        hd = hashed("header", header)
        self.same("hd", v["hd"], hd)
        both = expand(cek, "content", hd, length=64)
        self.same("content key", v["content_key"], both[:32])
        self.same("commitment", v["commitment"], both[32:])
        ciphertext = stream_seal(both[:32], pad(content))
        self.same("ciphertext", v["ciphertext"], ciphertext)
        rd = hashed("record", hd, sha256(ciphertext), both[32:], commit)
        self.same("rd", v["rd"], rd)
        for wrap in v["wraps"]:
            self.wrap(wrap, prk, cek, rd)
        names = [{"tenant": w["tenant"], "key_id": w["key_id"], "digest": w["digest"]} for w in v["wraps"]]
        self.same("header in the body", b["header"], header)
        self.same("H(ct)", b["ciphertext_digest"], sha256(ciphertext))
        self.same("size", b["ciphertext_size"], len(ciphertext))
        self.same("commitment in the body", b["commitment"], both[32:])
        self.same("seed commitment in the body", b["seed_commitment"], commit)
        self.same("wraps in the body", b["wraps"], names)
        self.same("sorted wraps", names, sorted(names, key=lambda w: (w["tenant"], w["key_id"])))
        self.same("key ids", h["key_ids"], sorted(w["key_id"] for w in v["wraps"]))
        digest = hashed("envelope", body)
        self.same("envelope digest", v["envelope_digest"], digest)
        self.signature(v["signing_key"], v["verifying_key"], label("sign") + digest, v["signature"])

    def attachments(self, v, core, cek):
        self.same("attachments", len(v["attachments"]), len(v["header"]["attachments"]))
        self.same("attachments inside", len(v["attachments"]), len(v["content"]["attachments"]))
        for i, a in enumerate(v["attachments"]):
            inside, outside = v["content"]["attachments"][i], v["header"]["attachments"][i]
            padded = pad(H(a["data"]))
            self.same("padded digest", inside["padded_digest"], sha256(padded))
            self.same("size inside", inside["size"], len(H(a["data"])))
            ciphertext = stream_seal(expand(cek, "attachment", core, be(i, 4), sha256(padded)), padded)
            self.same("attachment", a["ciphertext"], ciphertext)
            self.same("digest outside", outside["digest"], sha256(ciphertext))
            self.same("size outside", outside["size"], len(ciphertext))

    def wrap(self, v, prk, cek, rd):
        """Made again from the seed, opened with the private key, its proof verified."""
        tenant = lp(v["tenant"].encode())
        ek, dk = hybrid.kem_keys(H(v["kem_seed"]))
        s = p256.scalar(H(v["scalar"]))
        pk_point = p256.mul(s, p256.G)
        pk = ek + p256.uncompressed(pk_point)
        self.same("public key", v["public_key"], pk)
        key_id = hashed("key-id", tenant, pk)
        self.same("key id", v["key_id"], key_id)
        seed = expand(prk, "wrap", rd, tenant, key_id)
        self.same("wrap seed", v["wrap_seed"], seed)
        randomness = hashlib.shake_256(label("wrap-rng") + seed).digest(64)
        self.same("randomness", v["randomness"], randomness)
        r = hybrid.first_scalar(randomness[32:])
        self.same("r", v["r"], be(r, 32))
        secret, enc = hybrid.encap(pk, randomness)
        self.same("enc", v["enc"], enc)
        info = label("wrap") + tenant + key_id
        ct = hybrid.seal(secret, info, rd, cek)
        self.same("ct", v["ct"], ct)
        self.holds("opens", hybrid.unseal(hybrid.decap(dk, s, pk, enc), info, rd, ct) == cek)
        L = hashed("tdh2", rd, tenant, key_id, sha256(pk), enc, ct)
        self.same("L", v["statement"], L)
        k = p256.reduce(expand(prk, "tdh2-k", L, length=48))
        self.same("k", v["k"], be(k, 32))
        g2 = p256.hash_to_curve(b"greffe/v1/tdh2-g2", b"")
        proof = H(v["proof"])
        u2, w, w2 = (p256.from_compressed(proof[i : i + 33]) for i in (0, 33, 66))
        e, z = p256.from_uncompressed(enc[1088:]), p256.scalar(proof[99:], zero=True)
        points = b"".join(map(p256.compress, (p256.G, g2, e, u2, w, w2)))
        c = p256.reduce(hashed("tdh2-c", L, points))
        made = b"".join(map(p256.compress, (p256.mul(r, g2), p256.mul(k, p256.G), p256.mul(k, g2))))
        self.same("proof", v["proof"], made + be((k + c * r) % p256.Q, 32))
        self.holds("zG = W + cE", p256.mul(z, p256.G) == p256.add(w, p256.mul(c, e)))
        self.holds("zG2 = W2 + cU2", p256.mul(z, g2) == p256.add(w2, p256.mul(c, u2)))
        self.same("wrap digest", v["digest"], hashed("wrap-digest", enc, ct, proof))
        self.same("rejected secret", v["rejected_secret"], hybrid.reject(dk, enc))
        self.same("ML-KEM digest", v["mlkem_digest"], sha256(enc[:1088]))

    # opening.json

    def opening(self, v):
        s, a = (p256.scalar(H(c)) for c in v["coefficients"])
        ek, dk = hybrid.kem_keys(H(v["kem_seed"]))
        pk = ek + p256.uncompressed(p256.mul(s, p256.G))
        self.same("public key", v["public_key"], pk)
        tenant = lp(v["tenant"].encode())
        key_id = hashed("key-id", tenant, pk)
        self.same("key id", v["key_id"], key_id)
        epoch = self.epoch(v, p256.from_uncompressed(pk[1184:]))
        reader = hybrid.key_of_seed(H(v["reader_seed"]))
        self.same("reader's key", v["reader_key"], reader[2])
        enc = H(v["enc"])
        e = p256.from_uncompressed(enc[1088:])
        self.same("rejected secret", v["rejected_secret"], hybrid.reject(dk, enc))
        answers = {}
        for node in v["nodes"]:
            self.holds("an index", 1 <= node["index"] <= len(v["share_epoch"]["holders"]))
            holder = v["share_epoch"]["holders"][node["index"] - 1]
            self.same("holder", (holder["node"], holder["index"]), (node["name"], node["index"]))
            self.same("Y", holder["verification_share"], node["verification_share"])
            self.same("share", node["scalar"], be((s + a * node["index"]) % p256.Q, 32))
            answers[node["index"]] = self.answer(v, node, key_id, epoch, e, dk, reader)
        ss = hybrid.decapsulate(dk, enc[:1088])
        info, ct, rd = label("wrap") + tenant + key_id, H(v["ct"]), H(v["rd"])
        for pair in v["combinations"]:
            weights = p256.weights(pair["indices"])
            self.same("weights", pair["weights"], [be(w, 32).hex() for w in weights])
            self.holds("nodes", all(i in answers for i in pair["indices"]))
            d = p256.combine([(w, answers[i]) for w, i in zip(weights, pair["indices"])])
            self.same("D", pair["d"], p256.compress(d))
            secret = hybrid.combine(ss, d, enc[1088:], pk[1184:])
            self.same("shared secret", pair["shared_secret"], secret)
            self.same("cek", v["cek"], hybrid.unseal(secret, info, rd, ct))

    def epoch(self, v, constant):
        """The share epoch's digest, its verification shares on one line through the public key."""
        epoch = v["share_epoch"]
        encoded = self.schema.encode("ShareEpoch", epoch)
        self.same("share epoch", v["share_epoch_bytes"], encoded)
        self.same("share epoch's key", epoch["key_id"], v["key_id"])
        self.same("share epoch's tenant", epoch["tenant"], v["tenant"])
        self.same("first epoch", (epoch["epoch"], epoch["previous"]), (1, bytes(32).hex()))
        images = {h["index"]: p256.from_compressed(H(h["verification_share"])) for h in epoch["holders"]}
        t = epoch["threshold"]
        base = sorted(images)[:t]
        at = lambda x: p256.combine([(w, images[i]) for w, i in zip(p256.weights(base, x), base)])
        self.holds("the shares' constant term is the key", at(0) == constant)
        self.holds("the shares lie on one polynomial", all(at(i) == image for i, image in images.items()))
        self.holds("its degree is t - 1", len(images) >= t and at(0) != images[base[0]])
        self.same("share epoch digest", v["share_epoch_digest"], sha256(encoded))
        return sha256(encoded)

    def answer(self, v, n, key_id, epoch, e, dk, reader):
        """A node's answer made again from what it drew, and opened by the reader."""
        share, order, envelope = p256.scalar(H(n["scalar"])), H(v["order"]), H(v["envelope"])
        y = p256.compress(p256.mul(share, p256.G))
        self.same("Y", n["verification_share"], y)
        point = p256.mul(share, e)
        d, index, randomness = p256.compress(point), be(n["index"], 2), H(n["randomness"])
        about = (order, envelope, key_id, epoch, index, y, p256.compress(e), d)
        prk = hkdf_extract(randomness[:32], be(share, 32))
        k = p256.reduce(expand(prk, "partial-k", hashed("partial", *about), length=48))
        self.same("k", n["k"], be(k, 32))
        a, b = p256.compress(p256.mul(k, p256.G)), p256.compress(p256.mul(k, e))
        self.same("A", n["a"], a)
        self.same("B", n["b"], b)
        c = p256.reduce(hashed("partial", *about, a, b))
        z = (k + c * share) % p256.Q
        partial = d + be(c, 32) + be(z, 32)
        self.same("partial", n["partial"], partial)
        # Chaum-Pedersen as the reader checks it, without the share.
        back_a = p256.add(p256.mul(z, p256.G), p256.mul(-c, p256.from_compressed(y)))
        back_b = p256.add(p256.mul(z, e), p256.mul(-c, p256.from_compressed(d)))
        again = hashed("partial", *about, p256.compress(back_a), p256.compress(back_b))
        self.holds("the proof verifies", p256.reduce(again) == c)
        ss = hybrid.decapsulate(dk, H(v["enc"])[:1088])
        self.same("ss_mlkem", n["ss_mlkem"], ss)
        name = n["name"].encode()
        plain = epoch + index + partial + ss
        signed = label("answer-sign") + sha256(order + envelope + key_id + lp(name) + plain)
        answer = H(n["answer"])
        self.same("answer", n["answer"], plain + answer[163:])
        self.signature(n["signing_key"], n["verifying_key"], signed, answer[163:].hex())
        info, aad = label("answer") + lp(v["tenant"].encode()), order + envelope + name
        secret, enc = hybrid.encap(reader[2], randomness[32:])
        self.same("sealed", n["sealed"], enc + hybrid.seal(secret, info, aad, answer))
        opened = hybrid.unseal(hybrid.decap(*reader, enc), info, aad, H(n["sealed"])[1153:])
        self.holds("the reader opens it", opened == answer)
        return point


def field(number, data):
    return bytes([number << 3 | 2]) + varint(len(H(data))) + H(data)


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def climb(digest, index, count, nodes):
    """RFC 9162 2.1.3.2: where a path leads."""
    node, last, value = index, count - 1, leaf(digest)
    for neighbour in map(H, nodes):
        if last == 0:
            raise Failed("a path too long")
        if node & 1 or node == last:
            value = sha256(b"\1" + neighbour + value)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            value = sha256(b"\1" + value + neighbour)
        node, last = node >> 1, last >> 1
    if last:
        raise Failed("a path too short")
    return value


STATEMENTS = {
    "trust-bundle": "TrustBundle",
    "device-cert": "DeviceCert",
    "key-record": "KeyRecord",
    "share-epoch": "ShareEpoch",
    "disclosure": "Disclosure",
    "currency": "Currency",
    "acknowledgement": "Acknowledgement",
    "order": "Order",
    "approval": "Approval",
    "receipt": "Receipt",
    "void": "Void",
    "range": "RangeStatement",
    "keygen-descriptor": "KeygenDescriptor",
    "reshare-descriptor": "ReshareDescriptor",
    "keygen-message": "CeremonyMessage",
    "person-token": "PersonToken",
    "device-login": "DeviceLogin",
    "person-act": "PersonAct",
    "report": "Report",
    "production": "ProductionStatement",
    "share-proof": "ShareProof",
    "key-unused": "KeyUnused",
    "key-retirement": "KeyRetirement",
    "share-destruction": "ShareDestruction",
}
FILES = {
    "derive.json": Checker.derive,
    "padding.json": Checker.padding,
    "stream.json": Checker.stream,
    "curve.json": Checker.curve,
    "chain.json": Checker.chain,
    "records.json": Checker.records,
    "sealbox.json": Checker.sealbox,
    "message.json": Checker.message,
    "content.json": contents.content,
    "history.json": contents.history,
    "opening.json": Checker.opening,
    "ceremony.json": ceremonies.check,
    "statements.json": Checker.statement,
    "ed25519.json": Checker.ed25519,
}
