"""Pickles that no `pickle.dumps` writes: small files that take for ever to build."""

import struct


def nested_tuples() -> bytes:
    """A dict key that is a tuple of itself, 60 times over: hashing it takes 2**60 steps."""
    doubled = b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))
    return b"\x80\x02})" + doubled + b"K\x01s."


def copied_sets() -> bytes:
    """100,000 copies of one list of 10,000 numbers, made by calls of `set`."""
    numbers = b"]q\x00(" + b"".join(b"M" + struct.pack("<H", i) for i in range(10_000)) + b"e"
    calls = b"c__builtin__\nset\nh\x00\x85R" * 100_000
    return b"\x80\x02](" + numbers + calls + b"e."


def long1(number: int) -> bytes:
    """A pickled whole number of any size."""
    data = number.to_bytes((number.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


COLLIDING = [n * (2**61 - 1) for n in range(1, 60_001)]  # their hash is 0, each and all


def colliding_keys() -> bytes:
    """A dict of numbers that share their hash: each is compared with all before it."""
    return b"\x80\x02}(" + b"".join(long1(n) + b"K\x01" for n in COLLIDING) + b"u."


def colliding_set() -> bytes:
    items = b"".join(map(long1, COLLIDING))
    return b"\x80\x02}X\x01\x00\x00\x00ac__builtin__\nset\n](" + items + b"e\x85Rs."


def colliding_complex() -> bytes:
    """hash(complex) is hash(real) + 1000003 * hash(imag): as many of 0 as one likes."""
    pair = b"".join(
        b"h\x00G%bG%b\x86RK\x01" % (struct.pack(">d", -1000003.0 * n), struct.pack(">d", n))
        for n in range(1, 60_001)
    )
    named = b"c__builtin__\ncomplex\nq\x00"
    return b"\x80\x02}X\x01\x00\x00\x00a" + named + b"s(" + pair + b"u."


def deep_list() -> bytes:
    """A list in a list in a list, 10,000 times."""
    return b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 9999 + b"a" * 9998 + b"s."
