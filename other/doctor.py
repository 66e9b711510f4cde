"""One page about this installation, to paste into a bug report."""


def main(options):
    """`--mode doctor`."""
    raise NotImplementedError
