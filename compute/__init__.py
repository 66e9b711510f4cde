"""Keras, devices and processes."""
