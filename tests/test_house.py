"""The plan of the house: floors, sizes, names and docstrings, read from the source of every file.

What is measured and where the limits lie stands in CONTRIBUTING.md.
"""

import ast
import functools
import os
import re
import subprocess

import pytest
from conftest import ROOT

# A file imports only from floors below its own, or from its own package.
FLOORS = {
    "common": 1,
    "random_eraser": 1,
    "warmup_cosine_decay_scheduler": 1,
    "compute": 2,
    "pages": 2,
    "data": 2,
    "CBAM": 3,
    "Groupnormalization": 3,
    "bilinear_pooling": 3,
    "data_gen_label": 3,
    "other.focal_loss": 3,
    "efficientnet": 3.5,  # has CBAM inside its blocks
    "other_model": 3.5,
    "modeling": 4,
    "config": 5,
    "runs": 6,
    "training": 7,
    "prediction": 7,
    "evaluation": 8,
    "export": 8,
    "other.data_quality": 8,
    "train": 9,
    "eval": 9,
    "inference": 9,
    "other.reporting": 9,  # draws and lays out what evaluation measures
    "save_model": 9,
    "multigpu_train": 10,  # chooses the devices of train's loop
    "save_multigpu_model": 10,  # proves save_model's export on one device
    "other": 10,
    "deployment": 10,
    "run": 11,
}
# Packages of one floor that do not know each other
APART = [("training", "prediction"), ("compute", "data"), ("evaluation", "export")]
SERVING = ("run", "common", "compute", "config", "data", "modeling", "pages", "runs",
           "prediction", "deployment")  # what the Dockerfile copies
LONGEST_FUNCTION, MOST_PARAMETERS = 60, 8
LEAST_COMPOUND = 0.25  # fraction of local names that are compound
VAGUE, MOST_VAGUE = ("found", "each", "told", "there"), 40
# Names that Keras, argparse, http.server and the like prescribe, with their own documentation
PRESCRIBED = re.compile(
    r"on_(train|test|predict|epoch)_\w+|call|build|get_config|compute_output_shape|update_state|"
    r"result|update_step|dataset|main"
)


@functools.cache
def files():
    """The project's Python files, without tests and benchmarks."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split()
    return [name for name in listed if os.path.exists(os.path.join(ROOT, name))
            and not name.startswith(("tests/", "benchmarks/"))]


@functools.cache
def tree(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return ast.parse(file.read(), name)


def module_of(name):
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@functools.cache
def modules():
    return {module_of(name): name for name in files()}


def is_script_part(node):
    """Whether a statement is `if __name__ == "__main__": ...`, which an import passes over."""
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


def imports(name, deferred=True):
    """The modules of the project that a file imports; `deferred` counts those in functions."""
    nodes, queue = [], list(tree(name).body)
    while queue:
        node = queue.pop()
        nodes.append(node)
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if not is_script_part(node) and (deferred or not is_function):
            queue.extend(ast.iter_child_nodes(node))
    wanted = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                wanted.add(full if full in modules() else node.module)
    return {module for module in wanted if module in modules()}


def floor(module):
    """(the name in `FLOORS` that a module belongs to, its floor)."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in FLOORS:
            return name, FLOORS[name]
    raise AssertionError(f"{module}: has no floor")


def test_fourteen_files_in_the_root():
    assert sorted(name for name in files() if "/" not in name) == sorted([
        "CBAM.py", "Groupnormalization.py", "bilinear_pooling.py", "data_gen_label.py", "eval.py",
        "inference.py", "multigpu_train.py", "other_model.py", "random_eraser.py", "run.py",
        "save_model.py", "save_multigpu_model.py", "train.py", "warmup_cosine_decay_scheduler.py",
    ])


@pytest.mark.parametrize("name", files())
def test_imports_go_down(name):
    module = module_of(name)
    own, height = floor(module)
    for other in imports(name):
        place, other_height = floor(other)
        assert place == own or other_height < height, f"{module} imports {other}, which is above"
        assert not any({own, place} == set(pair) for pair in APART), f"{module} imports {other}"


