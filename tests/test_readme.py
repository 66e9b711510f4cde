"""The READMEs' commands: each is run as a reader runs it, in order, on a few small photos."""

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from conftest import COLORS, ROOT, write_image

pytestmark = pytest.mark.training

README, CHINESE = "README.md", "README.zh-CN.md"
# Commands that a test cannot run, and why.
LEFT_OUT = {
    "bash sh/demo.sh": "installs packages and trains for minutes",
    "bash sh/test.sh": "is what runs this test",
    "python3.12 -m venv .venv": "makes the environment that this test runs in",
    ".venv/bin/python -m pip install -r requirements.txt": "downloads packages",
    ".venv/bin/python run.py --mode demo": "trains for minutes; tests/test_demo.py runs it",
    ".venv/bin/python run.py train --data photos --backbone EfficientNetLite0 --multigpu "
    "--batch_size 128 --scale_lr linear": "needs several GPUs",
    ".venv/bin/python run.py save_pb --multigpu": "exports what several GPUs have trained",
}
# audit and drift say with 3 that they found something.
STATUSES = {"audit": (0, 3), "drift": (0, 3)}
# A training of 30 epochs takes minutes; one epoch of all layers shows that the command works.
FEWER_EPOCHS = """import sys
sys.path.append({root!r})
from training import recipes
recipes.FEWEST_EPOCHS = recipes.MOST_EPOCHS = 1
"""
ADDRESS = ("127.0.0.1", 5001)
TIME_LIMIT = 300  # seconds for one command
WRONG, RIGHT = "photos/green/red.jpg", "photos/red/red.jpg"  # a photo with a wrong label


def commands(name):
    """The commands of a document's bash blocks, without comments."""
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        blocks = re.findall(r"^```bash\n(.*?)^```$", file.read(), re.M | re.S)
    lines = [re.sub(r"(^|\s+)#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


COMMANDS = [command for command in commands(README) if command not in LEFT_OUT]


def test_both_readmes_have_the_same_commands():
    assert commands(CHINESE) == commands(README)


def test_what_is_left_out_is_there():
    assert set(LEFT_OUT) <= set(commands(README))


class Reader:
    """A folder as the README assumes it, and the server that a reader has left running."""

    def __init__(self, folder):
        self.folder, self.server = folder, None
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True,
                                 check=True).stdout.splitlines()
        for name in {path.split("/")[0] for path in tracked} - {"save_h5_model", "log_file"}:
            os.symlink(os.path.join(ROOT, name), folder / name)
        python = folder / ".venv" / "bin" / "python"
        if os.path.exists(os.path.join(ROOT, ".venv", "bin", "python")):
            os.symlink(os.path.join(ROOT, ".venv"), folder / ".venv")
        else:  # the tests run in another environment
            python.parent.mkdir(parents=True)
            python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            python.chmod(0o755)
        for data, count, seed in (("photos", 14, 0), ("new_photos", 8, 1)):
            for label, (name, color) in enumerate(COLORS.items()):
                (folder / data / name).mkdir(parents=True)
                for number in range(count):
                    path = folder / data / name / f"img_{label}_{number}.jpg"
                    write_image(path, color, (80, 64), (seed, label, number))
        (folder / "ceramics").mkdir()
        for number in range(8):
            path = folder / "ceramics" / f"{number}.jpg"
            write_image(path, (220, 220, 60), (80, 64), (2, number))
        write_image(folder / WRONG, COLORS["red"], (80, 64), 8)
        write_image(folder / "photo.jpg", COLORS["red"], (80, 64), 9)
        hook = folder / "fewer_epochs" / "sitecustomize.py"
        hook.parent.mkdir()
        hook.write_text(FEWER_EPOCHS.format(root=ROOT))
        # Importing JAX, which some tests do, sets the second for the whole process.
        inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        self.environment = {**inherited, "PYTHONPATH": str(hook.parent), "no_proxy": ADDRESS[0],
                            "NO_PROXY": ADDRESS[0]}
        # drift compares with 20 validation photos or more: a tenth of these would be too few.
        self.run(".venv/bin/python run.py split --data photos --shares 0.4,0.5,0.1")

    def run(self, command):
        """Runs a command to its end; returns what it printed."""
        done = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIME_LIMIT)
        output = done.stdout.decode(errors="replace")
        mode = command.split("run.py ")[-1].split()[0]
        assert done.returncode in STATUSES.get(mode, (0,)), f"{command}\n{output}"
        return output

    def serve(self, command):
        """Starts the server and waits until it answers."""
        with open(self.folder / "server.log", "wb") as log:
            # bash gives its process to the last command: the id is the server's.
            self.server = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.folder,
                                           env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + TIME_LIMIT
        while not self._is_ready():
            log = (self.folder / "server.log").read_text(errors="replace")
            assert self.server.poll() is None, f"{command}\n{log}"
            assert time.monotonic() < deadline, f"{command} is not ready\n{log}"
            time.sleep(0.2)

    def _is_ready(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{ADDRESS[0]}:{ADDRESS[1]}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def stop(self):
        """Ends the server as Ctrl-C does."""
        if self.server:
            server, self.server = self.server, None
            server.send_signal(signal.SIGINT)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise

    def label(self, command):
        """Opens the page and ends it as Ctrl-C does."""
        environment = {**self.environment, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
        with subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.folder, text=True,
                              env=environment, stdout=subprocess.PIPE) as process:
            try:
                line = process.stdout.readline()
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(re.search(r"http://\S+", line)[0], timeout=20) as answer:
                    assert b"photos" in answer.read(), line
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 0
            finally:
                process.kill()

    def fill_in_labels(self):
        """Writes the right class of the photo with a wrong label into the report's table.

        What so short a training doubts is left to chance, so the row is written in any case.
        """
        path = self.folder / "doubtful.csv"
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns, rows = table.fieldnames, list(table)
        rows = [row for row in rows if not row["path"].endswith(WRONG)]
        rows.append({"path": str(self.folder / WRONG), "label": "green", "new_label": "red"})
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    if os.name != "posix" or shutil.which("bash") is None:
        pytest.skip("bash is not here")
    reader = Reader(tmp_path_factory.mktemp("reader"))
    yield reader
    if reader.server:
        reader.server.kill()
        reader.server.wait()


def is_port_free():
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(ADDRESS)
        except OSError:
            return False
    return True


@pytest.mark.parametrize("command", COMMANDS)
def test_command(reader, command):
    """Each goes on where those above it have left the folder."""
    asks_server = command.startswith("curl ") or "client.py " in command
    if asks_server:
        if not reader.server:
            pytest.skip("no server was started: its port is taken")
        if command.startswith("curl ") and shutil.which("curl") is None:
            pytest.skip("curl is not here")
    else:
        reader.stop()
    if "run.py serve" in command:
        if not is_port_free():
            pytest.skip(f"port {ADDRESS[1]} is taken")
        reader.serve(command)
        return
    if "run.py label" in command:
        reader.label(command)
        return
    if "run.py relabel" in command and command.endswith("--dry_run"):
        reader.fill_in_labels()
    output = reader.run(command)
    if command.startswith("curl "):
        assert '"success": true' in output.replace('":true', '": true')
    if "run.py relabel" in command:
        is_corrected = not command.endswith("--dry_run")
        assert os.path.exists(reader.folder / (RIGHT if is_corrected else WRONG)), output
