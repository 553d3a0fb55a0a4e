"""Serves a page that recognizes the action in videos which people drop, choose or record."""

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import dataset as datasets
from ..errors import UserError
from ..recognizer import Recognizer
from ..video.files import find_videos, sample_of
from ..video.isolated import GuardedReader
from .glance import glance
from .same_origin import is_loopback

PLACES = 16  # requests at once: sending, waiting, or being recognized
MAX_EXAMPLES = 8
BUNDLED = Path(__file__).parents[2] / "data" / "tiny"
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143  # 128 + the signal, as the shell has it
END_SECONDS = 2.0  # for a recognition that Ctrl-C interrupts
logger = logging.getLogger("mmact_tiny")


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_mb: float = 200,
    max_seconds: float = 600,
    examples: str | Path | None = None,
    **recognizer: Any,
) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    Args:
        host: Name or address to bind to.
        port: Port; 0 takes a free one.
        max_mb: Size limit of an upload, in 10^6 bytes.
        max_seconds: Length limit of a video.
        examples: Folder of the videos to click. By default one of each class of the validation
            videos that the checkpoint's config names, else of the bundled clips.
        **recognizer: Arguments of `Recognizer`.

    Raises:
        UserError: the extra is not installed, a limit or an address that cannot be used, or what
            `Recognizer` raises.
    """
    for name, value in (("--max-mb", max_mb), ("--max-seconds", max_seconds)):
        if not value > 0:
            raise UserError(f"{name} {value:g}: expected a number above 0")
    _require_extra()
    from .app import Example, Site, create_app
    from .waiting_line import WaitingLine
    from .web_answer import Answerer

    line = WaitingLine(PLACES)
    ended = True
    try:
        with (
            _sigterm_as_exit(),
            listen(host, port) as listening,
            tempfile.TemporaryDirectory(prefix="mmact_tiny-uploads-") as folder,
        ):
            with _without_wandb():
                made = Recognizer(**recognizer)
            answerer = Answerer(made, max_seconds=max_seconds)
            try:
                site = Site(
                    answerer,
                    line,
                    folder=Path(folder),
                    max_bytes=int(max_mb * 1e6),
                    examples=[Example(*example) for example in find_examples(made, examples)],
                )
                _announce(made, host, listening)
                server_of(create_app(site, host=host)).run(sockets=[listening])
            finally:
                answerer.close()
                ended = line.close(END_SECONDS)
    except (KeyboardInterrupt, SystemExit) as end:
        if not ended:  # a forward pass that cannot be interrupted would be waited for
            print("interrupted", file=sys.stderr, flush=True)
            os._exit(EXIT_INTERRUPTED if isinstance(end, KeyboardInterrupt) else EXIT_TERMINATED)
        raise


@contextlib.contextmanager
def _without_wandb() -> Iterator[None]:
    """Has MMAction2 not import wandb, whose temporary folders a server ended at once leaves."""
    if "wandb" in sys.modules:
        yield
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["wandb"]


def _require_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import PIL  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install -e '.[web]'") from None


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; before the model is loaded, so that a mistake shows at once.

    Raises:
        UserError: no such host, or a port that is taken or may not be used.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: expected 0 to 65535")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except socket.gaierror as error:
        raise UserError(f"--host {host}: {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is taken: another program serves there\n"
                f"  choose another: --port {port + 1}, or a free one: --port 0"
            ) from None
        raise UserError(f"cannot serve on port {port} of {host}: {error.strerror}") from None
    return listening


def server_of(app: Any) -> Any:
    """Returns the `uvicorn.Server` of an application; its `run` ends with a signal."""
    import uvicorn

    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=20 * PLACES,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def find_examples(
    recognizer: Recognizer, folder: str | Path | None
) -> Iterator[tuple[str, Path, bytes]]:
    """Yields the name, the file and the poster of each example; warns of one that does not do.

    Args:
        recognizer: Its config may name validation videos.
        folder: Videos to take instead.

    Raises:
        UserError: no such folder, or none of its files is a video.
    """
    if folder is None:
        named = _validation_videos(recognizer) or _one_of_each_class(BUNDLED)
    else:
        videos = find_videos([folder])
        named = [(video.stem, video) for video in videos]
        if len(named) > MAX_EXAMPLES:
            logger.info("examples: the first %d of %d videos", MAX_EXAMPLES, len(named))
    look = GuardedReader(glance)
    for name, video in named[:MAX_EXAMPLES]:
        try:
            yield name, video, look(sample_of(video))["poster"]
        except UserError as error:
            logger.warning("example %s left out: %s", video, error)
    look.close()


def _validation_videos(recognizer: Recognizer) -> list[tuple[str, Path]]:
    """Returns a validation video of each class, where the config's data is on this machine."""
    dataset = (recognizer.cfg.get("val_dataloader") or {}).get("dataset", {})
    ann_file, prefix = dataset.get("ann_file"), dataset.get("data_prefix", {}).get("video", "")
    if not ann_file or not Path(ann_file).is_file():
        return []
    return _first_of_each_label(Path(ann_file), Path(prefix), recognizer.labels)


def _one_of_each_class(root: Path) -> list[tuple[str, Path]]:
    """Returns a validation video of each class of a dataset folder; none where it is not."""
    try:
        dataset = datasets.find_dataset(root)
    except UserError:
        return []
    val = dataset.splits["val"]
    return _first_of_each_label(val.ann_file, val.video_dir, datasets.class_names(dataset))


def _first_of_each_label(
    ann_file: Path, video_dir: Path, labels: Sequence[str]
) -> list[tuple[str, Path]]:
    found: dict[str, tuple[str, Path]] = {}
    for annotation in datasets.read_annotations(ann_file):
        video, label = video_dir / annotation.path, annotation.label
        known = label.isdecimal() and int(label) < len(labels)
        if known and label not in found and video.is_file():
            found[label] = (labels[int(label)], video)
    return list(found.values())


def _announce(recognizer: Recognizer, host: str, listening: socket.socket) -> None:
    logger.info("checkpoint: %s", recognizer.checkpoint)
    logger.info("protocol: %s", recognizer.protocol)
    logger.info("engine: %s", recognizer.engine)
    address, port = listening.getsockname()[:2]
    if not is_loopback(address):
        logger.warning("warning: --host %s lets anybody on the network use this server", host)
    shown = f"[{host}]" if ":" in host else host
    logger.info("page: http://%s:%d (Ctrl-C ends it)", shown, port)


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Makes SIGTERM unwind the stack, as Ctrl-C does, so that the uploads' folder goes."""

    def leave(number: int, frame: object) -> None:
        sys.exit(EXIT_TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
