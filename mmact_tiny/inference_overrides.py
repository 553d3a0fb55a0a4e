"""The override of inference: how a test computes what its protocol asks for."""

from mmengine.config import Config

from .errors import UserError
from .overrides import OVERRIDES, add_hook, use_plugin
from .packets import DECODERS, with_decoder
from .protocol import num_views

VIEWS_A_BATCH = 24


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
    if decoder not in DECODERS:
        raise UserError(f"decoder {decoder!r}: expected {' or '.join(DECODERS)}")
    loader = cfg.test_dataloader
    stock = loader.dataset.pipeline
    loader.dataset.pipeline = with_decoder(stock, decoder)
    if cfg.get("test_pipeline") == stock:
        cfg.test_pipeline = loader.dataset.pipeline  # the copy that stock's inference reads
    clips, crops = num_views(loader.dataset.pipeline)
    loader.batch_size = max(loader.batch_size, VIEWS_A_BATCH // (clips * crops))
    use_plugin(cfg, "mmact_tiny.packets")
    use_plugin(cfg, "mmact_tiny.engine_hook")
    add_hook(cfg, "EngineHook", precision=precision, engine=engine)
