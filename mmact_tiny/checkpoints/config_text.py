"""Finds config files by name; reads a checkpoint's config as data; vets what configs may build.

MMEngine executes `meta['cfg']`, Python source, and its registry imports any dotted name that it
finds under `type` (`type='subprocess.Popen'`). We write JSON beside that text. Of older files the
text goes through `config_from_text`, and what will be built through `vet_config`.
"""

import ast
import contextlib
import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import compat
from ..compat import get_installed_path
from ..errors import UserError, suggest
from ..pipeline import SPLITS

if TYPE_CHECKING:
    from ..compat import Config

STOCK_PREFIX = "mmaction::"
PACKAGE = Path(__file__).resolve().parents[1]
# Where configs/ lies: in an installed package, and beside it in a checkout.
PROJECT = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent
MAX_TEXT = 2_000_000  # characters; MMAction2's longest config has 20,000
# Packages that a recognizer may have its backbone from, and the arguments that would load a file.
BACKBONE_OF = re.compile(r"(torchvision|timm|mmpretrain|mmcls)\.([A-Za-z]\w*)")
FILE_KEYS = {"weights", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
SCOPES = {None, "mmaction", "mmengine", "mmcv"}
OUR_MODULE = re.compile(r"mmact_tiny(\.\w+)*")
SEQUENCES: dict[str, Callable[[list], Any]] = {"__tuple__": tuple, "__set__": set, "__dict__": dict}


def config_to_json(config: dict) -> str:
    """Returns JSON of a config of plain data, from which `config_from_json` makes an equal one.

    Some of MMAction2's transforms tell a tuple from a list, so it is `{"__tuple__": [...]}`; a
    dict whose keys are not all text is `{"__dict__": [[key, value], ...]}`.

    Raises:
        TypeError: a value that is not plain data.
    """
    return json.dumps(_tagged(config))


def _tagged(value: Any) -> Any:
    if isinstance(value, dict):
        if all(type(key) is str and key not in SEQUENCES for key in value):
            return {key: _tagged(item) for key, item in value.items()}
        return {"__dict__": [[_tagged(key), _tagged(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple | set):
        items = [_tagged(item) for item in value]
        tag = {tuple: "__tuple__", set: "__set__"}.get(type(value))
        return {tag: items} if tag else items
    return value


def _untagged(value: dict) -> Any:
    (tag, *others) = value or [""]
    return SEQUENCES[tag](value[tag]) if tag in SEQUENCES and not others else value


def config_from_json(text: Any, *, source: str = "the checkpoint") -> dict:
    """Returns the config of `config_to_json`.

    Raises:
        UserError: it is something else.
    """
    try:
        config = json.loads(text, object_hook=_untagged)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"the config in {source} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"the config in {source} is not a dict")
    return config


def config_from_text(text: str, *, source: str = "the checkpoint") -> dict:
    """Returns the config that `Config.pretty_text` wrote, without running it.

    Assignments of literals, `dict(...)` calls, lists, tuples, sets, negative numbers and added
    strings are understood.

    Args:
        text: Python source.
        source: where it comes from, for the error.

    Raises:
        UserError: the line that is anything else.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise UserError(f"the config in {source} is not a text of at most {MAX_TEXT:,} characters")
    try:
        config = {}
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    config[name] = _literal(value)
                case _:
                    raise _refuse(statement)
        return config
    except SyntaxError as error:
        raise UserError(f"the config in {source} is not Python: {error}") from None
    except (ValueError, RecursionError, MemoryError, TypeError) as error:
        reason = str(error) or "it is nested too deeply"
        raise UserError(f"the config in {source} is not plain data: {reason}") from None


def _literal(node: ast.expr) -> Any:
    """Returns the value of an expression made of constants."""
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            first, second = _literal(left), _literal(right)
            if isinstance(first, str) and isinstance(second, str):
                return first + second
        case ast.List(elts=items):
            return [_literal(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_literal(item) for item in items)
        case ast.Set(elts=items):
            return {_literal(item) for item in items}
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_literal(k): _literal(v) for k, v in zip(keys, values, strict=True) if k}
        case ast.Call(func=ast.Name(id="dict"), args=args, keywords=keywords) if len(args) < 2:
            result = dict(_literal(args[0])) if args else {}
            if all(keyword.arg for keyword in keywords):
                return result | {str(k.arg): _literal(k.value) for k in keywords}
    raise _refuse(node)


def _refuse(node: ast.AST) -> ValueError:
    code = " ".join(ast.unparse(node).split())
    return ValueError(f"line {getattr(node, 'lineno', '?')}: {code[:80]!r}")


def vet_config(config: Any, *, source: str = "the checkpoint") -> Any:
    """Returns a copy of a config from a checkpoint that is safe to build.

    Types are checked as in `check_types`. What would fetch or load other files is switched off.

    Raises:
        UserError: see `check_types`; also a `_base_`, or an import of other modules than ours.
    """
    check_types(config, source=source)
    return without_downloads(config)


def without_downloads(node: Any) -> Any:
    """Returns a copy of a config whose model is built and initialized with random weights.

    Every `load_from` and every key with `pretrained` in it becomes None, or False where it was a
    bool; an `init_cfg` that loads a checkpoint is left out. A registered class is told so too
    where that stands in its signature only: `ResNetTSM(pretrained2d=True)` wants an address.
    """
    if isinstance(node, dict):
        node = {**node, **_asking_for_weights(node)}
        off = {
            key: False if isinstance(value, bool) else None
            for key, value in node.items()
            if key == "load_from" or "pretrained" in str(key)
        }
        return {
            key: off[key] if key in off else without_downloads(value)
            for key, value in node.items()
            if key != "init_cfg" or not any(find_downloads([value]))
        }
    if isinstance(node, list | tuple):
        return type(node)(without_downloads(item) for item in node)
    return node


def find_downloads(node: Any) -> Iterator[Any]:
    """Yields the weights that a model's config starts from: addresses, names, or True."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        if key in ("pretrained", "checkpoint") and value:
            yield value
        elif isinstance(value, dict | list | tuple):
            yield from find_downloads(value)


def _asking_for_weights(node: dict) -> dict[str, Any]:
    """Returns what the class of a node takes to ask for weights where the node does not say."""
    compat.MODELS.import_from_location()
    kind = node.get("type")
    found = compat.MODELS.module_dict.get(kind) if isinstance(kind, str) else kind
    return {
        name: parameter.default
        for name, parameter in _parameters(found)
        if "pretrained" in name and name not in node
        if parameter.default not in (None, False, parameter.empty)
    }


def _parameters(found: Any) -> Iterator[tuple[str, inspect.Parameter]]:
    """Yields what a class and its bases, or a function, take."""
    makers = [vars(base).get("__init__") for base in getattr(found, "__mro__", ())] or [found]
    for maker in makers:
        if inspect.isfunction(maker):
            yield from inspect.signature(maker).parameters.items()


def arguments_of(kind: Any) -> set[str]:
    """Returns the names that what is registered as `kind` takes, its bases' too."""
    found = [
        registry.module_dict[kind] for registry in _registries() if kind in registry.module_dict
    ]
    no = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {name for one in found for name, given in _parameters(one) if given.kind not in no}
    return named - {"self"}


def check_types(config: Any, *, source: str = "the checkpoint") -> None:
    """Checks that to build a config imports nothing: types are plain names, best registered ones.

    Raises:
        UserError: a `type` that MMEngine would import, an unknown scope, a `_base_`, or
            `custom_imports` of anything but `mmact_tiny` modules.
    """
    if isinstance(config, dict):
        for key, value in config.items():
            if reason := _objection(key, value):
                raise UserError(f"the config in {source} is refused: {reason}")
            if key == "backbone" and isinstance(value, dict) and _is_of_package(value):
                value = {key: item for key, item in value.items() if key != "type"}
            check_types(value, source=source)
    elif isinstance(config, list | tuple | set):
        for item in config:
            check_types(item, source=source)


def _is_of_package(backbone: dict) -> bool:
    """Returns whether a backbone is a model that another package lists, and loads no file."""
    named = BACKBONE_OF.fullmatch(str(backbone.get("type")))
    if named is None or FILE_KEYS & backbone.keys() or importlib.util.find_spec(named[1]) is None:
        return False
    if named[1] in ("torchvision", "timm"):
        home = importlib.import_module({"torchvision": "torchvision.models"}.get(named[1], "timm"))
        return named[2] in home.list_models()
    model = getattr(importlib.import_module("mmpretrain.models.backbones"), named[2], None)
    return isinstance(model, type) and named[2] != "TIMMBackbone"  # which takes any address


def _objection(key: Any, value: Any) -> str:
    """Returns what is wrong with one entry, or nothing."""
    if key == "type" and (not isinstance(value, str) or _would_import(value)):
        return f"type {value!r:.80} is not a plain name that MMAction2 or MMEngine registered"
    if key in ("_scope_", "default_scope") and value not in SCOPES:
        return f"{key} {value!r:.80} is not mmaction, mmengine or mmcv"
    if key == "_base_":
        return f"_base_ {value!r:.80} would read another config"
    if key == "custom_imports" and value is not None:
        modules = value.get("imports") if isinstance(value, dict) else value
        modules = [modules] if isinstance(modules, str) else modules
        for module in modules if isinstance(modules, list | tuple) else [modules]:
            if not isinstance(module, str) or not OUR_MODULE.fullmatch(module):
                return f"custom_imports of {module!r:.80}: only mmact_tiny's own are imported"
    return ""


def _would_import(name: str) -> bool:
    """Returns whether MMEngine would import a module to find what `name` means.

    It does so for dotted names, and for plain ones that are in no registry. Some of those are
    no components (`consensus=dict(type='AvgConsensus')`): fine, unless a module is called so.
    """
    if not name.isidentifier():
        return True
    if name in registered_names():
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return True


@cache
def registered_names() -> frozenset[str]:
    """Returns every name in MMEngine's and MMAction2's registries."""
    return frozenset(name for registry in _registries() for name in registry.module_dict)


def _registries() -> list[Any]:
    compat.register_all_modules(init_default_scope=False)
    import mmaction.registry
    import mmengine.registry

    registries = [*vars(mmengine.registry).values(), *vars(mmaction.registry).values()]
    return [one for one in registries if isinstance(one, mmengine.registry.Registry)]


def read_config(config: str | Path) -> "Config":
    """Returns a config as its file has it, no override applied; its plug-ins are imported.

    Raises:
        UserError: a missing or broken file, or one without a model.
    """
    path = resolve_path(config)
    with naming(config):
        cfg = compat.Config.fromfile(path)
        if path.suffix == ".json":  # maybe of `config_to_json`, with tuples
            text = json.dumps(cfg.to_dict())
            cfg = compat.Config(config_from_json(text, source=str(config)), filename=str(path))
    if "model" not in cfg:
        raise UserError(f"config {config} has no `model`: is it a training config?")
    for split in SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        # A TSM config of mmaction2 1.2.0 has these beside the dataset, and cannot be tested.
        for key in {"pipeline", "test_mode"} & set(loader if isinstance(loader, dict) else ()):
            loader.dataset[key] = loader.pop(key)
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

    Args:
        config: A path, the name of a config of ours, or `mmaction::` and the name of a stock
            config, with its folder or without.

    Raises:
        UserError: no such file, with the names that are close.
    """
    text = str(config)
    if text.startswith(STOCK_PREFIX):
        root, name, files = stock_configs(), text.removeprefix(STOCK_PREFIX), stock_files()
        named = None if "/" in name else files.get(Path(name).stem)
        path = named or root / f"{name.removesuffix('.py')}.py"
        names = [*files, *(str(found.relative_to(root)) for found in files.values())]
    else:
        path = Path(text).expanduser()
        ours = {found.stem: found for found in (PROJECT / "configs").glob("*.py")}
        if not path.is_file() and text.removeprefix("configs/").removesuffix(".py") in ours:
            path = ours[path.stem]  # `tsn_tiny` and `configs/tsn_tiny.py` from any folder
        names = [f"configs/{found.name}" for found in ours.values()]
        names = [*(names if "/" in text else ours)]
    if not path.is_file():
        raise UserError(f"no config {text}{_say_meant(text, names)}")
    if path.suffix not in (".py", ".json", ".yaml", ".yml"):
        raise UserError(f"config {text}: expected a .py, .json or .yaml file")
    return path


def _say_meant(text: str, names: list[str]) -> str:
    """Returns the config that a name may have meant, or some that have it in their names."""
    word, is_stock = text.removeprefix("mmaction").lstrip(":"), text.startswith(STOCK_PREFIX)
    stem = Path(word).stem
    if not is_stock and stem in stock_files():
        return f"; did you mean '{STOCK_PREFIX}{stem}'?"
    found = sorted(name for name in stock_files() if is_stock and word and word in name)
    if not found:
        return suggest(word, names)
    more = (
        f" and {len(found) - 3} more: python tools/download.py --list {word}" if found[3:] else ""
    )
    return f"; the name is part of {', '.join(found[:3])}{more}"


def shown_name(cfg: "Config") -> str:
    """Returns the file of a config, a stock one as `mmaction::NAME`."""
    path = Path(str(cfg.filename))
    return f"{STOCK_PREFIX}{path.stem}" if stock_files().get(path.stem) == path else str(path)


def stock_bases(config: str | Path) -> list[str]:
    """Returns the stock configs that a config starts from, as `mmaction::...`, directly or not.

    A dump names none: it carries those of the run in `stock_base`.
    """
    path = resolve_path(config)
    if str(config).startswith(STOCK_PREFIX):
        return [f"{STOCK_PREFIX}{path.relative_to(stock_configs())}"]
    found = []
    for base in compat.Config._get_base_files(str(path)):
        within = base if base.startswith(STOCK_PREFIX) else path.parent / base
        if "::" not in base or base.startswith(STOCK_PREFIX):
            found += stock_bases(within)
    return found


def published_config(checkpoint: Path) -> Path | None:
    """Returns the stock config of a published file, by its name; None for another file.

    A file that is not named for its config is looked up in the metafiles.
    """
    published = re.fullmatch(r"(.+)_\d{8}-[0-9a-f]{8}", checkpoint.stem)
    if published is None:
        return None
    configs = stock_files()
    if published[1] in configs:
        return configs[published[1]]
    metafiles = "".join(path.read_text() for path in stock_configs().glob("*/*/metafile.yml"))
    entry, found, _ = metafiles.partition(f"/{checkpoint.name}\n")
    model = entry.rpartition("Name: ")[2].split()[0].removesuffix("_infer") if found else ""
    return configs.get(model)


@cache
def stock_files() -> dict[str, Path]:
    """Returns the configs that MMAction2 installed, by name; their bases are left out."""
    files = stock_configs().rglob("*.py")
    return {path.stem: path for path in files if "_base_" not in path.parts}


def stock_configs() -> Path:
    """Returns the folder of the configs that MMAction2 installed."""
    return Path(get_installed_path("mmaction")) / ".mim" / "configs"
