"""The folder of videos as people have them: every format, odd names, and every fault once."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from h264_videos import rotate
from video_files import (
    FORMATS,
    claim_frames,
    encode_again,
    truncate,
    write_audio,
    write_two_sizes,
    write_video,
)

from mmact_tiny.prepare.examine import examine
from mmact_tiny.prepare.types import Record

ODD_NAMES = ["two words.mp4", 'it\'s "quoted".mp4', "тест видео 动作.mp4", "100%.mp4", "a\nb.mp4"]


def write_classes(source: Path, numbers: range) -> Path:
    """Writes videos of the classes c0 and c1 in turn, named and drawn by their numbers."""
    for number in numbers:
        write_video(source / f"c{number % 2}" / f"{number}.mp4", seed=number)
    return source


def lists(out: Path) -> dict[str, list[str]]:
    """Returns the lines of a dataset's train.txt and val.txt."""
    return {s: (out / f"{s}.txt").read_text().splitlines() for s in ("train", "val")}


def make_messy(root: Path) -> None:
    """Writes 2 classes: 11 sound videos each, one of them AV1, and every fault once."""
    for class_index, name in enumerate(("clap hands", "wave")):
        folder = root / name
        for index, (codec, suffix) in enumerate(FORMATS):
            seed = 100 * class_index + index
            write_video(folder / f"{codec}{index}{suffix}", seed=seed, codec=codec)
        for index, odd in enumerate(ODD_NAMES):
            write_video(folder / odd, seed=100 * class_index + 50 + index)
    bad = root / "wave"
    (bad / "empty.mp4").touch()
    (bad / "text.mp4").write_text("no video")
    write_audio(bad / "audio.mp4")
    truncate(write_video(bad / "cut.mkv", seed=300))
    truncate(write_video(bad / "cut.mp4", seed=301))
    write_video(bad / "one.mp4", seed=302, frames=1)
    write_two_sizes(bad / "sizes.mkv", seed=303)
    rotate(write_video(root / "clap hands" / "rotated.mp4", seed=304, height=80), 90)
    claim_frames(write_video(bad / "claims.avi", seed=305, codec="mjpeg"), 25)
    shutil.copy(root / "wave" / "two words.mp4", root / "wave" / "copy.mp4")
    (root / "wave" / "link.mp4").symlink_to(root / "wave" / "two words.mp4")
    encode_again(root / "wave" / "100%.mp4", root / "wave" / "again.avi")
    (root / "notes").mkdir()
    (root / "notes" / "read me.txt").write_text("not a class")
    (root / "clap hands" / ".hidden.mp4").touch()
    (root / "wave" / "broken link.mp4").symlink_to(root / "gone.mp4")
    (root / "wave" / "._wave.mp4").touch()
    (root / "wave" / "Thumbs.db").touch()
    (root / "wave" / "folder.mp4").mkdir()
    (root / "wave" / "loop").symlink_to(root)
    (root / "__MACOSX" / "wave").mkdir(parents=True)
    (root / "__MACOSX" / "wave" / "two.mp4").touch()
    (root / "files.txt").write_text("wave/two words.mp4\nwave/100%.mp4\n")
    os.mkfifo(root / "wave" / "pipe.mp4")
    write_video(root / "stray.mp4", seed=306)


def examine_or_fail(path: str, *arguments: Any) -> Record:
    """Examines a video, unless its name says to crash, to hang, or to end the process above."""
    name = Path(path).name
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in name:
        time.sleep(60)
    if "above" in name:
        os.kill(os.getppid(), signal.SIGKILL)
    return examine(path, *arguments)
