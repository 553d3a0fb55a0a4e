"""Starts and ends the server of the page: address, uploads' folder, examples, signals."""

import errno
import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from .. import dataset as datasets
from ..annotations import read_annotations
from ..errors import EXIT_INTERRUPTED, UserError
from ..recognizer import Recognizer
from ..video.files import find_videos, sample_of
from ..video.isolated import GuardedReader
from .answer import Answerer, examine
from .app import Example, LiveSource, Queue, Site, create_app

PLACES = 16  # requests at once: sending, waiting, or being recognized
MAX_EXAMPLES = 8
BUNDLED = Path(__file__).parents[2] / "data" / "tiny"
EXIT_TERMINATED = 143  # by SIGTERM, as the shell expects
END_SECONDS = 2.0  # for a recognition that Ctrl-C interrupts
logger = logging.getLogger("mmact_tiny")


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_mb: float = 200,
    max_seconds: float = 600,
    examples: str | Path | None = None,
    live: LiveSource | None = None,
    **recognizer: Any,
) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    Args:
        host: Name or address to bind to.
        port: Port; 0 takes a free one.
        max_mb: Size limit of an upload, in 10^6 bytes.
        max_seconds: Length limit of a video.
        examples: Folder of the videos to click, instead of one of each class.
        live: A stream to show with its labels.
        **recognizer: Arguments of `Recognizer`.

    Raises:
        UserError: a limit or an address that cannot be used, or what `Recognizer` raises.
    """
    for name, value in (("--max-mb", max_mb), ("--max-seconds", max_seconds)):
        if not value > 0:
            raise UserError(f"{name} {value:g}: expected a number above 0")
    queue = Queue(PLACES)
    ended = True
    # As Ctrl-C does, SIGTERM has to unwind the stack, so that the uploads' folder goes.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    try:
        with (
            listen(host, port) as listening,
            tempfile.TemporaryDirectory(prefix="mmact_tiny-uploads-") as folder,
        ):
            answerer = Answerer(Recognizer(**recognizer), max_seconds=max_seconds)
            try:
                found = list(find_examples(answerer.recognizer, examples))
                site = Site(answerer, queue, Path(folder), int(max_mb * 1e6), found, live)
                _announce(answerer.recognizer, host, listening)
                if live is not None:
                    live.start()
                server_of(create_app(site, host=host)).run(sockets=[listening])
            finally:
                answerer.close()
                ended = queue.close(END_SECONDS)
                ended = (live is None or live.close()) and ended
    except (KeyboardInterrupt, SystemExit) as end:
        if not ended:  # a forward pass that cannot be interrupted would be waited for
            print("interrupted", file=sys.stderr, flush=True)
            os._exit(EXIT_INTERRUPTED if isinstance(end, KeyboardInterrupt) else EXIT_TERMINATED)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; before the model is loaded, so that a mistake shows at once.

    Raises:
        UserError: no such host, or a port that is taken or may not be used.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: expected 0 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        both = family == socket.AF_INET6  # `::` takes IPv4 too
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except socket.gaierror as error:
        raise UserError(f"--host {host}: {error.strerror}") from None
    except OSError as error:
        words = f"cannot serve on port {port} of {host}: {os.strerror(error.errno or 0)}"
        if error.errno == errno.EADDRINUSE:
            words = (
                f"port {port} of {host} is taken: another program serves there\n"
                f"  choose another: --port {port + 1}, or a free one: --port 0"
            )
        raise UserError(words) from None


def server_of(app: FastAPI) -> uvicorn.Server:
    """Returns the server of an application; its `run` ends with a signal."""
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
    app.state.server = uvicorn.Server(config)  # so that requests see when it ends
    return app.state.server


def find_examples(recognizer: Recognizer, folder: str | Path | None) -> Iterator[Example]:
    """Yields the examples; warns of a video that does not do.

    Args:
        recognizer: Its config may name validation videos.
        folder: Videos to take instead.

    Raises:
        UserError: no such folder, or none of its files is a video.
    """
    if folder is None:
        named = _usual_examples(recognizer)
    else:
        named = [(video.stem, video) for video in find_videos([folder])]
        if len(named) > MAX_EXAMPLES:
            logger.info("examples: the first %d of %d videos", MAX_EXAMPLES, len(named))
    reader = GuardedReader(examine)
    for name, video in named[:MAX_EXAMPLES]:
        try:
            yield Example(name, video, reader(sample_of(video)).poster)
        except UserError as error:
            logger.warning("example %s left out: %s", video, error)
    reader.close()


def _usual_examples(recognizer: Recognizer) -> list[tuple[str, Path]]:
    """Returns a validation video of each class, or a bundled clip, with its label.

    None where neither the videos of the config nor the project's folder are on this machine.
    """
    dataset = (recognizer.cfg.get("val_dataloader") or {}).get("dataset", {})
    folder = dataset.get("data_prefix", {}).get("video", "")
    lists = [(dataset.get("ann_file") or "", folder, recognizer.labels)]
    if BUNDLED.is_dir():
        bundled = datasets.find_dataset(BUNDLED)
        val = bundled.splits["val"]
        lists.append((val.ann_file, val.video_dir, datasets.class_names(bundled)))
    found: dict[str, tuple[str, Path]] = {}
    for ann_file, folder, labels in lists:
        listed = read_annotations(ann_file) if Path(ann_file).is_file() else []
        for video, label in ((Path(folder, one.name), one.label) for one in listed):
            if label.isdecimal() and int(label) < len(labels) and video.is_file():
                found.setdefault(label, (labels[int(label)], video))
        if found:
            break
    return list(found.values())


def _announce(recognizer: Recognizer, host: str, listening: socket.socket) -> None:
    for name in ("checkpoint", "protocol", "engine"):
        logger.info("%s: %s", name, getattr(recognizer, name))
    address, port = listening.getsockname()[:2]
    if not ipaddress.ip_address(address).is_loopback:
        logger.warning("warning: --host %s lets anybody on the network use this server", host)
    shown = f"[{host}]" if ":" in host else host
    logger.info("page: http://%s:%d (Ctrl-C ends it)", shown, port)
