"""What a video contains, as a hash: read once, then remembered by path, size and time of change."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from .encode import ClipError


class SourceHashes:
    """Content hashes of videos, kept in a folder: one small file for each path, size and time.

    A video that was rewritten has another size or time of change, so it is read again. What the
    memory cannot see is a change that leaves both as they were.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, str] = {}

    def hash(self, video: str | Path) -> str:
        """Returns the BLAKE2b digest of a video's content and its size.

        Raises:
            ClipError: the file cannot be read.
        """
        try:
            path = Path(video).resolve(strict=True)
            status = path.stat()
            identity = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
            if identity not in self._known:
                self._known[identity] = self._recall(identity) or self._read(path, identity)
        except OSError as error:
            raise ClipError(f"cannot read {video}: {error.strerror}") from error
        return self._known[identity]

    def forget(self) -> None:
        """Drops what this object has in memory; the folder stays."""
        self._known.clear()

    def _note(self, identity: str) -> Path:
        name = hashlib.blake2b(os.fsencode(identity), digest_size=16).hexdigest()
        return self._folder / name[:2] / name

    def _recall(self, identity: str) -> str | None:
        try:
            text = self._note(identity).read_text()
        except OSError:
            return None
        digest, _, size = text.partition("-")
        whole = len(digest) == 32 and size == f"{int(identity.split(chr(0))[-2]):x}"
        return text if whole else None

    def _read(self, path: Path, identity: str) -> str:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
            text = f"{digest.hexdigest()}-{file.tell():x}"
        with contextlib.suppress(OSError):  # the memory saves time, no more
            note = self._note(identity)
            note.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=note.parent)
            try:
                os.write(descriptor, text.encode())
                Path(temporary).replace(note)
            finally:
                os.close(descriptor)
                Path(temporary).unlink(missing_ok=True)
        return text
