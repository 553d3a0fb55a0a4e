"""Other forms of a checkpoint: `safetensors` to hand to others, `int8` for a CPU."""
