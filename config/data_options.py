"""Options about data: which images, how they are read, converted and checked.

`config/options.py` says what an `Option` is.
"""

from common.cpu import usable_cores
from config.options import Option
from config.value_types import (
    FOLDER,
    GROUP_RULE,
    IMAGE_DATA,
    PATH,
    SPLIT,
    YES_NO,
    choice,
    number,
    whole,
)

DATA_OPTIONS = (
    Option(
        name="train_data",
        type=IMAGE_DATA,
        default="../datasets/train_datasets",
        many=True,
        usually_one=True,
        help="training images: a folder with one subfolder per class; one of images, each with a "
        "label file (.txt) of the same stem; or a CSV with the columns path and label; several "
        "are taken together",
        group="Data",
        saved=True,
    ),
    Option(
        name="val_data",
        type=IMAGE_DATA,
        default=None,
        default_text="../datasets/val_datasets, if it exists, with the default --train_data; "
        "else --val_fraction of the training images",
        help="validation images, in any of the layouts of --train_data; a class may be missing",
        group="Data",
        saved=True,
    ),
    Option(
        name="val_fraction",
        type=number(0, 0.5, above=True),
        default=0.1,
        unit="fraction",
        help="fraction of the training images held out for validation if there is no --val_data",
        group="Data",
        saved=True,
    ),
    Option(
        name="group",
        type=GROUP_RULE,
        default=None,
        default_text="that of the data's splits.csv, else near copies alone stay together",
        help="what photos have in common that must not be split, since they come in series: the "
        "folder below that of their class, the EXIF date or camera, what a pattern finds in their "
        "paths (its first group), or a column of the CSV or of groups.csv in the folder",
        group="Data",
        saved=True,
    ),
    Option(
        name="attributes",
        type=PATH,
        default=None,
        default_text="no slices",
        help="CSV with a column path, relative to the data or to the CSV, and a column per "
        "attribute of the photos, such as camera or site, to see with which values the model is "
        "worse",
        group="Data",
    ),
    Option(
        name="unlabelled",
        type=FOLDER,
        default=None,
        many=True,
        usually_one=True,
        help="photos without labels, which are learned from what --teacher says of them: folders "
        "with all folders in them",
        group="Data",
        saved=True,
    ),
    Option(
        name="data",
        type=IMAGE_DATA,
        default=None,
        help="labelled images: one subfolder per class, label files or a CSV, as for --train_data",
        group="Data",
    ),
    Option(
        name="labels",
        type=PATH,
        default=None,
        default_text="label.json in the data folder; else the names of its subfolders, or the "
        "label.json of this project for label files",
        help="JSON file that maps class ids to class names",
        group="Data",
        saved=True,
    ),
    Option(
        name="max_bad",
        type=number(0, 1),
        default=0.01,
        unit="fraction",
        help="maximum fraction of undecodable images; training fails above it",
        group="Data",
        saved=True,
    ),
    Option(
        name="workers",
        type=whole(1, 256),
        default=min(16, usable_cores()),
        default_text="number of CPU cores, at most 16",
        unit="threads",
        help="number of threads that decode images; training has more than 4 in processes of 4",
        group="Data",
        saved=True,
        resumable=True,
    ),
    Option(
        name="data_time_limit",
        type=number(0, 100000),
        default=300.0,
        unit="seconds",
        help="maximum time to read a batch before training fails and names the file; 0 sets no "
        "limit",
        group="Data",
        saved=True,
        resumable=True,
    ),
    Option(
        name="cache_dir",
        type=FOLDER,
        default=None,
        default_text="photos in KERAS_HOME, or in ~/.keras",
        help="folder on a local disk for photos that come from an object store or a web server "
        "(s3://, gs://, az://, http://), so that later epochs need not ask for them again",
        group="Data",
        saved=True,
        resumable=True,
    ),
    Option(
        name="cache_gigabytes",
        type=number(0, 100000),
        default=10.0,
        unit="gigabytes",
        help="size of --cache_dir (10^9 bytes each); 0 keeps no photos",
        group="Data",
        saved=True,
        resumable=True,
    ),
    Option(
        name="source",
        type=FOLDER,
        default=None,
        help="folder with one subfolder of images per class",
        group="Data",
    ),
    Option(name="target", type=FOLDER, default=None, help="output folder", group="Data"),
    Option(
        name="how",
        type=choice("copy", "link", "move"),
        default="copy",
        help="how images get to --target: copied, hard-linked (a second name of the same file) or "
        "moved",
        group="Data",
    ),
    Option(
        name="split",
        type=SPLIT,
        default=None,
        default_text="no split, all images in one folder",
        unit="fractions",
        help="split into training, validation and optional test data: the folders "
        "train_datasets, val_datasets and test_datasets in --target",
        group="Data",
    ),
    Option(
        name="shares",
        type=SPLIT,
        default=None,
        default_text="those of the photos that have a part already; else 0.8,0.1,0.1",
        unit="fractions",
        help="shares of the parts train, val and, optionally, test in each class",
        group="Data",
    ),
    Option(
        name="part",
        type=choice("train", "val", "test", "all"),
        default=None,
        default_text="test where the data have a splits.csv, else all",
        help="part of the data to measure on, of those that --mode split assigns",
        group="Data",
    ),
    Option(
        name="shard_megabytes",
        type=whole(1, 100_000),
        default=256,
        unit="MB",
        help="size of a tar file, by that of the original photos",
        group="Data",
    ),
    Option(
        name="pack_size",
        type=whole(32, 16384),
        default=None,
        default_text="the bytes of the files",
        unit="pixels",
        help="shorter side of larger photos, which are encoded anew as JPEGs of quality 95",
        group="Data",
    ),
    Option(
        name="dry_run",
        type=YES_NO,
        default=False,
        help="print what would be done and change nothing",
        group="Data",
    ),
    Option(
        name="near_duplicates",
        type=YES_NO,
        default=True,
        help="also look for near duplicates: the same picture in another size, format, quality or "
        "brightness, mirrored or cropped a little",
        group="Data",
    ),
    Option(
        name="delete",
        type=YES_NO,
        default=False,
        help="delete the files permanently instead of moving them",
        group="Data",
    ),
    Option(
        name="undo",
        type=PATH,
        default=None,
        help="manifest of a quarantine folder; moves its files back to where they were",
        group="Data",
    ),
    Option(
        name="original",
        type=YES_NO,
        default=False,
        help="use the pixels of the original files, without resizing them to the model's input",
        group="Data",
    ),
    Option(
        name="unit_length",
        type=YES_NO,
        default=False,
        help="divide the features of each photo by their Euclidean length",
        group="Data",
    ),
    Option(
        name="image",
        type=PATH,
        default=None,
        many=True,
        help="image files, folders with all folders in them, or patterns such as 'photos/*.jpg'",
        group="Data",
    ),
)
