"""The backbones that exist, and building a classifier on one."""
