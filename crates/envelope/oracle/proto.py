"""Deterministic protobuf (proto3) from field values, driven by the contracts in proto/greffe/envelope/v1."""

import pathlib
import re

VARINTS = {"uint32", "uint64", "bool"}


class Schema:
    """Messages and enums of a folder of .proto files, as far as the contracts use the language."""

    def __init__(self, folder):
        self.messages, self.enums = {}, set()
        for file in sorted(pathlib.Path(folder).glob("*.proto")):
            text = re.sub(r"//[^\n]*", "", file.read_text("utf-8"))
            self.enums.update(re.findall(r"\benum\s+(\w+)", text))
            for name, body in re.findall(r"\bmessage\s+(\w+)\s*\{([^{}]*)\}", text):
                fields = re.findall(r"(repeated\s+)?([\w.]+)\s+(\w+)\s*=\s*(\d+)\s*;", body)
                self.messages[name] = [(int(n), kind, field, bool(many)) for many, kind, field, n in fields]
        if not self.messages:
            raise ValueError(f"no contracts in {folder}")

    def encode(self, message, values):
        """A message's one encoding: fields in order of number, defaults left out, packed numbers."""
        fields = sorted(self.messages[message])
        names = {name for _, _, name, _ in fields}
        if set(values) != names:
            raise ValueError(f"{message} has other fields: {sorted(set(values) ^ names)}")
        out = b""
        for number, kind, name, many in fields:
            value = values[name]
            if many and self.is_number(kind):
                packed = b"".join(varint(self.number(kind, item)) for item in value)
                out += tagged(number, packed) if packed else b""
            elif many:
                out += b"".join(tagged(number, self.bytes_of(kind, item)) for item in value)
            elif self.is_number(kind):
                value = self.number(kind, value)
                out += varint(number << 3) + varint(value) if value else b""
            elif kind in self.messages:
                out += b"" if value is None else tagged(number, self.bytes_of(kind, value))
            else:
                data = self.bytes_of(kind, value)
                out += tagged(number, data) if data else b""
        return out

    def decode(self, message, data):
        """Field values of bytes that are exactly the one encoding of a message."""
        fields = {number: (kind, name, many) for number, kind, name, many in self.messages[message]}
        values = {name: [] if many else self.default(kind) for kind, name, many in fields.values()}
        at = 0
        while at < len(data):
            tag, at = read_varint(data, at)
            if tag >> 3 not in fields:
                raise ValueError(f"{message} has no field {tag >> 3}")
            kind, name, many = fields[tag >> 3]
            value, at = read_varint(data, at)
            if tag & 7 == 2:
                if at + value > len(data):
                    raise ValueError("cut off")
                value, at = data[at : at + value], at + value
            values[name] = self.value_of(kind, value, values[name] if many else None)
        if self.encode(message, values) != data:
            raise ValueError(f"not the one encoding of {message}")
        return values

    def value_of(self, kind, value, before):
        if self.is_number(kind):
            if before is not None:
                raise ValueError("packed numbers do not occur in what is decoded")
            value = bool(value) if kind == "bool" and isinstance(value, int) else value
        elif not isinstance(value, bytes):
            raise ValueError(f"a number where {kind} was expected")
        elif kind == "bytes":
            value = value.hex()
        elif kind == "string":
            value = value.decode("utf-8")
        else:
            value = self.decode(kind, value)
        return value if before is None else before + [value]

    def default(self, kind):
        if self.is_number(kind):
            return False if kind == "bool" else 0
        return "" if kind in ("bytes", "string") else None

    def is_number(self, kind):
        return kind in VARINTS or kind in self.enums

    @staticmethod
    def number(kind, value):
        if isinstance(value, bytes) or isinstance(value, bool) != (kind == "bool") or not 0 <= value < 2**64:
            raise ValueError(f"{value!r} is no {kind}")
        return int(value)

    def bytes_of(self, kind, value):
        if kind == "bytes":
            return bytes.fromhex(value)
        if kind == "string":
            return value.encode("utf-8")
        return self.encode(kind, value)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def read_varint(data, at):
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 128:
            return value, at
    raise ValueError("a cut off or overlong number")


def tagged(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data
