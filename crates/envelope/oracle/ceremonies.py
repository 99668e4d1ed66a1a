"""Key generation and resharing: every message opened and verified, every share and digest computed again."""

import hashlib
import zlib

import ed25519
import hybrid
import p256
from primitives import be, expand, hashed, hkdf_extract, label, lp, sha256

H = bytes.fromhex
SUITE = b"FROST-P256-SHA256-v1"
# What frost puts in front of a package: version 0 and the CRC-32 of the suite's name.
FROST = b"\0" + be(zlib.crc32(SUITE), 4)


def check(c, v):
    c.holds("a kind", v["kind"] in ("generation", "resharing"))
    names = [node["name"] for node in v["nodes"]]
    rounds = messages(c, v, names)
    c.same("share epoch digest", v["share_epoch_digest"], sha256(c.schema.encode("ShareEpoch", v["share_epoch"])))
    for node in v["nodes"]:
        keys = hybrid.key_of_seed(H(node["channel_seed"]))
        c.same("channel key", node["channel_key"], keys[2])
    arrive = generation if v["kind"] == "generation" else resharing
    public_key, kem_seed, images, echo = arrive(c, v, names, rounds)
    results(c, v, rounds, public_key, images, echo)
    holders = [
        {"index": i, "node": name, "verification_share": image.hex()}
        for i, (name, image) in enumerate(zip(names, images), 1)
    ]
    c.same("holders", v["share_epoch"]["holders"], holders)
    c.same("threshold", v["share_epoch"]["threshold"], v["descriptor"]["threshold"])
    c.same("key", v["share_epoch"]["key_id"], hashed("key-id", lp(v["share_epoch"]["tenant"].encode()), public_key))
    stored(c, v, public_key, kem_seed, images)


def messages(c, v, names):
    """The messages of each round by sender and receiver, each signed by its sender and of this session."""
    rounds = {1: {}, 2: {}, 3: {}}
    keys = {node["name"]: H(node["verifying_key"]) for node in v["nodes"]}
    for raw in map(H, v["messages"]):
        signed = c.schema.decode("SignedStatement", raw)
        c.same("type", signed["type"], "keygen-message")
        statement = H(signed["statement"])
        m = c.schema.decode("CeremonyMessage", statement)
        c.same("signers", [s["signer"] for s in signed["signatures"]], [m["sender"]])
        c.same("algorithm", signed["signatures"][0]["algorithm"], 1)
        c.holds("a sender", m["sender"] in names)
        covered = label("keygen-message") + sha256(statement)
        c.holds("signature", ed25519.verify(keys[m["sender"]], covered, H(signed["signatures"][0]["signature"])))
        c.same("session", m["session"], v["descriptor"]["session"])
        c.holds("one message", (m["sender"], m["receiver"]) not in rounds[m["round"]])
        rounds[m["round"]][m["sender"], m["receiver"]] = (sha256(statement), H(m["payload"]))
    return rounds


def opened(c, v, rounds, node, sender, message):
    """A private message of round 2."""
    sealed = rounds[2][sender, node["name"]][1]
    info = label("channel") + H(v["descriptor"]["session"])
    aad = lp(sender.encode()) + lp(node["name"].encode())
    secret = hybrid.decap(*hybrid.key_of_seed(H(node["channel_seed"])), sealed[:1153])
    return c.schema.decode(message, hybrid.unseal(secret, info, aad, sealed[1153:]))


