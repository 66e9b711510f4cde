"""Tools for data sets and results, one a file, each a mode of run.py."""
