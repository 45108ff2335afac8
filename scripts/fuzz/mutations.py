"""Random damage to files: to bytes, words of texts, nodes of JSON and compressed content."""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from scripts.fuzz.sample import Sample

_HEADER_BYTES = 400  # most damage is done here, because most errors are
_MOST_CHARACTERS = 1_000_000
_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**63, 10**30)
_FLOATS = (0.0, -1.0, 1e-30, 1e30, 1e200, float("nan"), float("inf"), float("-inf"), 1e-310)
_WORDS = (
    "", "0", "-1", "1e400", "1e200", "-1e300", "nan", "inf", "9" * 5000, "1_000", "0x10", "١٢",
    "true", "null", "None", "\x00", "\ud800", "é" * 300, "a" * 140_000, "[" * 20_000,
    '{"a":' * 9_000, "- " * 3000, "&a [*a]", "!!python/object/apply:os.system [true]", "2001-12-14",
    "12:30:45", "~",
    "\n\n", "=", ",", ":", '"', "'", "#", "$(true)", "../../etc/passwd", "LPS", "RAS", "3",
    "1000000",
)  # fmt: skip

Damage = Callable[[bytes, Random], bytes]


def damaged(sample: Sample, random: Random) -> Sample:
    """A sample with one damaged file; some are damaged more than once, few not at all."""
    name = random.choice([sample.targets[0], random.choice(sample.targets)])
    files = dict(sample.files)
    content = files[name]
    if sample.format in _PACKED:
        files[name] = _packed(content, random)
    elif random.random() < 0.02 and len(files) > 1:
        del files[name]
    elif random.random() < 0.97:
        files[name] = random.choice(_BY_FORMAT.get(sample.format, (damage_bytes,)))(content, random)
    return Sample(sample.format, files, sample.path, sample.targets)


# -- bytes ----------------------------------------------------------------------------------------


def damage_bytes(data: bytes, random: Random) -> bytes:
    """One to sixteen changes of bits, bytes, numbers or pieces."""
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        data = random.choice(_BYTE_CHANGES)(data, _place(data, random), random)
    return data


def _place(data: bytes, random: Random) -> int:
    end = _HEADER_BYTES if random.random() < 0.8 else len(data)
    return random.randrange(max(1, min(end, len(data))))


def _flip(data: bytes, at: int, random: Random) -> bytes:
    one = bytes([data[at] ^ 1 << random.randrange(8)]) if data else b"\x01"
    return data[:at] + one + data[at + 1 :]


def _number(data: bytes, at: int, random: Random) -> bytes:
    """A whole number of 1 to 8 bytes, or a float, at an aligned place."""
    order = random.choice("<>")
    if random.random() < 0.5:
        kind = random.choice("fd")
        with_limits = random.choice(_FLOATS)
        value = struct.pack(order + kind, with_limits if kind == "d" else _float32(with_limits))
    else:
        size = random.choice((1, 2, 4, 8))
        whole = random.choice(_NUMBERS) % 256**size
        value = whole.to_bytes(size, "little" if order == "<" else "big")
    at -= at % len(value)
    return data[:at] + value + data[at + len(value) :]


def _float32(value: float) -> float:
    return value if abs(value) < 1e38 or value != value else float("inf")


def _noise(data: bytes, at: int, random: Random) -> bytes:
    count = random.randrange(1, 32)
    return data[:at] + random.randbytes(count) + data[at + count :]


def _cut(data: bytes, at: int, random: Random) -> bytes:
    return data[:at] + data[at + random.randrange(1, 200) :]


def _end(data: bytes, at: int, random: Random) -> bytes:
    return data[: random.choice((at, random.randrange(len(data) + 1)))]


def _repeat(data: bytes, at: int, random: Random) -> bytes:
    piece = data[at : at + random.randrange(1, 400)]
    return data[:at] + piece * random.choice((2, 3, 50)) + data[at:]


_BYTE_CHANGES = (_flip, _number, _number, _noise, _cut, _end, _repeat)


def _packed(data: bytes, random: Random) -> bytes:
    """Content that is damaged before compression, or after it."""
    if random.random() < 0.8:
        return gzip.compress(damage_bytes(data, random), 1, mtime=0)
    return damage_bytes(gzip.compress(data, 1, mtime=0), random)


