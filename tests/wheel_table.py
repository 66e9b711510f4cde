"""Writes docs/platforms.md: which pinned packages have wheels for which systems and Pythons.

    python -m tests.wheel_table

It asks pip, which asks the package index: some minutes. What is installed here from a wheel of
pure Python runs on every system, and is not asked for.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENT = os.path.join(ROOT, "docs", "platforms.md")
FILES = ("requirements.txt", *(f"requirements/{name}.txt" for name in (
    "core", "serve", "lite", "jax", "hub", "track", "tune", "remote", "test", "reliability",
    "constraints")))
PYTHONS = ("3.11", "3.12", "3.13")
GLIBC = 35  # 2.35: Debian 12, Ubuntu 22.04; OpenVINO needs it, the others 2.28
# System -> its tags, and what markers of requirements ask about it
SYSTEMS = {
    "Windows x86-64": (["win_amd64"], {"sys_platform": "win32", "platform_machine": "AMD64"}),
    "macOS 14 arm64": (["macosx_14_0_arm64"],
                       {"sys_platform": "darwin", "platform_machine": "arm64"}),
    "Linux aarch64": (["manylinux2014_aarch64",
                       *(f"manylinux_2_{minor}_aarch64" for minor in range(17, GLIBC + 1))],
                      {"sys_platform": "linux", "platform_machine": "aarch64"}),
}
HEAD = """# Systems and their packages

Everything has been tried on Linux on x86-64, with Python 3.11. For the other systems this is what
is known: which of the pinned packages have a wheel, so that nothing has to be compiled. Written by
`python -m tests.wheel_table`, which asks the package index. Linux means glibc 2.{glibc} or newer
(Debian 12, Ubuntu 22.04).

"""


def pins():
    """dict of package -> (version, marker or None), from all requirement files but that of GPUs."""
    known = {}
    for path in FILES:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            for line in re.sub(r"(^|\s)#.*|^-.*", "", file.read(), flags=re.M).splitlines():
                if line.strip():
                    requirement = Requirement(line)
                    (pin,) = requirement.specifier
                    known[requirement.name] = pin.version, requirement.marker
    return known


def is_pure(name, version):
    """Whether this version is installed here from a wheel of pure Python that takes all `PYTHONS`.
    """
    distribution = next(iter(metadata.distributions(name=name)), None)
    if distribution is None or distribution.version != version:
        return False
    supported = SpecifierSet(distribution.metadata.get("Requires-Python") or "")
    tags = re.findall("^Tag: (.*)", distribution.read_text("WHEEL") or "", re.M)
    return all(map(supported.contains, PYTHONS)) and any(tag.endswith("none-any") for tag in tags)


def has_wheel(name, version, tags, python):
    """Whether the package index has a wheel."""
    words = [word for tag in tags for word in ("--platform", tag)]
    process = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", name, *words, "--python-version",
         python, "--implementation", "cp", "--only-binary=:all:"],
        capture_output=True, text=True, errors="replace",
    )
    versions = re.search("^Available versions: (.*)", process.stdout, re.M)
    return bool(versions) and version in versions[1].split(", ")


def cell(name, version, marker, system, python):
    """What the table says: yes, no, or that the package is not wanted there."""
    tags, environment = SYSTEMS[system]
    if marker and not marker.evaluate({**environment, "python_version": python}):
        return "not needed"
    return "yes" if has_wheel(name, version, tags, python) else "**no**"


def document():
    """The text of the page."""
    known = dict(sorted(pins().items(), key=lambda pin: pin[0].lower()))
    pure = [f"{name} {version}" for name, (version, _) in known.items() if is_pure(name, version)]
    columns = [(system, python) for system in SYSTEMS for python in PYTHONS]
    rows = []
    with ThreadPoolExecutor(3) as pool:
        for name, (version, marker) in known.items():
            if f"{name} {version}" not in pure:
                systems, pythons = zip(*columns)
                same = [[value] * len(columns) for value in (name, version, marker)]
                cells = list(pool.map(cell, *same, systems, pythons))
                per_system = [cells[i:i + len(PYTHONS)] for i in range(0, len(cells), len(PYTHONS))]
                rows.append([f"{name} {version}", *(
                    group[0] if len(set(group)) == 1 else ", ".join(
                        f"{python}: {text}" for python, text in zip(PYTHONS, group))
                    for group in per_system)])
                print(*rows[-1], sep=" | ", flush=True)
    head = ["package", *(f"{system}, Python 3.11 to 3.13" for system in SYSTEMS)]
    rows = [row for row in rows if set(row[1:]) != {"not needed"}]
    lines = [head, ["---"] * len(head), *rows]
    missing = [row[0] for row in rows if "**no**" in "".join(row)]
    summary = f"Without a wheel somewhere: {', '.join(missing)}." if missing else (
        "All have wheels everywhere.")
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{HEAD.format(glibc=GLIBC)}{len(rows)} pinned packages are compiled, or not installed "
        f"where this was written. {summary}\n\n{table}\n\nThe other {len(pure)} are of pure "
        f"Python, the same wheel everywhere:\n{', '.join(pure)}.\n"
    )


if __name__ == "__main__":
    text = document()
    with open(DOCUMENT, "w", encoding="utf-8") as page:
        page.write(text)