def generation(c, v, names, rounds):
    d = v["descriptor"]
    digest = sha256(c.schema.encode("KeygenDescriptor", d))
    c.same("descriptor digest", v["descriptor_digest"], digest)
    c.same("nodes", d["nodes"], names)
    session, t = H(d["session"]), d["threshold"]
    commitments, seeds = {}, {}
    for i, name in enumerate(names, 1):
        first = c.schema.decode("CeremonyRound1", rounds[1][name, ""][1])
        commitments[name] = package(c, H(first["package"]), i, t)
        seeds[name] = first["seed_commitment"]
    echo = hashed("keygen-echo", session, *(rounds[1][name, ""][0] for name in names))
    parts = {}
    for i, node in enumerate(v["nodes"], 1):
        for sender in names:
            if sender == node["name"]:
                continue
            second = opened(c, v, rounds, node, sender, "CeremonyRound2")
            c.same("echo", second["echo"], echo)
            share = H(second["package"])
            c.same("share's header", share[:5].hex(), FROST)
            image = p256.mul(p256.scalar(share[5:]), p256.G)
            c.holds("a share on its sender's polynomial", image == evaluate(commitments[sender], i))
            part = H(second["seed_part"])
            c.same("seed commitment", seeds[sender], hashed("seed-part", session, lp(sender.encode()), part))
            c.holds("the same part for all", parts.setdefault(sender, part) == part and len(part) == 64)
    kem_seed = hashlib.shake_256(label("kem-seed") + session + b"".join(parts[name] for name in names)).digest(64)
    joint = [p256.combine([(1, commitments[name][k]) for name in names]) for k in range(t)]
    images = [p256.compress(evaluate(joint, i)) for i in range(1, len(names) + 1)]
    public_key = hybrid.kem_keys(kem_seed)[0] + p256.uncompressed(joint[0])
    record = dict(v["key_record"])
    c.same("key record", v["key_record_bytes"], c.schema.encode("KeyRecord", record))
    transcript = hashed("keygen-transcript", digest, echo, public_key, *images)
    expected = {
        "tenant": d["tenant"],
        "key_id": hashed("key-id", lp(d["tenant"].encode()), public_key).hex(),
        "period": d["period"],
        "not_before": d["not_before"],
        "not_after": d["not_after"],
        "kem": 0x0050,
        "public_key": public_key.hex(),
        "t_min": t,
        "committee": sorted(names),
        "notices": [],
        "purpose": d["purpose"],
        "transcript": transcript.hex(),
    }
    c.same("key record", record, expected)
    c.same("first epoch", (v["share_epoch"]["epoch"], v["share_epoch"]["previous"]), (1, bytes(32).hex()))
    c.same("tenant", v["share_epoch"]["tenant"], d["tenant"])
    return public_key, kem_seed, images, echo


def package(c, data, index, t):
    """Commitments of a frost package of round 1, its proof of knowledge verified."""
    c.same("header", data[:5].hex(), FROST)
    c.same("degree", data[5], t)
    c.same("length", len(data), 6 + 33 * t + 1 + 65)
    points = [p256.from_compressed(data[6 + 33 * k : 39 + 33 * k]) for k in range(t)]
    proof = data[6 + 33 * t :]
    c.same("proof's length", proof[0], 65)
    r, z = proof[1:34], p256.scalar(proof[34:])
    wide = p256.expand_message_xmd(be(index, 32) + p256.compress(points[0]) + r, SUITE + b"dkg", 48)
    challenge = int.from_bytes(wide, "big") % p256.Q
    back = p256.add(p256.mul(z, p256.G), p256.mul(-challenge, points[0]))
    c.holds("proof of knowledge", p256.compress(back) == r)
    return points


def resharing(c, v, names, rounds):
    d = v["descriptor"]
    c.same("descriptor digest", v["descriptor_digest"], sha256(c.schema.encode("ReshareDescriptor", d)))
    c.same("nodes", d["nodes"], names)
    public_key, session, t = H(v["public_key"]), H(d["session"]), d["threshold"]
    old = {i: p256.from_compressed(H(image)) for i, image in enumerate(v["old_verification_shares"], 1)}
    c.holds("dealers", all(i in old for i in d["dealers"]))
    weights = dict(zip(d["dealers"], p256.weights(d["dealers"])))
    at = lambda x: p256.combine([(w, old[i]) for w, i in zip(p256.weights(d["dealers"], x), d["dealers"])])
    c.holds("the old shares' constant term is the key", at(0) == p256.from_uncompressed(public_key[1184:]))
    c.holds("the old shares lie on one polynomial", all(at(i) == image for i, image in old.items()))
    dealers = {i: names[i - 1] for i in d["dealers"]}
    committed = {}
    for i, name in dealers.items():
        first = c.schema.decode("ReshareRound1", rounds[1][name, ""][1])
        committed[i] = [p256.from_compressed(H(point)) for point in first["commitments"]]
        c.same("degree", len(committed[i]), t)
        c.holds("constant term", committed[i][0] == old[i])
    echo = hashed("keygen-echo", session, *(rounds[1][name, ""][0] for name in dealers.values()))
    kem_seed = None
    for j, node in enumerate(v["nodes"], 1):
        for i, name in dealers.items():
            if name == node["name"]:
                continue
            second = opened(c, v, rounds, node, name, "ReshareRound2")
            c.same("echo", second["echo"], echo)
            image = p256.mul(p256.scalar(H(second["share"])), p256.G)
            c.holds("a share on its dealer's polynomial", image == evaluate(committed[i], j))
            kem_seed = H(second["kem_seed"])
            c.same("ML-KEM half", hybrid.kem_keys(kem_seed)[0].hex(), public_key[:1184])
    images = [
        p256.compress(p256.combine([(w, evaluate(committed[i], j)) for i, w in weights.items()]))
        for j in range(1, len(names) + 1)
    ]
    epoch = v["share_epoch"]
    c.same("epoch", (epoch["epoch"], epoch["previous"]), (2, d["previous"]))
    c.same("key and tenant", (epoch["key_id"], epoch["tenant"]), (d["key_id"], d["tenant"]))
    return public_key, kem_seed, images, echo


