"""Compares a recognizer's scores on cached clips with those on the videos themselves.

    python benchmarks/cache_scores.py DIR [--checkpoint FILE] [--protocol val]

DIR is a dataset with a val split. Prints top-1 of both, the mean and the largest absolute score
difference, and how many videos changed their best class. Wanted: the same top-1, and a mean
difference under 0.02.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from mmact_tiny.annotations import read_annotations
from mmact_tiny.cache.cache import ClipCache
from mmact_tiny.cache.clip import CODECS
from mmact_tiny.dataset import find_dataset
from mmact_tiny.overrides.registry import apply_overrides
from mmact_tiny.recognizer import Recognizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--checkpoint", help="by default the best of the newest run")
    parser.add_argument("--protocol", default="val", choices=["val", "full"])
    parser.add_argument("--formats", nargs="+", default=list(CODECS), choices=list(CODECS))
    parser.add_argument("--split", default="val")
    args = parser.parse_args()
    split = find_dataset(args.data).splits[args.split]
    rows = read_annotations(split.ann_file)
    videos = [split.video_dir / row.path for row in rows]
    labels = np.array([int(row.label) for row in rows])
    recognizer = Recognizer(args.checkpoint, protocol=args.protocol)
    exact = np.stack([recognizer.scores(video) for video in videos])
    print(f"{recognizer.checkpoint}, {recognizer.protocol}, {len(videos)} videos")
    print(f"exact: top-1 {np.mean(exact.argmax(1) == labels):.4f}")
    for format in args.formats:
        with tempfile.TemporaryDirectory() as root:
            ClipCache(root, format=format).build_many(videos)
            cached = scores_from_cache(recognizer, videos, args.protocol, root, format)
        difference = np.abs(cached - exact)
        print(
            f"{format}: top-1 {np.mean(cached.argmax(1) == labels):.4f}, score difference "
            f"mean {difference.mean():.4f}, largest {difference.max():.4f}, "
            f"{np.sum(cached.argmax(1) != exact.argmax(1))} videos with another best class"
        )


def scores_from_cache(
    recognizer: Recognizer, videos: list[Path], protocol: str, root: str, format: str
) -> np.ndarray:
    """Returns the scores of cached clips, shape (videos, classes)."""
    from mmengine.dataset import Compose, pseudo_collate

    split = "test" if protocol == "full" else "val"
    cfg = recognizer.cfg.copy()
    override = dict(type="clip_cache", root=root, format=format, splits=[split], build=False)
    apply_overrides(cfg, [override])
    pipeline = Compose(cfg[f"{split}_dataloader"].dataset.pipeline)
    scores = []
    for video in videos:
        sample = pipeline(dict(filename=str(video), label=-1, start_index=0, modality="RGB"))
        with torch.inference_mode():
            result = recognizer.engine.test_step(pseudo_collate([sample]))[0]
        scores.append(result.pred_score.float().cpu().numpy())
    return np.stack(scores)


if __name__ == "__main__":
    main()
