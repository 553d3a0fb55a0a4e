"""Reads and writes the files of a job, in a folder of this machine or at an address (fsspec)."""

import contextlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ..errors import UserError
from ..files import locked, sync_folder, write_json, writing_to

ATTEMPTS = 4  # of what a network may refuse for a while; 1, 2 and 4 s lie between them
Result = TypeVar("Result")


def is_address(text: str | Path) -> bool:
    """Returns whether a text is `s3://...` or another address, not a path of this machine."""
    return "://" in str(text)


def names_a_folder(out: str) -> bool:
    """Returns whether `--out` names a folder: one that is there, `x/`, or without a suffix."""
    return out.endswith("/") or not Path(out).suffix or Path(out).is_dir()


def filesystem_of(address: str) -> tuple[Any, str]:
    """Returns fsspec's file system of an address or path, and the path in it.

    Raises:
        UserError: an unknown protocol, or one whose package is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        raise UserError(f"{address}: {error}; pip install 'mmact-tiny[remote]'") from None
    except Exception as error:  # each file system has its own
        raise UserError(f"{address}: {error}") from None


def persist(what: str, call: Callable[[], Result]) -> Result:
    """Calls over a network, several times where it fails.

    Raises:
        FileNotFoundError, PermissionError: at once.
        UserError: it failed to the last.
    """
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # each file system has its own
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            if attempt + 1 < ATTEMPTS:
                time.sleep(2**attempt)
    raise UserError(f"{what} cannot be reached: {reason}; run it again to go on")


class Store:
    """A folder of this machine, or at an address. A file in it is whole or absent."""

    def __init__(self, address: str | Path) -> None:
        self.is_local = not is_address(address)
        self.address = str(Path(address).absolute() if self.is_local else address).rstrip("/")
        self._fs, self._root = filesystem_of(self.address)
        self._mine = f".{os.getpid()}-{uuid.uuid4().hex[:12]}"

    def __str__(self) -> str:
        return self.address

    def names(self) -> set[str]:
        """Returns the names of the files that are there; hidden ones are left out."""
        try:
            paths = persist(self.address, lambda: self._fs.ls(self._root, detail=False))
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise UserError(f"cannot read {self}: {error.strerror or error}") from None
        names = {path.rstrip("/").rpartition("/")[2] for path in paths}
        return {name for name in names if not name.startswith(".")}

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Opens a file to read.

        Raises:
            UserError: it is not there, or cannot be read.
        """
        path = f"{self._root}/{name}"
        try:
            with persist(f"{self}/{name}", lambda: self._fs.open(path, "rb")) as file:
                yield file
        except OSError as error:
            raise UserError(f"cannot read {self}/{name}: {error.strerror or error}") from None

    def write(self, name: str, write: Callable[[Path], Result]) -> Result:
        """Has `write` fill a local file, and puts it in the place of that name, as a whole.

        Several processes, on several machines, may write the same name at once.
        """
        target = Path(self.address, name)
        with contextlib.ExitStack() as stack:
            folder = self.address
            if not self.is_local:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mmact_tiny-"))
            mine = Path(folder, self._mine).with_suffix(target.suffix)
            try:
                result = write(mine)
            except UserError as error:
                raise UserError(str(error).replace(str(mine), f"{self}/{name}")) from None
            with writing_to(target):
                if self.is_local:
                    mine.replace(target)
                    sync_folder(target.parent)
                else:
                    put = f"{self._root}/{name}"
                    persist(f"{self}/{name}", lambda: self._fs.put_file(str(mine), put))
        return result

    def read_json(self, name: str) -> Any:
        """Returns what a JSON file holds, None where it is not there."""
        if name not in self.names():
            return None
        with self.open(name) as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise UserError(f"cannot read {self}/{name}: {error}") from None

    def write_json(self, name: str, value: Any) -> None:
        """Writes plain values."""
        self.write(name, lambda path: write_json(path, value))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Holds other processes off while a job is begun; at an address nothing does."""
        return locked(Path(self.address, "job")) if self.is_local else contextlib.nullcontext()
