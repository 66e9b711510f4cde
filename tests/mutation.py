"""Do the tests notice a fault? Breaks the code at random places, one at a time.

    python -m tests.mutation [--mutants 300] [--seed 0] [--processes 2]

Needs requirements/reliability.txt. Mutants are those of Cosmic Ray's operators (a number, a
comparison, an arithmetic operator, a keyword, a decorator ... replaced or removed), drawn evenly
from all that the modules below allow. Each is tried in a copy of the project against the tests
of its module; a failing test or one that takes ten times as long kills it. What survives is
printed as a diff.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import parso  # noqa: F401  before cosmic_ray, whose imports go in a circle without it
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LAYERS = ["test_layers.py", "test_group_normalization.py"]
TESTS = {
    "data/decoding.py": ["test_decoding.py"],
    "data/decoding_limits.py": ["test_decoding.py"],
    "data/epoch_sampler.py": ["test_sampler.py", "test_data_gen_label.py"],
    "data/geometry.py": ["test_decoding.py"],
    "data/jpeg.py": ["test_decoding.py"],
    "data/pillow_formats.py": ["test_decoding.py"],
    "data/prefetching.py": ["test_data_gen_label.py"],
    "data/warping.py": ["test_augmentation.py"],
    "data_gen_label.py": ["test_data_gen_label.py", "test_sampler.py", "test_mixing.py"],
    "runs/run_folder.py": ["test_run_folder.py", "test_bad_input.py"],
    "runs/checkpoint.py": ["test_run_folder.py"],
    "warmup_cosine_decay_scheduler.py": ["test_schedule.py"],
    "CBAM.py": LAYERS,
    "bilinear_pooling.py": LAYERS,
    "Groupnormalization.py": LAYERS,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    every = [mutant for module in TESTS for mutant in mutants(module)]
    drawn = random.Random(arguments.seed).sample(every, arguments.mutants)
    print(f"{len(drawn)} of {len(every)} mutants", flush=True)
    with tempfile.TemporaryDirectory() as place:
        copies = SimpleQueue()
        for number in range(arguments.processes):
            copies.put(copy_project(os.path.join(place, str(number))))
        copy = copies.get()
        limits = {}
        for module, tests in TESTS.items():
            began = time.monotonic()
            if not passes(copy, tests, 1000):
                raise SystemExit(f"{module}: its tests fail without any fault")
            limits[module] = 10 * (time.monotonic() - began)
        copies.put(copy)

        def survives(mutant):
            copy = copies.get()
            try:
                return tried(copy, mutant, limits[mutant[0]])
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(arguments.processes) as pool:
            survived = list(pool.map(survives, drawn))
    for module in TESTS:
        found = [alive for (name, *_), alive in zip(drawn, survived) if name == module]
        print(f"{module}: {len(found) - sum(found)} of {len(found)} killed")
    killed = len(drawn) - sum(survived)
    print(f"{killed} of {len(drawn)} killed, {killed / len(drawn):.1%}")


def mutants(module):
    """(module, operator, occurrence) of all mutants of a file."""
    tree = get_ast(read(os.path.join(ROOT, module)))
    found = []
    for name in sorted(plugins.operator_names()):
        operator = plugins.get_operator(name)
        if operator.arguments():
            continue
        count = sum(len(list(operator().mutation_positions(node))) for node in ast_nodes(tree))
        found += [(module, name, occurrence) for occurrence in range(count)]
    return found


def copy_project(target):
    """A copy of what git knows and what is new, with the same environment."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        path = os.path.join(target, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(os.path.join(ROOT, name), path)
    return target


def passes(copy, tests, limit):
    """Whether the tests pass in a copy within `limit` seconds."""
    words = [os.path.join("tests", name) for name in tests]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words],
        cwd=copy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return False


def tried(copy, mutant, limit):
    """Whether a mutant survives the tests of its module; prints it if so."""
    module, name, occurrence = mutant
    path = os.path.join(copy, module)
    code = read(path)
    mutated = mutate_code(code, plugins.get_operator(name)(), occurrence)
    with open(path, "w", encoding="utf-8") as file:
        file.write(mutated)
    try:
        alive = passes(copy, TESTS[module], limit)
    finally:
        with open(path, "w", encoding="utf-8") as file:
            file.write(code)
    lines = zip(code.splitlines(), mutated.splitlines())
    changed = [f"- {old.strip()}\n    + {new.strip()}" for old, new in lines if old != new][:1]
    print(f"{'SURVIVED' if alive else 'killed  '} {module} {name} {occurrence}"
          + (f"\n    {changed[0] if changed else '(lines removed)'}" if alive else ""), flush=True)
    return alive


def read(path):
    """The text of a file."""
    with open(path, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    main()
