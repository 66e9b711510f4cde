"""How many of the photos that a model is measured on it was trained or validated on."""

import os

from common.console import say
from data.splitting import hash_samples
from evaluation.label_errors import trained_on
from runs import run_folder
from runs.margin_files import read_hashes, read_unlabelled


def tell(path, samples, workers=1):
    """Says how many of some photos a run knows, wherever they lie and whatever they are called.

    Args:
        path: str, the folder of a run, or of an exported model in its run.
        samples: `samples.Samples`, N images.
        workers: int, threads that read.

    Returns:
        (int, int), the photos trained on and those validated on; (0, 0) for a model without its
        run.

    Raises:
        InputError: what the run has recorded is damaged.
    """
    if not os.path.exists(os.path.join(path, run_folder.OPTIONS)):
        path = os.path.dirname(os.path.abspath(path))
        if not os.path.exists(os.path.join(path, run_folder.OPTIONS)):
            return 0, 0
    trained_hashes, validated_hashes = read_hashes(path)
    if trained_hashes or validated_hashes:
        hashes = hash_samples(samples, workers).tolist()
        learned_hashes = trained_hashes.keys() | read_unlabelled(path)
        trained = sum(value in learned_hashes for value in hashes)
        validated = sum(value in validated_hashes for value in hashes)
    else:  # a run of an earlier version
        trained, validated = int(trained_on(path, samples).sum()), 0
    if trained or validated:
        say(
            f"note: {path} was trained on {trained:,} of these {len(samples.file_names):,} photos "
            f"and validated on {validated:,}, on which it is better than on new ones"
        )
    return trained, validated
