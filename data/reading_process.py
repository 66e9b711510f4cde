"""What runs in a process that reads images for a training: `reading_processes` starts it."""

import os
import pickle
import signal
import socket
import sys
import threading
import traceback

import numpy as np

from common.errors import ImageError, RunError
from data.reading_processes import BAD, GOOD, LENGTH, receive


def main():
    """Answers on each of the inherited sockets, whose numbers are the arguments, until its end."""
    # The training decides when to end; then the sockets end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threads = [
        threading.Thread(target=answer, args=(socket.socket(fileno=int(number)),), daemon=True)
        for number in sys.argv[2:]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def answer(connection):
    """Reads the images that the other side asks for.

    Each answer has the S * S * 3 bytes of the image, then `GOOD`, or `BAD` and what is wrong.

    Args:
        connection: `socket.socket`.
    """
    try:
        while True:
            reader, images = receive(connection)
            size = reader.preprocessing.size
            image = np.zeros((size, size, 3), np.uint8)
            for image_path, draw, content in images:
                ending = GOOD
                try:
                    reader.read(image_path, draw, image, content)
                except ImageError as error:
                    content = pickle.dumps((error.name, error.reason, error.code))
                    ending = BAD + LENGTH.pack(len(content)) + content
                connection.sendall(image)
                connection.sendall(ending)
    except (RunError, OSError):  # the training has ended, or sends nothing more
        return
    except BaseException:  # without this process the training says so, and ends
        traceback.print_exc()
        os._exit(1)
