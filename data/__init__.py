"""From files on disk to uint8 rows, without Keras."""
