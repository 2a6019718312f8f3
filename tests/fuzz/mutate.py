"""Damages bytes in the ways that files are damaged, or forged."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.fuzz import values

NUMBERS = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff")
TEXTS = (
    b"-1", b"0", b"1e9", b"2147483648", b"9" * 30, b"NaN", b"null", b"true", b"[]", b"{}", b'""',
    b"../", b"/etc/",
    b"\n", b"\r\n", b"\t", b" ", b"\xc3\x28", "½٣".encode(), b"%s%n", b'"', b"[" * 200, b"\x00",
)  # fmt: skip


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Applies one to eight random changes; JSON mostly stays JSON, with other values."""
    is_json = data[:1] in (b"{", b"[") and rng.random() < 0.7
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        change = _replace_value if is_json else rng.choice(CHANGES)
        data = change(bytearray(data), rng, others)
    return data


def _flip(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    for _ in range(rng.choice((1, 4, 16))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _overwrite(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    at, value = rng.randint(0, len(data)), rng.choice(NUMBERS)
    data[at : at + len(value)] = value
    return bytes(data)


def _insert(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    data[at:at] = rng.choice(TEXTS)
    return bytes(data)


def _replace_word(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    words = bytes(data[:4096]).split()
    if not words:
        return bytes(data)
    return bytes(data).replace(rng.choice(words), rng.choice(TEXTS), rng.choice((1, -1)))


def _truncate(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    return bytes(data[: rng.randint(0, len(data))])


def _remove(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    del data[at : at + rng.choice((1, 4, 64, 1024))]
    return bytes(data)


def _repeat(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    piece = data[at : at + rng.choice((1, 8, 128))]
    data[at:at] = piece * rng.choice((1, 2, 50))
    return bytes(data)


def _splice(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return bytes(data[: rng.randint(0, len(data))]) + other[rng.randint(0, len(other)) :]


def _replace_value(data: bytearray, rng: random.Random, others: list[bytes]) -> bytes:
    """Another value in a JSON file, which stays JSON; other files stay as they are."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return bytes(data)
    places: list[tuple[Any, Any]] = []
    open_ = [value] if isinstance(value, dict | list) else []
    while open_:
        inner = open_.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        places += [(inner, key) for key in keys]
        open_ += [inner[key] for key in keys if isinstance(inner[key], dict | list)]
    if not places:
        return bytes(data)
    inner, key = rng.choice(places)
    if rng.random() < 0.2:
        del inner[key]
    else:
        inner[key] = values.draw(key, rng)
    return json.dumps(value).encode()


CHANGES = (
    _flip, _overwrite, _insert, _replace_word, _truncate, _remove, _repeat, _splice, _replace_value,
)  # fmt: skip
