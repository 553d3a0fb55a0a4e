"""Cross-validation: divides a dataset's videos into folds, and joins what their runs give."""
