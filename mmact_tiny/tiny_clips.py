"""Renders `data/tiny`: short clips of four actions, drawn with NumPy and encoded with libx264.

A clip is a function of (seed, split, label, index): what moves is drawn over a background, and
everything but the shape (size, place, speed, colours, background, frame size, length) comes from
the same distribution in each class. Coordinates are in short sides of the frame, y downwards,
with the origin in the middle.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

SEED = 2024  # of the committed clips
NUM_CLIPS = {"train": 10, "val": 4}  # in each class
FPS = 15
CRF = "30"  # about 18 KB a clip
FRAME_SIZES = ((128, 176), (128, 160), (144, 176), (120, 160), (160, 128), (176, 144))  # h, w

Mask = np.ndarray  # (h, w) float, 0 to 1
Layers = list[tuple[Mask, int]]  # painted in order; the number chooses one of the two colours


class Grid(NamedTuple):
    """The coordinates of each pixel, and the width of a pixel."""

    x: np.ndarray
    y: np.ndarray
    pixel: float

    def fill(self, distance: np.ndarray) -> Mask:
        """Returns the mask of where the signed distance is negative, one pixel soft."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def moved(self, x: float, y: float, scale: float, angle: float = 0.0) -> "Grid":
        """Returns the grid seen from an object that is placed, scaled and turned (radians)."""
        u, v = (self.x - x) / scale, (self.y - y) / scale
        cos, sin = np.cos(angle), np.sin(angle)
        return Grid(cos * u + sin * v, cos * v - sin * u, self.pixel / scale)


class Style(NamedTuple):
    """What varies between two clips of one class; each shape reads it in its own way."""

    extra: int  # 0, 1 or 2: more balls, blades, rings or stripes
    ratio: float  # 0 to 1: thin to thick
    direction: int  # -1 or 1


def juggling_balls(grid: Grid, phase: float, style: Style) -> Layers:
    """Returns balls that follow each other round a ring, as in the shower pattern."""
    num_balls = 4 + style.extra
    radius = 0.115 + 0.035 * style.ratio
    layers = []
    for ball in range(num_balls):
        turn = 2 * np.pi * (style.direction * phase + ball / num_balls)
        x, y = 0.36 * np.cos(turn), 0.34 * np.sin(turn)
        layers.append((grid.fill(np.hypot(grid.x - x, grid.y - y) - radius), ball % 2))
    return layers


def spinning_windmill(grid: Grid, phase: float, style: Style) -> Layers:
    """Returns a rotor of wedge-shaped blades on a mast."""
    num_blades = 4 + style.extra
    sector = 2 * np.pi / num_blades
    radius = np.hypot(grid.x, grid.y)
    angle = np.arctan2(grid.y, grid.x) - 2 * sector * style.direction * phase
    off_axis = np.abs((angle + sector / 2) % sector - sector / 2)
    half_width = sector * (0.2 + 0.1 * style.ratio)
    blades = np.maximum((off_axis - half_width) * radius, radius - 0.48)
    mast = np.maximum(np.abs(grid.x) - 0.03, -grid.y)
    return [(grid.fill(mast), 1), (grid.fill(blades), 0), (grid.fill(radius - 0.07), 1)]


def spreading_ripples(grid: Grid, phase: float, style: Style) -> Layers:
    """Returns rings that start in the middle and grow."""
    gap = 0.5 / (3 + 0.5 * style.extra)
    radius = np.hypot(grid.x, grid.y)
    off_ring = np.abs((radius - phase * gap * 2) % gap - gap / 2)
    rings = np.maximum(off_ring - gap * (0.22 + 0.08 * style.ratio), radius - 0.5)
    return [(grid.fill(rings), 0)]


def waving_flag(grid: Grid, phase: float, style: Style) -> Layers:
    """Returns a striped flag on a pole; a wave runs through it."""
    x = grid.x * style.direction + 0.45  # from the pole
    wave = 0.09 * np.sin(2 * np.pi * (1.3 * x - phase)) * np.clip(2 * x, 0.3, 1)
    y = grid.y - wave
    half_height = 0.27 + 0.08 * style.ratio
    cloth = np.maximum(np.abs(x - 0.46) - 0.46, np.abs(y) - half_height)
    stripe = 2 * half_height / (5 + 2 * style.extra)
    odd = np.maximum(cloth, np.abs((y + half_height) % (2 * stripe) - stripe / 2) - stripe / 2)
    pole = np.maximum(np.abs(x) - 0.03, -grid.y - 0.5)
    return [(grid.fill(cloth), 0), (grid.fill(odd), 1), (grid.fill(pole), 1)]


