"""The engine's scores are stock's for every family of MMAction2's recognizers."""

import importlib.util

import numpy as np
import pytest
from families import FAMILIES, build_family, family_views
from models import check_scores, scores_of, stock_scores

from mmact_tiny.engine.engine import Engine

NEEDS = {"TIN": "mmcv._ext"}  # its `tin_shift` is in the full mmcv alone
# Networks of random weights that amplify rounding, of bfloat16 more than others.
ROUGH = {"TRN": 0.15, "TSM, MobileNetV2": 0.15}


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_of_a_family_are_stocks(name: str) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"no {NEEDS[name]}")
    model, videos = build_family(name), family_views(name, num_videos=2, num_views=3)
    alone = (model.test_cfg or {}).get("max_testing_views")  # which wants one video in a batch
    expected = []
    for index in range(2) if alone else [slice(None)]:
        part = {key: [each[index]] if alone else each[index] for key, each in videos.items()}
        np.random.seed(0)  # TRN draws some sets of frames, in testing too
        expected.append(stock_scores(model, part))
    for precision, within in (("fp32", 1e-5), ("bf16", ROUGH.get(name, 0.03))):
        engine = Engine(build_family(name), precision=precision)
        engine._chunk_pixels = 2 * FAMILIES[name].frames * FAMILIES[name].size ** 2
        passes: list[int] = []
        engine.before_chunk = lambda passes=passes: passes.append(1)
        np.random.seed(0)
        got = scores_of(engine.test_step(family_views(name, num_videos=2, num_views=3)))
        check_scores(got, np.concatenate(expected), within=within)
        assert engine.name == "torch" and len(passes) == 4  # two views, then one, of each video
        assert precision == "fp32" or np.abs(got - np.concatenate(expected)).max() > 1e-5