def evaluate(points, x):
    out = None
    for point in reversed(points):
        out = p256.add(p256.mul(x, out), point) if out else point
    return out


def results(c, v, rounds, public_key, images, echo):
    """Round 3: everybody says the same."""
    for node in v["nodes"]:
        third = c.schema.decode("CeremonyRound3", rounds[3][node["name"], ""][1])
        c.same("public key", third["public_key"], public_key)
        c.same("verification shares", third["verification_shares"], [image.hex() for image in images])
        c.same("echo", third["echo"], echo)


def stored(c, v, public_key, kem_seed, images):
    """What each node keeps, and that a threshold of the shares is the key's scalar."""
    epoch, shares = v["share_epoch"], {}
    for i, node in enumerate(v["nodes"], 1):
        data = H(node["stored_share"])
        front = b"\1" + lp(epoch["tenant"].encode()) + H(v["share_epoch_digest"]) + be(i, 2) + be(epoch["threshold"], 2)
        scalar = data[len(front) : len(front) + 32]
        c.same("stored share", data.hex(), front + scalar + kem_seed + public_key + be(len(images), 2) + b"".join(images))
        shares[i] = p256.scalar(scalar)
        c.holds("share", p256.compress(p256.mul(shares[i], p256.G)) == images[i - 1])
        proof(c, v, i, node, shares[i], images[i - 1])
    some = sorted(shares)[-epoch["threshold"] :]
    secret = sum(w * shares[i] for w, i in zip(p256.weights(some), some))
    c.holds("the key", p256.uncompressed(p256.mul(secret, p256.G)) == public_key[1184:])


def proof(c, v, index, node, share, image):
    """The node's proof that it holds its share, made again with the salt that it was made with, and verified without the share."""
    p, epoch = node["proof"], v["share_epoch"]
    c.same("proof's epoch", p["share_epoch"], v["share_epoch_digest"])
    c.same("proof's key", (p["tenant"], p["key_id"]), (epoch["tenant"], epoch["key_id"]))
    c.same("proof's node", (p["node"], p["index"]), (node["name"], index))
    about = (
        lp(p["tenant"].encode()) + H(p["key_id"]) + H(p["share_epoch"]) + be(index, 2)
        + lp(p["node"].encode()) + H(p["nonce"]) + be(p["at"], 8) + image
    )
    prk = hkdf_extract(H(node["proof_salt"]), be(share, 32))
    k = p256.reduce(expand(prk, "share-proof-k", hashed("share-proof", about), length=48))
    commitment = p256.compress(p256.mul(k, p256.G))
    challenge = p256.reduce(hashed("share-proof", about, commitment))
    c.same("A", p["commitment"], commitment)
    c.same("z", p["response"], be((k + challenge * share) % p256.Q, 32))
    back = p256.add(p256.mul(p256.scalar(H(p["response"])), p256.G), p256.mul(-challenge, p256.from_compressed(image)))
    c.holds("the proof verifies", p256.compress(back) == commitment)
