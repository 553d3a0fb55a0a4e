"""The overrides of decoding and of inference: how videos are read, and how a test computes."""

from ..compat.mm import Config
from ..errors import UserError
from ..pipeline import num_views
from ..video.frames import DECODERS, with_decoder
from .registry import OVERRIDES, add_hook, set_pipeline, split_datasets, use_plugin

VIEWS_A_BATCH = 24


@OVERRIDES.register_module()
def decoder(cfg: Config, name: str = "packets") -> None:
    """Chooses how training and validation decode the videos that no clip cache has.

    Args:
        name: `packets`, which decodes only what the frames need, or `decord`; same pixels.
    """
    _check_decoder(name)
    for split, dataset in split_datasets(cfg):
        pipeline = dataset.get("pipeline") or []
        if split != "test" and not any(step["type"] == "CachedVideo" for step in pipeline):
            set_pipeline(cfg, split, dataset, with_decoder(pipeline, name))
    if name == "packets":
        use_plugin(cfg, "mmact_tiny.video.frames")


@OVERRIDES.register_module()
def inference(
    cfg: Config, precision: str = "fp32", engine: str = "torch", decoder: str = "packets"
) -> None:
    """Chooses the engine and the decoder of testing; the scores in fp32 are stock's.

    Args:
        precision: `fp32`, `bf16`, `fp16` (CUDA) or `auto`.
        engine: `torch`, `openvino` or `auto`.
        decoder: `packets`, which decodes only what the frames need, or `decord`.
    """
    _check_decoder(decoder)
    loader = cfg.test_dataloader
    set_pipeline(cfg, "test", loader.dataset, with_decoder(loader.dataset.pipeline, decoder))
    clips, crops = num_views(loader.dataset.pipeline)
    loader.batch_size = max(loader.batch_size, VIEWS_A_BATCH // (clips * crops))
    use_plugin(cfg, "mmact_tiny.video.frames")
    use_plugin(cfg, "mmact_tiny.hooks")
    add_hook(cfg, "EngineHook", precision=precision, engine=engine)


def _check_decoder(name: str) -> None:
    if name not in DECODERS:
        raise UserError(f"decoder {name!r}: expected {' or '.join(DECODERS)}")
