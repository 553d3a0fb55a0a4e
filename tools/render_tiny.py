"""Renders the bundled clips of data/tiny again, or others like them with another seed.

    python tools/render_tiny.py --out data/tiny

They are short clips of four actions, drawn with NumPy and encoded with libx264. A clip is a
function of (seed, split, action, index). All but the action (size, place, speed, colours,
background, frame size, length) is a function of (seed, split, index): each look comes once in
every class, so that ten clips a class teach the shape and nothing else. Coordinates are in short
sides of the frame, y downwards, with the origin in the middle.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmact_tiny.cli import make_parser, tool
from mmact_tiny.files import writing_to

SEED = 2024  # of the committed clips
NUM_CLIPS = {"train": 10, "val": 4}  # in each class
FPS = 15
CRF = "30"  # about 18 KB a clip
FRAME_SIZES = ((128, 176), (128, 160), (144, 176), (120, 160), (160, 128), (176, 144))  # h, w

Mask = np.ndarray  # (h, w) float, 0 to 1


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

    extra: int  # 0, 1 or 2: wider apart
    ratio: float  # 0 to 1: thin to thick
    direction: int  # -1 or 1


def bouncing_ball(grid: Grid, phase: float, style: Style) -> Mask:
    """Returns one large ball on its parabola between two bounces."""
    radius = 0.36 + 0.04 * style.ratio
    height = 1 - (2 * (phase % 1) - 1) ** 2
    y = 0.16 - (0.22 + 0.03 * style.extra) * height
    x = 0.12 * style.direction * np.sin(np.pi * phase)
    return grid.fill(np.hypot(grid.x - x, grid.y - y) - radius)


def falling_rain(grid: Grid, phase: float, style: Style) -> Mask:
    """Returns long thin streaks that fall in close columns, each column at its own height."""
    gap, length = 0.07 + 0.008 * style.extra, 0.35 + 0.15 * style.ratio
    column = np.floor(grid.x / gap)
    offset = (column * 0.618034) % 1  # spreads the columns' starts evenly
    along = (grid.y / length - phase + offset) % 1
    across = np.abs(grid.x / gap - column - 0.5) * gap
    streaks = np.maximum(across - 0.017, (along - 0.8) * length)
    return grid.fill(streaks)


def rising_bubbles(grid: Grid, phase: float, style: Style) -> Mask:
    """Returns discs of one size that rise in staggered columns and sway."""
    gap = 0.22 + 0.02 * style.extra
    column = np.floor(grid.x / gap)
    sway = 0.02 * style.direction * np.sin(2 * np.pi * phase)
    x = (grid.x / gap - column - 0.5) * gap + sway
    y = ((grid.y / gap + phase + 0.5 * (column % 2)) % 1 - 0.5) * gap
    return grid.fill(np.hypot(x, y) - gap * (0.33 + 0.05 * style.ratio))


def waving_flag(grid: Grid, phase: float, style: Style) -> Mask:
    """Returns a large striped flag; a wave runs through it."""
    wave = 0.05 * np.sin(2 * np.pi * (1.2 * grid.x * style.direction - phase))
    y = grid.y - wave
    stripe = 0.15 + 0.02 * style.extra
    cloth = np.maximum(np.abs(grid.x) - 0.62, np.abs(y) - 0.5 - 0.08 * style.ratio)
    stripes = np.maximum(cloth, np.abs(y % (2 * stripe) - stripe) - stripe / 2)
    return grid.fill(stripes)


# Each covers about two fifths of the frame, so that the mean colour does not tell them apart.
ACTIONS: dict[str, Callable[[Grid, float, Style], Mask]] = {
    "bouncing ball": bouncing_ball,
    "falling rain": falling_rain,
    "rising bubbles": rising_bubbles,
    "waving flag": waving_flag,
}


def background(rng: np.random.Generator, grid: Grid) -> Mask:
    """Returns how the background mixes its two colours: plain, a slope, a glow, hills or clouds."""
    slope = grid.moved(0, 0, 1, rng.uniform(0, 2 * np.pi)).x
    x, y, level = rng.uniform(-0.4, 0.4, 3)
    waves = sum(
        np.sin(rng.uniform(2, 6) * grid.x + rng.uniform(2, 6) * grid.y + rng.uniform(0, 6))
        for _ in range(3)
    )
    patterns = (
        np.full_like(slope, level + 0.5),
        np.clip(slope + 0.5, 0, 1),
        np.clip(np.hypot(grid.x - x, grid.y - y), 0, 1),
        grid.fill(level + 0.15 * np.sin(5 * grid.x + 9 * x) - grid.y),
        np.clip(0.5 + waves / 4, 0, 1),
    )
    return patterns[rng.integers(len(patterns))]


def pick_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns two background colours, (2, 3), and one of the object, (3,), RGB 0 to 255.

    Hues are free; the object is lighter than the background, by about the same in each clip.
    """
    luma = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

    def color(lightness: float) -> np.ndarray:
        tint = rng.uniform(-60, 60, 3)
        return np.clip(lightness + tint - tint @ luma, 0, 255)

    dark = rng.uniform(60, 90)
    return np.stack([color(dark), color(dark + 20)]), color(dark + rng.uniform(95, 120))


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
    size = rng.uniform(0.8, 1.1, 2)  # grows or shrinks
    tilt, turns = rng.uniform(-0.12, 0.12), rng.uniform(0.4, 1.0)
    first_phase = rng.uniform()
    draw = list(ACTIONS.values())[label]
    for frame in range(num_frames):
        done = frame / (num_frames - 1)
        x_middle, y_middle = start + (end - start) * done
        seen = grid.moved(x_middle, y_middle, size[0] + (size[1] - size[0]) * done, tilt)
        mask = draw(seen, first_phase + turns * frame / FPS, style)[..., None]
        image = still + (paint - still) * mask
        yield np.rint(image).astype(np.uint8)


def clip_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """Returns the source of one clip's look, the same for the four actions."""
    return np.random.default_rng([seed, list(NUM_CLIPS).index(split), index])


def encode_clip(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Writes RGB frames as H.264 in MP4.

    One thread and x264's plain C code, so that the bytes do not depend on the processor: with
    AVX-512 code the same frames gave several encodings on one machine.
    """
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(
            "libx264",
            rate=Fraction(FPS),
            options={"crf": CRF, "preset": "slower", "x264-params": "asm=0"},
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
                encode_clip(path, render_clip(label, clip_rng(seed, split, index)))
                lines.append(f"{path.name} {label}\n")
                paths.append(path)
        (root / f"{split}.txt").write_text("".join(lines))
    (root / "label_map.txt").write_text("".join(f"{action}\n" for action in ACTIONS))
    return paths


@tool
def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the dataset")
    parser.add_argument(
        "--seed", type=int, default=SEED, help="default: %(default)s, that of the committed clips"
    )
    args = parser.parse_args(argv)
    with writing_to(args.out):
        paths = render_dataset(args.out, args.seed)
    num_bytes = sum(path.stat().st_size for path in paths)
    print(f"{len(paths)} clips in {args.out}, {num_bytes / 1e6:.2f} MB")


if __name__ == "__main__":
    raise SystemExit(main())
