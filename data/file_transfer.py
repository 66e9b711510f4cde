"""Files into a folder that is being made: copied, as further names of the same file, or moved."""

import errno
import os
import shutil

from common.errors import InputError


class Transfer:
    """Puts files into a folder; moved files leave their old place in `finish` and not before.

    So nothing is lost when a conversion fails halfway: until the new folder is complete, every
    file has its old name.

    Args:
        how: "copy", "link" (hard links) or "move".

    Example:

    ```python
    transfer = Transfer("move")
    transfer.put("photos/1.jpg", "new/1.jpg")
    transfer.finish()
    ```
    """

    def __init__(self, how):
        self.how = how
        self.moved = []

    def put(self, source, target):
        """Makes the file `target` of the file `source`.

        Raises:
            InputError: links are wanted, and the file system does not allow one.
        """
        if self.how == "copy":
            shutil.copyfile(source, target)
            return
        try:
            # The file that a symbolic link leads to, as the two other ways do
            os.link(os.path.realpath(source), target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            if self.how == "link":
                raise InputError(
                    f"--how: link: {source} cannot have another name in the target "
                    f"({error.strerror}); choose copy or move"
                ) from None
            shutil.copyfile(source, target)
        if self.how == "move":
            self.moved.append(source)

    def remove(self, source):
        """Marks a file that the new folder does not need: it goes when the moved ones go."""
        if self.how == "move":
            self.moved.append(source)

    def finish(self):
        """Deletes the old names of moved files; to be called when the new folder is complete."""
        for path in self.moved:
            os.unlink(path)