def test_no_circle_of_imports():
    left = {module: imports(name) - {module} for module, name in modules().items()}
    while free := [module for module, wanted in left.items() if not wanted & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"a circle, among: {sorted(left)}"


def reached(start, deferred=False):
    """The project's modules that importing `start` imports as well, packages' own files too."""
    seen, queue = set(), list(start)
    while queue:
        module = queue.pop()
        if module in seen or module not in modules():
            continue
        seen.add(module)
        queue.extend(imports(modules()[module], deferred))
        queue.extend(module.rsplit(".", count)[0] for count in range(1, module.count(".") + 1))
    return seen


def test_help_reaches_neither_keras_nor_tensorflow():
    for module in sorted(reached(["run"])):
        for node in tree(modules()[module]).body:
            names = {alias.name for alias in getattr(node, "names", ())}
            heavy = {"keras", "tensorflow", "jax", "numpy", "cv2"} & (
                {getattr(node, "module", None)} | names)
            assert not heavy or not isinstance(node, (ast.Import, ast.ImportFrom)), module


def test_serving_needs_no_more_than_the_dockerfile_copies():
    with open(os.path.join(ROOT, "deployment", "Dockerfile"), encoding="utf-8") as file:
        copied = re.findall(r"^COPY (\w+)(?:\.py)? ", file.read(), re.M)
    assert sorted(copied) == sorted(SERVING)
    names = [module for module in modules() if module.startswith("deployment.")]
    # What a run without an exported model needs is imported only where there is one.
    needed = reached([*names, "run"])
    assert {module.split(".")[0] for module in needed} <= set(SERVING)
    for module in sorted(needed):
        if module != "run" and not module.startswith("prediction.loading"):
            deferred = {other.split(".")[0] for other in imports(modules()[module])}
            assert deferred <= {*SERVING, "efficientnet", "other_model"}, module


def test_packages_only_say_what_they_are_for():
    for name in files():
        if name.endswith("__init__.py") and name != "efficientnet/__init__.py":
            (statement,) = tree(name).body
            assert ast.get_docstring(tree(name)) and isinstance(statement, ast.Expr), name


def functions(name):
    for node in ast.walk(tree(name)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def parameters(function):
    """Names of a function's parameters, without self and cls."""
    arguments = function.args
    names = [argument.arg for argument in
             (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


@pytest.mark.parametrize("name", files())
def test_functions_are_short_and_take_few_parameters(name):
    for function in functions(name):
        first = function.body[0]
        documented = ast.get_docstring(function) is not None
        lines = function.end_lineno - function.lineno + 1
        lines -= (first.end_lineno - first.lineno + 1) * documented
        where = f"{name}:{function.lineno}: {function.name}"
        assert lines <= LONGEST_FUNCTION, f"{where} has {lines} lines"
        assert len(parameters(function)) <= MOST_PARAMETERS, f"{where} has too many parameters"


def public(name):
    """(definition, docstring that has to tell of its parameters) of what others may call."""
    for node in tree(name).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node, ast.get_docstring(node) or ""
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield method, ast.get_docstring(method) or ""
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node, ast.get_docstring(node) or ""


@pytest.mark.parametrize("name", files())
def test_public_definitions_are_documented(name):
    """Each has a docstring; that of a module's function says under Args what each parameter is."""
    for node, text in public(name):
        where = f"{name}:{node.lineno}: {node.name}"
        if isinstance(node, ast.FunctionDef) and PRESCRIBED.fullmatch(node.name):
            continue
        properties = {getattr(each, "attr", "") for each in getattr(node, "decorator_list", ())}
        assert text or "setter" in properties, f"{where} has no docstring"
        if isinstance(node, ast.FunctionDef) and node in tree(name).body:
            for parameter in parameters(node):
                entry = rf"(^|\n) *(\*?\w+, )*\*?{parameter}(, \w+)*: "
                assert re.search(entry, text), f"{where} does not say what {parameter} is"


def stored_names(name):
    return [node.id for node in ast.walk(tree(name))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def test_names_are_the_fields_words():
    names = [name for path in files() for name in stored_names(path)]
    compound = sum("_" in name.strip("_") for name in names) / len(names)
    assert compound >= LEAST_COMPOUND, f"{compound:.1%} of local names are compound"
    assert sum(name in VAGUE for name in names) < MOST_VAGUE
