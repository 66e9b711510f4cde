"""Names that files and folders can have on every system."""

import re

# What Windows keeps for devices, with any extension: con, con.txt and con.tar.gz
_DEVICES = {
    *("con", "prn", "aux", "nul", "conin$", "conout$"),
    *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\xb9\xb2\xb3"),
}
FORBIDDEN = '/\\:*?"<>|'  # characters that Windows allows in no name, with control characters


def is_portable(name):
    """bool, whether Windows, macOS and Linux allow a file or folder of this name.

    "Naming Files, Paths, and Namespaces" of Microsoft's documentation of Windows.

    Args:
        name: str, without the folder before it.

    Example:
        >>> is_portable("glass"), is_portable("aux.jpg"), is_portable("glass.")
        (True, False, False)
    """
    if not name or name[-1] in ". " or any(letter in FORBIDDEN or letter < " " for letter in name):
        return False
    return name.split(".")[0].rstrip(" ").lower() not in _DEVICES


def replace_forbidden(text):
    """A file name made of any text: runs of characters that a system forbids become "-".

    Args:
        text: str.

    Returns:
        str; it may still be a reserved name, or end with a dot.

    Example:
        >>> replace_forbidden("hub:bert/base")
        'hub-bert-base'
    """
    return re.sub(f"[{re.escape(FORBIDDEN)}\\0-\\x1f-]+", "-", text)
