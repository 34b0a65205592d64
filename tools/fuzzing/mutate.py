"""Damage to bytes as disks, networks and people do it, from a seeded generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]
NUMBERS = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0")


def place(random: Random, data: bytes) -> int:
    """Any place, headers more often than the rest."""
    return random.randrange(min(len(data), 64) if random.random() < 0.4 else max(len(data), 1))


def chunk(random: Random, data: bytes) -> tuple[int, int]:
    start = place(random, data)
    return start, min(len(data), start + random.choice((1, 2, 4, 8, 32, 256, 4096)))


def flip(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        changed[place(random, data)] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: place(random, data)]


def splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return data[: place(random, data)] + other[place(random, other) :]


def duplicate(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = chunk(random, data)
    return data[:end] + data[start:end] * random.choice((1, 1, 3, 50)) + data[end:]


def delete(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = chunk(random, data)
    return data[:start] + data[end:]


def number(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, value = place(random, data), random.choice(NUMBERS)
    return data[:start] + value + data[start + len(value) :]


def noise(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = chunk(random, data)
    return data[:start] + random.randbytes(end - start) + data[end:]


MUTATIONS: tuple[Mutation, ...] = (flip, truncate, splice, duplicate, delete, number, noise)


def mutated(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to three kinds of damage, one after the other; perhaps nothing is left."""
    for _ in range(random.choice((1, 1, 2, 3))):
        data = random.choice(MUTATIONS)(random, data or b"\0", others)
    return data
