"""Options of the server.

`config/options.py` says what an `Option` is.
"""

from config.options import Option
from config.value_types import FOLDER, HOST, PATH, YES_NO, number, whole

SERVER_OPTIONS = (
    Option(
        name="host",
        type=HOST,
        default="127.0.0.1",
        help="address to listen on; any but the loopback address needs --token_file or --no_auth",
        group="Server",
    ),
    Option(
        name="port",
        type=whole(0, 65535),
        default=5001,
        help="port to listen on; 0 chooses a free one",
        group="Server",
    ),
    Option(
        name="token_file",
        type=PATH,
        default=None,
        help="file with the token that every request must send as `Authorization: Bearer TOKEN`",
        group="Server",
    ),
    Option(
        name="no_auth",
        type=YES_NO,
        default=False,
        help="accept requests without a token",
        group="Server",
    ),
    Option(
        name="max_batch",
        type=whole(1, 1024),
        default=16,
        unit="images",
        help="maximum number of images that the model computes at once",
        group="Server",
    ),
    Option(
        name="max_wait_ms",
        type=number(0, 1000),
        default=0.0,
        unit="milliseconds",
        help="maximum time that an image waits for others while the model is idle; 0 disables it",
        group="Server",
    ),
    Option(
        name="max_queue",
        type=whole(1, 100000),
        default=128,
        unit="images",
        help="maximum number of waiting images; further requests are refused (503)",
        group="Server",
    ),
    Option(
        name="time_limit",
        type=number(0, 3600, above=True),
        default=10.0,
        unit="seconds",
        help="maximum time that a request waits before it is dropped (504)",
        group="Server",
    ),
    Option(
        name="max_megabytes",
        type=number(0, 1024, above=True),
        default=10.0,
        unit="10^6 bytes",
        help="maximum size of a request body",
        group="Server",
    ),
    Option(
        name="max_megapixels",
        type=number(0, 200, above=True),
        default=25.0,
        unit="10^6 pixels",
        help="maximum size of an image",
        group="Server",
    ),
    Option(
        name="max_images",
        type=whole(1, 1024),
        default=16,
        unit="images",
        help="maximum number of images per request",
        group="Server",
    ),
    Option(
        name="keep_uncertain",
        type=FOLDER,
        default=None,
        default_text="no image is kept",
        help="folder in which images with a probability below --keep_below are kept for labelling",
        group="Server",
    ),
    Option(
        name="keep_below",
        type=number(0, 1),
        default=0.5,
        unit="probability",
        help="images are kept if their most probable class is less probable than this",
        group="Server",
    ),
    Option(
        name="keep_megabytes",
        type=number(0, 100000, above=True),
        default=500.0,
        unit="10^6 bytes",
        help="maximum size of all kept images; then no more are kept",
        group="Server",
    ),
)
