"""Finds the same video under two names: byte for byte, or encoded again.

A video is compared by eight thumbnails of 9 x 8 pixels, at the same fractions of its length. Their
difference hashes (is a pixel brighter than the one to its right?) find the candidates, as
encodings at any size, rate and quality agree in nearly all of the 64 bits. Two takes of one
scene agree in many of them as well, so the change over time has to agree too.

Found are other codecs, qualities, sizes and frame rates; not found are mirrored, cropped
or cut videos.
"""

import numpy as np

# Measured on 40 filmed videos, each encoded twice more (H.264 crf 36 at 144 lines, MJPEG at 15
# frames/s and 120 lines), and on pairs of 2-second pieces of each: copies have 0 to 9 bits and
# a correlation of 0.95 or more in nearly all pairs; pieces of one scene reach 0.83, others 0.51.
MAX_DISTANCE = 14.0  # bits of 64, mean over the thumbnails
MIN_CORRELATION = 0.85  # of the thumbnails' change over time
STILL = 1.0  # mean change over time, of 255: where nothing moves the pictures have to agree
STILL_DISTANCE = 1.0
STILL_DIFFERENCE = 1.0  # of 255
LENGTH_TOLERANCE = 0.05
_NEIGHBOURS = 64  # of a video among those that share a part of a hash
_CHUNK = 4096  # pairs compared at once: 40 MB


def find_near_copies(thumbnails: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Returns the pairs i < j of videos that are the same: int64, shape (pairs, 2).

    Args:
        thumbnails: brightness, uint8, shape (videos, 8 thumbnails, 8 rows, 9 columns).
        seconds: length of each video.
    """
    bits = thumbnails[..., :-1] > thumbnails[..., 1:]  # the difference hash: 64 bits
    hashes = np.packbits(bits.reshape(*bits.shape[:2], 64), axis=-1).view(np.uint64)[..., 0]
    pairs = _candidates(hashes, seconds)
    chunks = np.split(pairs, range(_CHUNK, len(pairs), _CHUNK))
    return np.concatenate([chunk[_agree(chunk, hashes, thumbnails)] for chunk in chunks])


def group(count: int, pairs: np.ndarray) -> np.ndarray:
    """Returns for each of `count` items the smallest item that pairs connect it with."""
    smallest, before = np.arange(count), None
    while before is None or (smallest != before).any():
        before = smallest.copy()
        for one, other in (pairs.T, pairs.T[::-1]):
            np.minimum.at(smallest, one, smallest[other])
    return smallest


def _candidates(hashes: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Returns the pairs of like length and hashes: int64, shape (pairs, 2), in order.

    Compared are those that share 16 bits of a hash at one place: of 32 such parts, a video encoded
    again has some unchanged. Where very many share one (black, white), each meets the next 64.
    """
    count = len(hashes)
    found = np.empty(0, np.int64)
    for part in hashes.view(np.uint16).T:
        order = np.argsort(part, kind="stable")
        in_order = part[order]
        columns = [found]
        for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
            same = np.flatnonzero(in_order[step:] == in_order[:-step])
            if not len(same):
                break
            first, second = order[same], order[same + step]  # a stable sort: first < second
            lengths = np.stack([seconds[first], seconds[second]])
            tolerance = np.maximum(lengths.max(0) * LENGTH_TOLERANCE, 0.1)
            close = np.ptp(lengths, axis=0) <= tolerance
            first, second = first[close], second[close]
            close = _distance(hashes[first], hashes[second]) <= MAX_DISTANCE
            columns.append(first[close] * count + second[close])
        found = np.unique(np.concatenate(columns))
    return np.stack([found // max(count, 1), found % max(count, 1)], axis=1)


_BITS = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16)
_BITS = _BITS.sum(1, dtype=np.uint8)  # set in each 16-bit number


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the bits that differ, mean over the thumbnails, of pairs of (pairs, 8) hashes."""
    different = (first ^ second).view(np.uint16)
    return _BITS[different].sum(1, dtype=np.uint16) / first.shape[1]


def _agree(pairs: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Returns which of the pairs show the same video."""
    distance = _distance(hashes[pairs[:, 0]], hashes[pairs[:, 1]])
    values = thumbnails.reshape(*hashes.shape, 72)[pairs.T].astype(np.float32)
    difference = np.abs(values[0] - values[1]).mean((1, 2))
    change = values - values.mean(2, keepdims=True)
    strength = np.abs(change).mean((2, 3)).max(0)
    norms = np.sqrt((change**2).sum((2, 3))).prod(0)
    correlation = change.prod(0).sum((1, 2)) / np.maximum(norms, 1e-6)
    return np.where(
        strength < STILL,
        (distance <= STILL_DISTANCE) & (difference <= STILL_DIFFERENCE),
        (distance <= MAX_DISTANCE) & (correlation >= MIN_CORRELATION),
    )