def _png(data: bytes, random: Random) -> bytes:
    """Damage within a chunk of a PNG file, with its checksum made right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    n = random.randrange(len(chunks))
    chunks[n] = (chunks[n][0], damage_bytes(chunks[n][1], random))
    return data[:8] + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in chunks
    )


# -- texts ----------------------------------------------------------------------------------------


def damage_text(data: bytes, random: Random) -> bytes:
    """Words replaced, lines removed, repeated or exchanged, other encodings."""
    text = data.decode("latin-1")
    for _ in range(random.choice((1, 1, 2, 5))):
        text = random.choice((_word, _word, _word, _lines))(text, random)[:_MOST_CHARACTERS]
    if random.random() < 0.05:
        encoding = random.choice(("utf-16", "utf-8-sig", "utf-32"))
        return text.encode("utf-8", "replace").decode("utf-8").encode(encoding)
    return text.encode("utf-8", "surrogatepass")


def _word(text: str, random: Random) -> str:
    found = list(re.finditer(r"[A-Za-z_]+|[-+.\d]+(?:e[-+]?\d+)?|\S", text))
    if not found:
        return random.choice(_WORDS)
    one = random.choice(found)
    return text[: one.start()] + random.choice(_WORDS) + text[one.end() :]


def _lines(text: str, random: Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    how = random.randrange(4)
    if how == 0:
        del lines[at]
    elif how == 1:
        most = _MOST_CHARACTERS // max(1, len(lines[other])) + 1
        lines[at:at] = [lines[other]] * min(random.choice((1, 2, 2000)), most)
    elif how == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = lines[at].replace("\n", random.choice(("\r", "\r\n", " ", "\n\n", "\x0b")))
    return "".join(lines)


def _header_text(data: bytes, random: Random) -> bytes:
    """Damage to the lines of text before binary content (MetaImage, NRRD)."""
    end = data.find(b"LOCAL\n") + 6 if b"LOCAL\n" in data else data.find(b"\n\n") + 2
    end = end if end > 2 else len(data)
    return damage_text(data[:end], random) + data[end:]


# -- JSON -----------------------------------------------------------------------------------------


def damage_json(data: bytes, random: Random) -> bytes:
    """One to four nodes replaced by values of other types and sizes."""
    return json.dumps(_changed_tree(json.loads(data), random)).encode()


def _json_or_bytes(data: bytes, random: Random) -> bytes:
    """Nodes of a JSON file, or bytes of any other file."""
    try:
        return damage_json(data, random)
    except ValueError:
        return damage_bytes(data, random)


def _changed_tree(tree: Any, random: Random) -> Any:
    for _ in range(random.choice((1, 1, 2, 4))):
        tree = _changed_node(tree, random)
    return tree


def _changed_node(tree: Any, random: Random) -> Any:
    if not isinstance(tree, dict | list) or not tree or random.random() < 0.15:
        return _value(random)
    nodes = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = random.choice(nodes)
    if random.random() < 0.15:
        return _without(tree, key)
    if isinstance(tree, dict):
        return {**tree, key: _changed_node(tree[key], random)}
    return [*tree[:key], _changed_node(tree[key], random), *tree[key + 1 :]]


def _without(tree: Any, key: Any) -> Any:
    if isinstance(tree, dict):
        return {name: value for name, value in tree.items() if name != key}
    return tree[:key] + tree[key + 1 :]


def _value(random: Random) -> Any:
    deep: Any = []
    for _ in range(random.choice((1, 200))):
        deep = [deep]
    plain = random.choice((*_NUMBERS, *_FLOATS, *_WORDS))
    return random.choice((plain, plain, None, True, [], {}, deep, [plain] * 3, {"a": plain}))


def _weights(data: bytes, random: Random) -> bytes:
    """A safetensors file whose header, or the JSON texts within it, are changed."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    texts = [k for k, v in header["__metadata__"].items() if str(v).startswith("{")]
    if random.random() < 0.7:
        key = random.choice(texts)
        tree = _changed_tree(json.loads(header["__metadata__"][key]), random)
        header["__metadata__"][key] = json.dumps(tree)
    else:
        header = _changed_tree(header, random)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


_PACKED = ("nii.gz", "mgz")
_BY_FORMAT: dict[str, tuple[Damage, ...]] = {
    "mha": (damage_bytes, _header_text, _header_text),
    "mhd+raw": (damage_bytes, damage_text, damage_text),
    "nrrd": (damage_bytes, _header_text, _header_text),
    "nhdr+raw": (damage_bytes, damage_text, damage_text),
    "png": (damage_bytes, _png),
    "tfm": (damage_bytes, damage_text),
    "txt": (damage_bytes, damage_text),
    **dict.fromkeys(
        ("fsl mat", "greedy mat", "freesurfer lta", "afni 1D", "elastix txt"),
        (damage_bytes, damage_text, damage_text),
    ),
    **dict.fromkeys(("itk nrrd", "itk mha"), (damage_bytes, _header_text)),
    "csv": (damage_bytes, damage_text, damage_text),
    "fcsv": (damage_bytes, damage_text, damage_text),
    "tsv": (damage_bytes, damage_text, damage_text),
    "obj": (damage_bytes, damage_text, damage_text),
    "gii": (damage_bytes, damage_text, damage_text),
    "vtp": (damage_bytes, damage_text),
    "mrk.json": (damage_bytes, damage_text, damage_json, damage_json),
    "yaml": (damage_bytes, damage_text, damage_text),
    "bundle": (damage_bytes, damage_text, damage_text),
    "results": (damage_bytes, _json_or_bytes, _json_or_bytes),
    "safetensors": (damage_bytes, _weights, _weights),
    "checkpoint": (damage_bytes, _weights, _weights),
}
