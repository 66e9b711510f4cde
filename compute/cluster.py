"""Several processes, on one machine or many, that train together on JAX's distributed runtime."""

import atexit
import hashlib
import os
import socket
import subprocess
import sys
import time

import numpy as np

from common.errors import InputError, RunError

CONNECT_SECONDS = 60  # until the coordinator must be reachable
START_SECONDS = 300  # until all processes must have started
HEARTBEAT_SECONDS = 30  # without one, a process counts as lost; JAX's own default is 100
SHUTDOWN_SECONDS = 600  # how long the others wait while process 0 writes what is left
LOST_PROCESS = (
    "another process of this training has ended or cannot be reached; --resume continues from "
    "the last complete checkpoint, with any number of processes"
)
MISSING_PROCESS = f"not all processes started within {START_SECONDS} s"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# Words in JAX's errors when another process is gone: from its exchange between processors
# (Gloo), its coordination service, NCCL
LOST_PROCESS_WORDS = (
    "gloo",
    "connection",
    "unavailable",
    "deadline",
    "heartbeat",
    "coordination",
    "barrier",
    "nccl",
    "aborted",
)


def join(coordinator, processes, process, gpus=()):
    """Makes this process one of several; call it before JAX has computed anything.

    Args:
        coordinator: str, HOST:PORT of process 0, or None if a launcher provides all settings.
        processes: int, number of processes, or None likewise.
        process: int, index of this process, from 0, or None likewise.
        gpus: tuple of int, indices of the GPUs that this process uses; if empty, all that it
            sees, or under a launcher the one with the process's index on this machine.

    Raises:
        InputError: the port is taken, or the launcher does not provide enough.
        RunError: the other processes do not start, or cannot be reached.
    """
    import jax

    settings = {}
    if gpus:
        settings["local_device_ids"] = list(gpus)
    elif coordinator is None and os.environ.get("CUDA_VISIBLE_DEVICES", ",").isdigit():
        # The launcher shows this process one GPU only; JAX would choose by the process's
        # index on the machine among all of the machine's.
        settings["local_device_ids"] = [0]
    if coordinator is not None:
        settings.update(
            coordinator_address=coordinator,
            num_processes=processes,
            process_id=process,
            cluster_detection_method="deactivate",
        )
        if coordinator.rpartition(":")[0] in LOOPBACK:
            # JAX would listen on every address of the machine.
            settings["coordinator_bind_address"] = coordinator
        if process == 0:
            check_port(coordinator)
        else:
            wait_for_address(coordinator, CONNECT_SECONDS)
    # Otherwise JAX takes SIGTERM for a notice of preemption and continues.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
            **settings,
        )
    except ValueError as error:
        hint = "; jax[k8s] asks Kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else ""
        raise InputError(
            "--coordinator: is missing, and the launcher does not provide it: "
            f"{first_line(error)}{hint}"
        ) from None
    except RuntimeError as error:  # what JAX's own errors are
        raise RunError(f"{MISSING_PROCESS}: {first_line(error)}") from error


def check_port(address):
    """Refuses a port on which process 0 cannot listen.

    The host may be a name that only the other machines know, or the address of a proxy before
    this machine: JAX listens on all addresses of this machine, except that for a loopback
    address it listens on that alone.

    Args:
        address: str, HOST:PORT.

    Raises:
        InputError: the port is taken or not allowed.
    """
    host, _, port = address.rpartition(":")
    is_loopback = host in ("localhost", "127.0.0.1")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1" if is_loopback else "", int(port)))
    except OSError as error:
        raise InputError(
            f"--coordinator: process 0 cannot listen at {address}: {error.strerror}; give a free "
            "port of this machine"
        ) from None


