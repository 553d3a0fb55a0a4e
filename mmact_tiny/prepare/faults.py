"""Judges what was found about a video: whether it is left out, and what is worth knowing."""

from .types import Record, Verdict

# Videos may differ from their headers by this much: encoders round, containers guess.
_TOLERANCE = 0.05
_FRAMES_TOLERANCE = 2

# decord 0.6.0 (FFmpeg 4) has no AV1 decoder, and fails at the end of MPEG transport streams.
UNREAD_CODECS = {"av1"}
UNREAD_CONTAINERS = {"mpegts"}


def find_fault(record: Record, *, min_frames: int) -> Verdict | None:
    """Returns why a video has to be left out, or None."""
    if record["error"]:
        kind, _, detail = record["error"].partition(": ")
        return Verdict(kind, detail)
    frames, packets = record["frames"], record["packets"]
    expected = packets - record["discarded_packets"]
    if _falls_short(packets, record["header_frames"]):
        return Verdict(
            "truncated", f"the header says {record['header_frames']} frames, {packets} are there"
        )
    if record["header_frames"] is None and _ends_early(record):
        return Verdict(
            "truncated",
            f"the header says {record['header_seconds']:.1f} s, "
            f"the data ends after {record['end_seconds']:.1f} s",
        )
    if _falls_short(frames, expected):
        return Verdict("damaged", f"{frames} of {expected} frames can be decoded")
    if record["num_sizes"] > 1:
        return Verdict("variable size", f"frames of {record['num_sizes']} sizes")
    if frames < min_frames:
        return Verdict("too few frames", f"{frames}, at least {min_frames} are sampled")
    return None


def find_warnings(record: Record) -> list[Verdict]:
    """Returns what is unusual about a video that can be used."""
    warnings = []
    header, frames = record["header_frames"], record["frames"]
    if header is not None and header - record["discarded_packets"] != frames:
        warnings.append(Verdict("frame count", f"the header says {header}, {frames} were decoded"))
    if record["damaged_frames"]:
        warnings.append(Verdict("damaged frames", f"{record['damaged_frames']} of {frames}"))
    if record["rotation"]:
        warnings.append(Verdict("rotated", f"shown turned by {record['rotation']} degrees"))
    return warnings


def is_read_by_decord(record: Record) -> bool:
    """Returns whether the stock pipelines' decoder is known to read such a video."""
    return record["codec"] not in UNREAD_CODECS and record["container"] not in UNREAD_CONTAINERS


def _falls_short(count: int, expected: int | None) -> bool:
    return expected is not None and count < expected * (1 - _TOLERANCE) - _FRAMES_TOLERANCE


def _ends_early(record: Record) -> bool:
    if record["header_seconds"] is None or not record["end_seconds"] > 0:
        return False
    margin = _FRAMES_TOLERANCE / (record["fps"] or 25)
    return record["end_seconds"] < record["header_seconds"] * (1 - _TOLERANCE) - margin
