"""What an interrupted download leaves: the bytes so far, and how the server names the file."""

import json
import os
import re
from email.message import Message
from pathlib import Path


class Partial:
    """`FILE.part` beside the file to be, with `FILE.part.json` saying what it is a part of.

    The note holds the address, the whole size and the validator: the server's name for this very
    content, a strong ETag or else the date (RFC 9110, section 13.1.5).
    """

    def __init__(self, final: Path, url: str) -> None:
        self.final = final
        self.url = url
        self.path = final.with_name(f"{final.name}.part")
        self.note_path = final.with_name(f"{final.name}.part.json")

    def num_bytes(self) -> int:
        """Returns how many bytes are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def note(self) -> dict:
        """Returns what the server said at the start; {} if unreadable or of another address."""
        try:
            note = json.loads(self.note_path.read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) and note.get("url") == self.url else {}

    def start(self, headers: Message) -> None:
        """Begins from nothing, with the note for the file that these headers announce."""
        self.path.write_bytes(b"")  # first: a new note must never describe old bytes
        note = {"url": self.url, "size": whole_size(headers), "validator": validator(headers)}
        self.note_path.write_text(json.dumps(note))

    def resume_headers(self, *, provable: bool) -> dict[str, str]:
        """Returns the request headers that ask for the rest; {} where nothing could prove it.

        Args:
            provable: a hash of the whole file is known, so that a wrong rest would be noticed.
        """
        same = self.note().get("validator")
        if not self.num_bytes() or not (same or provable):
            return {}
        headers = {"Range": f"bytes={self.num_bytes()}-"}
        return headers | {"If-Range": same} if same else headers

    def continues(self, headers: Message) -> bool:
        """Returns whether a 206 answer goes on exactly where these bytes end, in the same file."""
        content_range = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
        if content_range is None or int(content_range[1]) != self.num_bytes():
            return False
        note, size, same = self.note(), whole_size(headers), validator(headers)
        return (not note.get("size") or not size or size == note["size"]) and (
            not note.get("validator") or not same or same == note["validator"]
        )

    def is_complete(self, headers: Message) -> bool:
        """Returns whether a 416 answer (nothing after these bytes) means that all of it is here."""
        return self.num_bytes() == (whole_size(headers) or self.note().get("size"))

    def discard(self) -> None:
        """Removes the bytes and the note."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Gives the file its name, once its bytes are on the disk."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.final)
        self.note_path.unlink(missing_ok=True)


def whole_size(headers: Message) -> int | None:
    """Returns the size of the whole file: after the slash of Content-Range, or Content-Length."""
    content_range = headers.get("Content-Range")
    size = content_range.rpartition("/")[2] if content_range else headers.get("Content-Length", "")
    return int(size) if size.isdigit() else None


def validator(headers: Message) -> str | None:
    """Returns what names this content for If-Range; a weak ETag may not be used there."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
