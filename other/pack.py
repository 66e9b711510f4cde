"""Packs the photos of a data set into tar files with an index, and adds later ones."""

from tqdm import tqdm

from common import console
from config.mode_options import PackOptions
from data.packing import pack
from data.packing_plan import Packing


def main(options: PackOptions):
    """`--mode pack`."""
    packing = Packing(options.shard_megabytes, options.pack_size, options.seed)
    with tqdm(desc="packing", unit=" images", leave=False, disable=None) as bar:
        result = pack(
            options.data, options.target, packing, options.workers, options.labels, bar.update
        )
    console.show({"target": options.target, **result._asdict()}, _text, options.json)


def _text(result):
    return (
        f"{result['target']}: {result['photos']:,} photos in {result['shards']:,} shards, "
        f"{result['bytes'] / 1e6:,.1f} MB; {result['added']:,} photos are new, "
        f"{result['new_shards']:,} shards were written"
    )
