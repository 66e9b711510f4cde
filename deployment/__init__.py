"""Serving an exported model over HTTP, and what calls it."""