ACTIONS: dict[str, Callable[[Grid, float, Style], Layers]] = {
    "juggling balls": juggling_balls,
    "spinning windmill": spinning_windmill,
    "spreading ripples": spreading_ripples,
    "waving flag": waving_flag,
}


def background(rng: np.random.Generator, grid: Grid) -> Mask:
    """Returns how the background mixes its two colours: one of five patterns."""
    slope = grid.moved(0, 0, 1, rng.uniform(0, 2 * np.pi)).x
    period = rng.uniform(0.15, 0.5)
    shift_x, shift_y = rng.uniform(0, 1, 2)
    column = np.floor(grid.x / period + shift_x)
    row = np.floor(grid.y / period + shift_y)
    coarse = rng.uniform(0, 1, (24, 24))
    patterns = (
        np.full_like(slope, shift_x),
        np.clip(slope + 0.5, 0, 1),
        (np.floor(slope / period + shift_x) % 2),
        (column + row) % 2,
        coarse[(row % 24).astype(int), (column % 24).astype(int)],
    )
    return patterns[rng.integers(len(patterns))]


def pick_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns two background and two object colours, (2, 3) each, RGB 0 to 255.

    The background's colours resemble each other, and the object's are lighter than both: what
    moves always stands out the same way, or ten clips a class are too few to learn from.
    """
    luma = np.array([0.299, 0.587, 0.114])
    while True:
        first, *objects = rng.uniform(0, 255, (3, 3))
        scene = np.stack([first, np.clip(first + rng.uniform(-50, 50, 3), 0, 255)])
        paint = np.stack(objects)
        if (paint @ luma).min() > (scene @ luma).max() + 60 and abs(
            paint[0] - paint[1]
        ) @ luma > 40:
            return scene, paint


def render_clip(label: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the frames of one clip, (h, w, 3) uint8 RGB, 2 to 4 seconds at `FPS`."""
    height, width = FRAME_SIZES[rng.integers(len(FRAME_SIZES))]
    short = min(height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    grid = Grid((x - width / 2) / short, (y - height / 2) / short, 1 / short)
    num_frames = int(rng.integers(2 * FPS, 4 * FPS + 1))
    scene, paint = pick_colors(rng)
    mix = background(rng, grid)[..., None]
    still = scene[0] * (1 - mix) + scene[1] * mix
    style = Style(int(rng.integers(3)), rng.uniform(), int(rng.choice((-1, 1))))
    start, end = rng.uniform(-0.1, 0.1, (2, 2))  # of the object's middle
    size = rng.uniform(0.7, 1.05, 2)  # grows or shrinks
    tilt, turns = rng.uniform(-0.25, 0.25), rng.uniform(0.4, 1.0)
    first_phase = rng.uniform()
    draw = list(ACTIONS.values())[label]
    for frame in range(num_frames):
        done = frame / (num_frames - 1)
        x_middle, y_middle = start + (end - start) * done
        seen = grid.moved(x_middle, y_middle, size[0] + (size[1] - size[0]) * done, tilt)
        image = still
        for mask, color in draw(seen, first_phase + turns * frame / FPS, style):
            image = image + (paint[color] - image) * mask[..., None]
        yield np.rint(image).astype(np.uint8)


def clip_rng(seed: int, split: str, label: int, index: int) -> np.random.Generator:
    """Returns the source of one clip's choices; no two clips of a dataset share it."""
    return np.random.default_rng([seed, list(NUM_CLIPS).index(split), label, index])


def encode_clip(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Writes RGB frames as H.264 in MP4; one thread, so that the bytes are always the same."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(FPS), options={"crf": CRF, "preset": "slower"}
        )
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def render_dataset(root: Path, seed: int = SEED) -> list[Path]:
    """Renders every clip below `root`, with the annotation files and the label map.

    Args:
        root: gets `train/`, `val/`, `train.txt`, `val.txt` and `label_map.txt`; files of these
            names are overwritten, others are left alone.
        seed: of the whole dataset.

    Returns:
        The clips' paths, in the order of the annotation files.
    """
    paths = []
    for split, num_clips in NUM_CLIPS.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        lines = []
        for label, action in enumerate(ACTIONS):
            for index in range(num_clips):
                path = root / split / f"{action.replace(' ', '_')}{index + 1}.mp4"
                encode_clip(path, render_clip(label, clip_rng(seed, split, label, index)))
                lines.append(f"{path.name} {label}\n")
                paths.append(path)
        (root / f"{split}.txt").write_text("".join(lines))
    (root / "label_map.txt").write_text("".join(f"{action}\n" for action in ACTIONS))
    return paths