def wait_for_address(address, seconds):
    """Waits until a process listens at an address.

    Args:
        address: str, HOST:PORT.
        seconds: float, the longest time to wait.

    Raises:
        RunError: no process listens there within `seconds`.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    while True:
        try:
            seconds_left = max(0.1, deadline - time.monotonic())
            socket.create_connection((host.strip("[]"), int(port)), timeout=seconds_left).close()
            return
        except (OSError, UnicodeError) as error:  # the second: not a possible host name
            if time.monotonic() + 0.5 > deadline:
                reason = getattr(error, "strerror", None) or error
                raise RunError(
                    f"--coordinator: {address} cannot be reached, tried for {seconds:g} s "
                    f"({reason}); process 0 must run there, and its port must be open"
                ) from None
            time.sleep(0.5)


def check_agreement(values, process):
    """Refuses processes that were started with different options or see different data.

    Every process has to call it.

    Args:
        values: dict of name -> value that must be the same in every process.
        process: int, index of this process.

    Raises:
        InputError: in every process; names the values that differ.
    """
    from jax.experimental import multihost_utils

    digests = [
        hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).digest()[:8]
        for value in values.values()
    ]
    own_digests = np.frombuffer(b"".join(digests), np.uint8).reshape(len(values), -1)
    all_digests = np.asarray(multihost_utils.process_allgather(own_digests))
    is_different = (all_digests != all_digests[0]).any(axis=2)  # (processes, values)
    if is_different.any():
        value_names = [name for name, some in zip(values, is_different.any(axis=0)) if some]
        others = ", ".join(map(str, np.flatnonzero(is_different.any(axis=1))[:10]))
        own_values = ", ".join(f"{name} is {values[name]}" for name in value_names[:3])
        raise InputError(
            f"the processes were started differently: process {others} differs from process 0 in "
            f"{', '.join(value_names[:10])}; in process {process}, {own_values}"
        )


def explain(error):
    """The error to raise in place of one that may come from a lost process.

    Args:
        error: exception that ended the training of this process.

    Returns:
        `RunError` of one line if JAX lost another process, whose own error takes pages;
        otherwise `error`.
    """
    message = str(error).lower()
    # JAX's are RuntimeErrors or ValueErrors; the project's own and those of files are clear.
    is_foreign = isinstance(error, (RuntimeError, ValueError))
    is_foreign = is_foreign and not isinstance(error, (InputError, RunError))
    has_sign = any(word in message for word in LOST_PROCESS_WORDS)
    if is_foreign and has_sign and "resource_exhausted" not in message:
        return RunError(f"{LOST_PROCESS} ({first_line(error)})")
    return error


def first_line(error):
    """The first line of an error's message, at most 200 characters.

    Args:
        error: exception.

    Returns:
        str, not empty.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def exit_without_waiting(error):
    """Lets this process, when it exits, neither notify the other processes nor wait for them.

    They notice by themselves. JAX would wait for them, or end this process with pages of its own.

    Args:
        error: exception that ends this process; decides its exit status.
    """
    status = 1
    if isinstance(error, (InputError, RunError)):
        status = error.status
    elif isinstance(error, KeyboardInterrupt):
        status = 130
    elif isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 1

    def exit_now():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(exit_now)  # runs before JAX's, which was registered earlier


class Witness:
    """A context with a process that says why this one ended, if that happens outside Python.

    JAX ends a process that has lost another one from C++, with lines for its developers. The
    witness waits on a pipe; when that closes, it writes the last reason that it received.

    Example:
        >>> with Witness() as witness:
        ...     witness.expect(MISSING_PROCESS)
        ...     join("10.0.0.1:9876", processes=2, process=1)
    """

    SCRIPT = "import sys\nsys.stderr.write(sys.stdin.read().rpartition('\\f')[2])"

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", self.SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process
        )
        return self

    def expect(self, reason):
        """Sets the reason to write if this process ends without one of its own.

        Args:
            reason: str, one line.
        """
        self.process.stdin.write(f"\frun.py: this process was ended: {reason}\n")
        self.process.stdin.flush()

    def __exit__(self, *error):
        self.process.stdin.write("\f")
        self.process.stdin.close()
        self.process.wait()
