"""The search of settings: its space, its study, its trials, and whether it has found anything."""
