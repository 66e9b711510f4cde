"""Lets this project's files, and no library, find what Windows and macOS give them.

`environment(folder)` is the environment of a process that starts so: Python runs the text of this
file as `sitecustomize`, before anything else, in its children as well. Modules and signals that
Windows lacks are gone; folders cannot be opened or flushed; a file that is open, or mapped into
memory, can be neither replaced, renamed nor deleted; names that Windows reserves cannot be made;
text files need an encoding; the terminal is one of Western Europe.
"""

import builtins
import errno
import os
import select
import shutil
import signal
import sys
import tempfile
import types

ROOT = os.environ.get("OTHER_SYSTEM_ROOT", "")
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"}
OS_NAMES = {
    "fork", "forkpty", "posix_fallocate", "sched_getaffinity", "sched_setaffinity", "getuid",
    "geteuid", "getgid", "getpgid", "killpg", "setsid", "sysconf", "statvfs", "uname", "WNOHANG",
    "sync", "mkfifo", "nice", "chown", "pread", "sendfile", "O_NOFOLLOW", "O_DIRECTORY",
    "waitstatus_to_exitcode", "getloadavg", "wait", "confstr", "openpty", "fdatasync", "fchmod",
}
WINDOWS_SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}
SIGNAL_NAMES = {name for name in dir(signal) if name.startswith("SIG") and name.isalpha()} - {
    *WINDOWS_SIGNALS, "SIG_DFL", "SIG_IGN"} | {
    "pthread_sigmask", "sigwait", "setitimer", "alarm", "pause", "ITIMER_REAL", "siginterrupt"}
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt")
                                         for n in range(1, 10))}


def environment(folder):
    """The environment of a process on such a system; `folder` is an empty one for its start."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    shutil.copyfile(__file__, os.path.join(folder, "sitecustomize.py"))
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{root}", "OTHER_SYSTEM_ROOT": root,
            "PYTHONIOENCODING": "cp1252:strict", "PYTHONUTF8": "0"}


def is_ours(path):
    path = os.path.abspath(path or "/")
    return path.startswith(ROOT + os.sep) and not path.startswith(os.path.join(ROOT, ".venv"))


def refuse(number, path):
    raise OSError(number, os.strerror(number), path)


def check_name(path):
    """Refuses to make what Windows does not allow."""
    for part in os.fspath(path).split(os.sep):
        reserved = part.split(".")[0].rstrip().lower() in DEVICES
        if reserved or set(part) & set('\\:*?"<>|') or (part.strip(".") and part[-1] in ". "):
            refuse(errno.EINVAL, path)


def in_use():
    """The files that this process has open or mapped."""
    paths = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    with builtin_open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return paths | {line.rstrip("\n").split(maxsplit=5)[-1] for line in maps}


def check_free(path):
    """Refuses what is open, or has something in it that is."""
    path = os.path.realpath(path)
    for name in in_use():
        if name == path or name.startswith(path + os.sep):
            refuse(errno.EACCES, name)


def ours_open(path, mode="r", buffering=-1, encoding=None, *rest, **more):
    if is_ours(sys._getframe(1).f_code.co_filename) and isinstance(path, (str, os.PathLike)):
        if os.fspath(path).startswith("/proc/"):
            refuse(errno.ENOENT, path)
        assert "b" in mode or encoding, f"{path}: opened as text without an encoding"
        if mode[0] in "wxa":
            check_name(os.path.relpath(path))
        if os.path.isdir(path):
            refuse(errno.EACCES, path)
    return builtin_open(path, mode, buffering, encoding, *rest, **more)


class Without(types.ModuleType):
    """A module without some of its names, and with others in place of its own."""

    def __init__(self, module, gone, **changed):
        super().__init__(module.__name__)
        self.__dict__.update(changed)
        self.__dict__["_module"], self.__dict__["_gone"] = module, gone

    def __getattr__(self, name):
        if name in self.__dict__["_gone"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self.__dict__["_module"], name)

    def __setattr__(self, name, value):
        setattr(self.__dict__["_module"], name, value)


def os_open(path, flags, *rest, **more):
    if os.path.isdir(path):
        refuse(errno.EACCES, path)
    return os.open(path, flags, *rest, **more)


def fsync(descriptor):
    import fcntl

    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        refuse(errno.EBADF, str(descriptor))
    os.fsync(descriptor)


def rename(source, target):
    if os.path.lexists(target):
        refuse(errno.EEXIST, target)
    replace(source, target)


def replace(source, target):
    check_free(source)
    check_free(target)
    check_name(os.path.basename(target))
    if os.path.isdir(target):
        refuse(errno.EACCES, target)
    os.replace(source, target)


def unlink(path):
    check_free(path)
    os.unlink(path)


def make_folder(make):
    def made(path, *rest, **more):
        check_name(os.path.relpath(path))
        make(path, *rest, **more)

    return made


def readlink(path):
    refuse(errno.EINVAL if os.path.lexists(path) else errno.ENOENT, path)


def access(path, *rest):
    return not os.fspath(path).startswith("/proc/") and os.access(path, *rest)


def rmtree(path, ignore_errors=False, **more):
    try:
        check_free(path)
    except OSError:
        if ignore_errors:
            return
        raise
    shutil.rmtree(path, ignore_errors, **more)


class TemporaryDirectory(tempfile.TemporaryDirectory):
    def cleanup(self):
        if not self._ignore_cleanup_errors:
            check_free(self.name)
        super().cleanup()


def set_signal(number, handler):
    if signal.Signals(number).name not in WINDOWS_SIGNALS:
        raise ValueError("invalid signal value")
    return signal.signal(number, handler)


def import_module(name, scope=None, *rest, **more):
    if is_ours((scope or {}).get("__file__")):
        if name.split(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in REPLACED:
            return REPLACED[name]
    return builtin_import(name, scope, *rest, **more)


builtin_open, builtin_import = builtins.open, builtins.__import__
REPLACED = {
    "os": Without(os, OS_NAMES, name="nt", O_BINARY=0, open=os_open, fsync=fsync, rename=rename,
                  replace=replace, unlink=unlink, remove=unlink, mkdir=make_folder(os.mkdir),
                  makedirs=make_folder(os.makedirs), readlink=readlink, access=access),
    "signal": Without(signal, SIGNAL_NAMES, signal=set_signal),
    "select": Without(select, {"poll", "epoll", "kqueue"}),
    "shutil": Without(shutil, {"chown"}, rmtree=rmtree),
    "tempfile": Without(tempfile, set(), TemporaryDirectory=TemporaryDirectory),
}
if __name__ == "sitecustomize" and ROOT:
    builtins.__import__, builtins.open = import_module, ours_open
