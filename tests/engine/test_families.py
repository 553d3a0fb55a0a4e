"""The engine's scores are stock's for every family of MMAction2's recognizers."""

from pathlib import Path

import numpy as np
import pytest
from families import FAMILIES, build_family, family_views
from models import check_scores, scores_of, stock_scores

from mmact_tiny.engine.engine import Engine
from mmact_tiny.errors import UserError

# A network of random weights that amplifies rounding, of bfloat16 more than others.
ROUGH = {"TSM, MobileNetV2": 0.15}


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_of_a_family_are_stocks(name: str) -> None:
    model, videos = build_family(name), family_views(name, num_videos=2, num_views=3)
    alone = (model.test_cfg or {}).get("max_testing_views")  # which wants one video in a batch
    expected = []
    for index in range(2) if alone else [slice(None)]:
        part = {key: [each[index]] if alone else each[index] for key, each in videos.items()}
        np.random.seed(0)  # of the frames that TRN draws
        expected.append(stock_scores(model, part))
    for precision, within in (("fp32", 1e-5), ("bf16", ROUGH.get(name, 0.05))):
        engine = Engine(build_family(name), precision=precision)
        engine._chunk_pixels = 2 * FAMILIES[name].frames * FAMILIES[name].size ** 2
        passes: list[int] = []
        engine.before_chunk = lambda passes=passes: passes.append(1)
        np.random.seed(0)
        got = scores_of(engine.test_step(family_views(name, num_videos=2, num_views=3)))
        check_scores(got, np.concatenate(expected), within=within)
        assert engine.name == "torch" and len(passes) == 4  # two views, then one, of each video
        assert engine.precision == "fp32" or np.abs(got - np.concatenate(expected)).max() > 1e-5


def test_auto_is_no_slower_precision() -> None:
    assert Engine(build_family("TSN, DenseNet"), engine="auto").name == "torch"  # not traced alike
    for name in ("TimeSformer, divST", "TIN"):
        assert Engine(build_family(name), precision="auto").precision == "fp32"


CLIPS = [name for name in FAMILIES if not name.startswith(("TSN", "TRN", "TSM", "TIN", "TANet"))]

QUICK = ("TPN", "MViT", "SlowOnly", "X3D", "VideoMAE", "TimeSformer, divST")  # to export


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n.startswith(QUICK) else pytest.mark.slow) for n in CLIPS],
)
def test_openvino_has_the_scores_of_a_family_or_says_why_not(name: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    model, refused = build_family(name), name.startswith(("TPN", "MViT"))
    if refused:
        with pytest.raises(UserError, match=r"does not convert|takes each frame by itself"):
            Engine(model, engine="openvino")
        return
    videos = [family_views(name, num_videos=2, num_views=2) for _ in range(3)]
    if (model.test_cfg or {}).get("max_testing_views"):
        model.test_cfg = None  # for stock, which wants one video in a batch
    expected = stock_scores(model, videos[0])
    for data in videos[1:]:  # the second engine reads what the first one kept
        engine = Engine(model, engine="auto", cache_dir=tmp_path)
        assert str(engine) == "openvino, fp32"
        check_scores(scores_of(engine.test_step(data)), expected)
    assert len(list(tmp_path.glob("openvino-*.xml"))) == 1
    with pytest.raises(
        UserError, match="int8: it runs 2D recognizers whose backbone takes each frame by itself"
    ):
        Engine(model, precision="int8", engine="auto")
