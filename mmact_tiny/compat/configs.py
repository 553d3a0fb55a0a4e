"""Finds config files, stock ones by their MMAction2 name, and reads them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError, suggest
from . import get_installed_path
from .mm import Config

STOCK_PREFIX = "mmaction::"
PROJECT = Path(__file__).resolve().parents[2]  # where configs/ lies


def read_config(config: str | Path) -> Config:
    """Returns a config as its file has it, no override applied; its plug-ins are imported.

    Raises:
        UserError: a missing or broken file, or one without a model.
    """
    path = resolve_path(config)
    with naming(config):
        cfg = Config.fromfile(path)
    if "model" not in cfg:
        raise UserError(f"config {config} has no `model`: is it a training config?")
    return cfg


@contextlib.contextmanager
def naming(config: str | Path) -> Iterator[None]:
    """Says which config an error is of: the file is the user's Python, anything can come of it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"config {config}: {type(error).__name__}: {error}") from error


def resolve_path(config: str | Path) -> Path:
    """Returns the file that a config argument means.

    Raises:
        UserError: no such file, with the names that are close.
    """
    text = str(config)
    if text.startswith(STOCK_PREFIX):
        root = stock_configs()
        path = root / text.removeprefix(STOCK_PREFIX)
        names = [str(found.relative_to(root)) for found in root.rglob("*.py")]
    else:
        path = Path(text).expanduser()
        if not path.is_file() and not path.is_absolute() and (PROJECT / path).is_file():
            path = PROJECT / path  # `configs/tsn_tiny.py` from any folder
        names = [f"configs/{found.name}" for found in (PROJECT / "configs").glob("*.py")]
    if not path.is_file():
        wrong = text.removeprefix(STOCK_PREFIX)
        raise UserError(f"no config {text}{suggest(wrong, names)}")
    if path.suffix not in (".py", ".json", ".yaml", ".yml"):
        raise UserError(f"config {text}: expected a .py, .json or .yaml file")
    return path


def stock_bases(config: str | Path) -> list[str]:
    """Returns the stock configs that a config starts from, as `mmaction::...`, directly or not.

    A dump names none: it carries those of the run in `stock_base`.
    """
    if str(config).startswith(STOCK_PREFIX):
        return [str(config)]
    path = resolve_path(config)
    found = []
    for base in Config._get_base_files(str(path)):
        within = base if base.startswith(STOCK_PREFIX) else path.parent / base
        if "::" not in base or base.startswith(STOCK_PREFIX):
            found += stock_bases(within)
    return found


def stock_configs() -> Path:
    """Returns the folder of the configs that MMAction2 installed."""
    return Path(get_installed_path("mmaction")) / ".mim" / "configs"
