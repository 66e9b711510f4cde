"""Random numbers that depend on where they are used alone: no stream depends on another."""

import threading

import numpy as np

_local = threading.local()


def random_stream(seed, epoch, position, repeat):
    """The random numbers of one image in one epoch.

    A counter-based generator needs no history: these numbers are its key and its counter, and
    setting them takes a tenth of the time of making a generator. Streams of different arguments
    do not overlap within 2 ** 64 draws.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (SC11): Philox4x64.

    Args:
        seed: int, 0 or above.
        epoch: int, 0 or above.
        position: int, 0 or above, the image's position in the samples.
        repeat: int, 0 or above, how often the epoch has drawn the image before.

    Returns:
        `numpy.random.Generator`, valid until the same thread's next call: never keep it.

    Example:

    ```python
    random_stream(seed=0, epoch=3, position=17, repeat=0).random(2)
    ```
    """
    if not hasattr(_local, "generator"):
        _local.generator = np.random.Generator(np.random.Philox(0))
        # That of a new generator, which has no numbers left over from drawing others
        _local.state = _local.generator.bit_generator.state
    state = _local.state
    state["state"]["key"][:] = seed, 0
    state["state"]["counter"][:] = 0, epoch, position, repeat
    _local.generator.bit_generator.state = state
    return _local.generator
