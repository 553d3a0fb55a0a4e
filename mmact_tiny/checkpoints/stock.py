"""Routes MMEngine's reading and writing of checkpoints through ours, by its extension points."""

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import compat
from ..download import download, mirrored, published_hash
from ..errors import UserError
from ..files import write_atomically
from .load import load_checkpoint


@cache
def register() -> None:
    """Routes all of MMEngine's checkpoint loading through `load_checkpoint`; writes become atomic.

    `load_from`, `resume`, `init_cfg`, `pretrained` and the hooks all go through the schemes of
    `CheckpointLoader`; a scheme that we do not serve is refused. `Runner.save_checkpoint` and the
    config's dump go through the local file backend.
    """

    class AtomicLocalBackend(compat.LocalBackend):
        """Writes beside and renames."""

        def put(self, obj: bytes, filepath: str | Path) -> None:
            write_atomically(obj, filepath)

        def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
            write_atomically(obj.encode(encoding), filepath)

    ours = {
        "": load_checkpoint,
        "http://": load_from_http,
        "https://": load_from_http,
        "torchvision://": load_by_name,
        "modelzoo://": load_by_name,
        "mmcls://": load_by_name,
    }
    for prefix in {*compat.CheckpointLoader._schemes, *ours}:
        loader = ours.get(prefix, load_from_refused)
        compat.CheckpointLoader.register_scheme(prefix, loader=loader, force=True)
    compat.register_backend("local", AtomicLocalBackend, force=True, prefixes="")
    import mmengine.fileio.io

    mmengine.fileio.io.backend_instances.clear()


def fetch(url: str) -> Path:
    """Returns the local copy of a published file, downloaded on its first use.

    It lies where torch.hub puts its own, so that what stock MMEngine fetched is used again.
    """
    import torch

    try:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    except ValueError as error:
        raise UserError(f"cannot download {url}: {error}") from None
    return download(mirrored(url), path, sha256_prefix=published_hash(url))


def load_from_http(filename: str, map_location: Any = None) -> dict:
    """Downloads a file, once per machine, and loads it if its hash is the published one.

    Raises:
        UserError: not to be had, or not the file that was published.
    """
    path = fetch(filename) if compat.get_local_rank() == 0 else None
    compat.barrier()
    return load_checkpoint(path or fetch(filename), map_location)


def load_by_name(filename: str, map_location: Any = None) -> dict:
    """Looks a name of torchvision or MMClassification up in MMEngine's tables of addresses."""
    package, _, name = filename.partition("://")
    mmcls = package == "mmcls"
    addresses = compat.get_mmcls_models() if mmcls else compat.get_torchvision_models()
    if name not in addresses:
        raise UserError(f"{package} has no weights named {name!r}, asked for as {filename}")
    return load_from_http(addresses[name], map_location)


def load_from_refused(filename: str, map_location: Any = None) -> dict:
    """Refuses the addresses that stock MMEngine would unpickle from other places."""
    raise UserError(
        f"checkpoint {filename} is refused: expected a local file, an http(s):// or a "
        "torchvision:// address. Download it and give its path"
    )
