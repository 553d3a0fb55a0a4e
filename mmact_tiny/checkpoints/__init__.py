"""Checkpoints: read as data, matched with a model, and read and written so by MMEngine, too.

For others: `load` (`load_checkpoint`, `read_meta`), `weights` (`load_weights`, `match_weights`),
`config_text` (`vet_config`, `config_from_text`) and `stock` (`register`).
"""
