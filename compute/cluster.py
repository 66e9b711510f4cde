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

FIND_SECONDS = 60  # for the coordinator to be reached
COME_SECONDS = 300  # for all processes to come
SILENCE_SECONDS = 30  # after which a process counts as lost; JAX's own default is 100
FINISH_SECONDS = 600  # that the others wait while process 0 writes what is left
LOST = (
    "another process of this training has ended or cannot be reached; the last complete "
    "checkpoint stands, and --resume goes on with it, with any number of processes"
)
NOT_FOUND = f"not all of the processes came within {COME_SECONDS} s"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# What errors of JAX say where another process is gone: its exchange on processors (Gloo), its
# coordination service, NCCL
SIGNS = (
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
    """Makes this process one of several; before JAX has computed anything.

    Args:
        coordinator: HOST:PORT of process 0, or None where a launcher tells everything.
        processes, process: how many, and which of them this is; None likewise.
        gpus: numbers of the GPUs that this process takes; empty is those it sees, or under a
            launcher that of its place on the machine.

    Raises:
        InputError: the port is taken, or the launcher does not tell enough.
        RunError: the others do not come, or cannot be reached.
    """
    import jax

    settings = {}
    if gpus:
        settings["local_device_ids"] = list(gpus)
    elif coordinator is None and os.environ.get("CUDA_VISIBLE_DEVICES", ",").isdigit():
        # JAX would take the GPU of this process's place among those of the machine, of which
        # the launcher shows it one.
        settings["local_device_ids"] = [0]
    if coordinator is not None:
        settings.update(
            coordinator_address=coordinator,
            num_processes=processes,
            process_id=process,
            cluster_detection_method="deactivate",
        )
        host = coordinator.rpartition(":")[0]
        if host in LOOPBACK:
            # JAX would listen on every address of the machine.
            settings["coordinator_bind_address"] = coordinator
        if process == 0:
            check_port(coordinator)
        else:
            reach(coordinator, FIND_SECONDS)
    # It would take SIGTERM for a notice of the machine's and go on.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            initialization_timeout=COME_SECONDS,
            heartbeat_timeout_seconds=SILENCE_SECONDS,
            shutdown_timeout_seconds=FINISH_SECONDS,
            **settings,
        )
    except ValueError as error:
        raise InputError(
            f"--coordinator: is missing, and the launcher does not tell it: {first_line(error)}"
            + ("; jax[k8s] asks Kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else "")
        ) from None
    except RuntimeError as error:  # JAX's own errors are such
        raise RunError(f"{NOT_FOUND}: {first_line(error)}") from error


def check_port(address):
    """Refuses a port that cannot be listened on.

    The host may be a name that only the others know, or the address of a machine before this one:
    JAX listens on all addresses of this machine, but on loopback only where that is named.

    Raises:
        InputError: it is taken.
    """
    host, _, port = address.rpartition(":")
    own = host in ("localhost", "127.0.0.1")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1" if own else "", int(port)))
    except OSError as error:
        raise InputError(
            f"--coordinator: process 0 cannot listen at {address}: {error.strerror}; give a free "
            "port of this machine"
        ) from None


def reach(address, seconds):
    """Waits until something listens at an address.

    Raises:
        RunError: nothing does within `seconds`.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    while True:
        try:
            left = max(0.1, until - time.monotonic())
            socket.create_connection((host.strip("[]"), int(port)), timeout=left).close()
            return
        except (OSError, UnicodeError) as error:  # the second: a name that none can have
            if time.monotonic() + 0.5 > until:
                reason = getattr(error, "strerror", None) or error
                raise RunError(
                    f"--coordinator: {address} cannot be reached, tried for {seconds:g} s "
                    f"({reason}); process 0 has to run there, and its port be open"
                ) from None
            time.sleep(0.5)


def agree(values, process):
    """Refuses processes that were started with different options or see different data.

    Args:
        values: dict of name -> what has to be the same in every process.
        process: number of this process.

    Raises:
        InputError: in every process alike; names what differs.
    """
    from jax.experimental import multihost_utils

    digests = [
        hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).digest()[:8]
        for value in values.values()
    ]
    mine = np.frombuffer(b"".join(digests), np.uint8).reshape(len(values), -1)
    everyone = np.asarray(multihost_utils.process_allgather(mine))
    different = (everyone != everyone[0]).any(axis=2)
    if different.any():
        names = [name for name, some in zip(values, different.any(axis=0)) if some]
        others = [str(number) for number in np.flatnonzero(different.any(axis=1))]
        here = ", ".join(f"{name} is {values[name]}" for name in names[:3])
        raise InputError(
            f"the processes were started differently: process {', '.join(others[:10])} differs "
            f"from process 0 in {', '.join(names[:10])}; in process {process}, {here}"
        )


def plain(error):
    """What to raise in place of an error: of a lost process JAX tells at length."""
    text = str(error).lower()
    # Those of JAX are RuntimeErrors or ValueErrors; of ours and of files there is nothing to guess.
    foreign = isinstance(error, (RuntimeError, ValueError))
    foreign = foreign and not isinstance(error, (InputError, RunError))
    if foreign and any(sign in text for sign in SIGNS) and "resource_exhausted" not in text:
        return RunError(f"{LOST} ({first_line(error)})")
    return error


def first_line(error):
    """The beginning of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def leave_alone(error):
    """Ends this process, when it ends, without a word to the others and without waiting for them.

    They notice. JAX would wait for them, or end this process with a page of its own.
    """
    status = 1
    if isinstance(error, (InputError, RunError)):
        status = error.status
    elif isinstance(error, KeyboardInterrupt):
        status = 130
    elif isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 1

    def end():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(end)  # before JAX's, which was registered earlier


class Witness:
    """A process that says why when this one is ended from outside Python.

    JAX ends a process that has lost another from C++, with lines for its developers.
    The witness waits on a pipe; when that closes, it says the last thing it heard there.
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
        """What it says from now on if this process ends without a word."""
        self.process.stdin.write(f"\frun.py: this process was ended: {reason}\n")
        self.process.stdin.flush()

    def __exit__(self, *error):
        self.process.stdin.write("\f")
        self.process.stdin.close()
        self.process.wait()
