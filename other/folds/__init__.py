"""Cross-validation: which photos judge which fold, the folds' runs, and what they say together."""
