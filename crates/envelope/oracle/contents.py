"""Kinds of content and what becomes of messages, from the text of the specification alone."""

import hashlib
import unicodedata

TEXT, MAIL, EDIT, RETRACTION, REACTION, REMOVAL = range(1, 7)
STANDING = 16
DIRECTION = set("\u2028\u2029") | {chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def content(checker, v):
    if "bytes" in v:
        return newer(checker, v)
    checker.same("content", v["content_bytes"], checker.schema.encode("Content", v["content"]))
    checker.same("refused", v["refused"], refused(v["content"]))


def newer(checker, v):
    """Of a kind that is not known, fields that are not known are passed over."""
    data = bytes.fromhex(v["bytes"])
    try:
        values = read(checker, data)
    except ValueError:
        values = None
    checker.same("digest", v["digest"], hashlib.sha256(data).hexdigest())
    checker.same("opened", v["opened"], values is not None)
    checker.same("text", v["text"], values["text"] if values else "")


def read(checker, data):
    kind = data[1] if data[:1] == b"\x08" and len(data) > 1 else 0
    if kind <= REMOVAL:
        return checker.schema.decode("Content", data)
    known, at = b"", 0
    while at < len(data):
        tag = data[at]
        # The vectors have numbers and lengths below 128 only.
        end = at + 2 + (data[at + 1] if tag & 7 == 2 else 0)
        if tag & 0x80 or tag & 7 not in (0, 2) or data[at + 1] & 0x80 or end > len(data):
            raise ValueError("not what the vectors hold")
        if 1 <= tag >> 3 <= 7:
            known += data[at:end]
        elif data[at:] != b"\x7a\x01?":
            raise ValueError("another field than the vectors hold")
        at = end
    return checker.schema.decode("Content", known)


def refused(c):
    """Why nobody seals it; empty when it may be sealed."""
    kind, target = c["kind"], bytes.fromhex(c["target"])
    if not TEXT <= kind <= REMOVAL:
        return "CONTENT_KIND"
    if kind <= MAIL:
        if target:
            return "CONTENT_TARGET"
        return "" if len(c["reply_to"]) in (0, 64) else "CONTENT_REPLY"
    if len(target) != 32:
        return "CONTENT_TARGET"
    if c["attachments"] or c["reply_to"] or c["unknown_sender"]:
        return "CONTENT_EXTRA"
    if kind != EDIT and (c["subject"] or kind == RETRACTION and c["text"]):
        return "CONTENT_EXTRA"
    if kind >= REACTION and reaction(c) is None:
        return "REACTION_TEXT"
    return ""


def reaction(c):
    data = bytes.fromhex(c["text"])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    hidden = any(unicodedata.category(char) == "Cc" or char in DIRECTION for char in text)
    return text if 1 <= len(data) <= 64 and not hidden else None


def history(checker, v):
    items, messages, others, strays = {}, {}, set(), []
    for number, item in enumerate(v["items"], 1):
        data = bytes.fromhex(item["content"] or "")
        envelope = hashlib.sha256(number.to_bytes(8, "big") + item["author"].encode() + data).hexdigest()
        checker.same("sequence", item["sequence"], number)
        checker.same("envelope", item["envelope"], envelope)
        c = read(checker, data) if item["content"] is not None else None
        if c is None:
            verdict = "unknown"
            items[envelope] = None
        elif c["kind"] in (TEXT, MAIL):
            verdict = "message"
            messages[envelope] = {
                "sequence": number,
                "author": item["author"],
                "versions": [number],
                "retracted": 0,
                "by": {},
                "acts": [],
            }
        elif not TEXT <= c["kind"] <= REMOVAL:
            verdict = "newer"
            others.add(envelope)
        else:
            others.add(envelope)
            message = messages.get(c["target"])
            if message is not None:
                verdict = apply(message, item["author"], number, c)
                message["acts"].append(number)
            else:
                strays.append(number)
                verdict = "TARGET_UNKNOWN"
                if len(c["target"]) != 64:
                    verdict = "CONTENT_MALFORMED"
                elif c["target"] in others:
                    verdict = "TARGET_NO_MESSAGE"
                elif c["target"] in items:
                    verdict = "TARGET_NOT_HERE"
        checker.same(f"verdict of {number}", item["verdict"], verdict)
    checker.same("strays", v["strays"], strays)
    found = [
        {
            "sequence": m["sequence"],
            "versions": m["versions"],
            "retracted": m["retracted"],
            "acts": m["acts"],
            "reactions": [
                {"text": text, "by": sorted(m["by"][text])} for text in sorted(m["by"], key=str.encode) if m["by"][text]
            ],
        }
        for m in messages.values()
    ]
    checker.same("messages", v["messages"], found)


def apply(message, author, number, c):
    if refused(c):
        return "CONTENT_MALFORMED"
    if c["kind"] <= RETRACTION and author != message["author"]:
        return "NOT_THE_AUTHOR"
    if message["retracted"]:
        return "TARGET_RETRACTED"
    if c["kind"] == EDIT:
        message["versions"].append(number)
    elif c["kind"] == RETRACTION:
        message["retracted"] = number
    else:
        by = message["by"].setdefault(reaction(c), set())
        if c["kind"] == REMOVAL:
            if author not in by:
                return "REACTION_UNKNOWN"
            by.remove(author)
        elif author in by:
            return "REACTION_REPEATED"
        elif sum(author in others for others in message["by"].values()) >= STANDING:
            return "REACTIONS_TOO_MANY"
        else:
            by.add(author)
    return "applied"
