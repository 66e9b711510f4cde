"""Files into a folder that is being made: copied, as further names of the same file, or moved."""

import errno
import os
import shutil

from common.errors import InputError


class Transfer:
    """Puts files into a folder; what is moved leaves its old place in `finish` and not before.

    So nothing is lost when the conversion fails halfway: until the new folder stands, every
    file has its old name.

    Args:
        how: "copy", "link" (hard links) or "move".
    """

    def __init__(self, how):
        self.how = how
        self.moved = []

    def put(self, source, target):
        """Raises InputError where links are wanted and not possible."""
        if self.how == "copy":
            shutil.copyfile(source, target)
            return
        try:
            # A link's own file, as the other two ways take it
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
        """Lets a file that is not needed in the new place go with those moved."""
        if self.how == "move":
            self.moved.append(source)

    def finish(self):
        """The new folder stands: what was moved goes."""
        for path in self.moved:
            os.unlink(path)
