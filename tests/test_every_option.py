"""Every option of every mode: given to its mode by at least one test (docs/options.md names all).

Which test gives which option is read from the tests' source. Watching them run would see what
a test computes, too, but only where all of them run, in one process: here they run in several,
or some alone. So reading errs on the strict side. A command counts where a call, list or tuple
says "--mode" and a mode, begins with a mode, or calls a helper whose own command does; then each
`--option` written in it counts, with what is spliced in: constants, `*words`, loops, parameters.
What is computed, f"--{name}", does not count, nor a command that a test expects to be refused:
that shows nothing of what an option does.
"""

import ast
import collections
import itertools
import os
import re

from conftest import ROOT
from test_docs import read

from config.modes import _COMMON, MODES

WORD = re.compile(r"--([a-z_]+)(=.*)?", re.S)
SEQUENCE = (ast.List, ast.Tuple)
SERVER = ast.dump(ast.Constant("server.py"))  # deployment/server.py is a mode by itself
# What only looks at how options are read and checked
PARSING = ("test_every_option", "test_options", "test_option_checks")
THROUGH = ("enumerate", "list", "map", "tuple", "zip")  # functions that pass words on


# --- reading tests --------------------------------------------------------------------


def given(sources):
    """The options that tests give.

    Args:
        sources: dict of a module's name -> its source, for all tests.

    Returns:
        set of (mode, option).
    """
    trees = {name: ast.parse(source) for name, source in sources.items()}
    values = {name: collections.defaultdict(list) for name in trees}
    helpers = {name: collections.defaultdict(set) for name in trees}
    for name, tree in trees.items():
        for statement in tree.body:
            _read_names(statement, values[name], helpers[name])
            if isinstance(statement, ast.ImportFrom) and statement.module in trees:
                for alias in statement.names:  # the same objects, whenever they are filled
                    short = alias.asname or alias.name
                    values[name][short] = values[statement.module][alias.name]
                    helpers[name][short] = helpers[statement.module][alias.name]
    statements = [(statement, *_parts_of(statement), helpers[name])
                  for name in trees.keys() - set(PARSING) for statement in trees[name].body]
    pairs, known = set(), None
    while known != (known := sum(len(modes) for of_module in helpers.values()
                                 for modes in of_module.values())):  # helpers may call helpers
        for statement in statements:
            pairs |= _commands(*statement)
    return pairs


def _read_names(statement, module, helpers):
    """Notes in each node what names stand for: in its function, then in its module."""
    function = isinstance(statement, (ast.FunctionDef, ast.ClassDef))
    own = collections.defaultdict(list) if function else module
    for node in ast.walk(statement):
        node.scopes, node.helpers = (own, module), helpers
        pairs = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AugAssign):
            pairs = [(node.target, node.value)]
        elif isinstance(node, (ast.For, ast.comprehension)):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "parametrize":
            pairs = [(ast.parse(node.args[0].value), node.args[1])]
        for target, value in pairs:
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    own[name.id].append(value)
        if isinstance(node, ast.keyword) and node.arg:  # what `result.words` may be
            module["." + node.arg].append(node.value)
        if function and isinstance(node, (ast.Return, ast.Yield)) and node.value:
            module[statement.name].append(node.value)


def _parts_of(statement):
    """The calls, lists and tuples of a statement, and its functions that take `*words`."""
    refused = _refused(statement)
    nodes = [node for node in ast.walk(statement)
             if isinstance(node, (ast.Call, *SEQUENCE)) and node not in refused]
    functions = [(function.name, function.args.vararg.arg, set(ast.walk(function)))
                 for function in ast.walk(statement)
                 if isinstance(function, ast.FunctionDef) and function.args.vararg]
    return nodes, functions


def _commands(statement, nodes, functions, helpers):
    """(mode, option) of a statement's commands; notes which of its functions run a mode."""
    pairs = set()
    for node in nodes:
        modes, spliced = _modes(node)
        if modes:
            options = _options(node, True, spliced)
            pairs |= {(mode, option) for mode in modes for option in options
                      if option in MODES[mode].options}
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            for name, words, inside in functions:
                if words in names and node in inside:
                    # By its own name, or by that of the fixture or class that it stands in
                    helpers[name] |= modes
                    helpers[statement.name] |= modes
    return pairs


def _refused(statement):
    """The nodes of commands that a test expects to fail."""
    refused = []
    for node in ast.walk(statement):
        name = getattr(node, "name", None) or getattr(getattr(node, "func", None), "id", None)
        if "refus" in str(name):
            refused.append(node)
        if isinstance(node, ast.With) and "raises(" in ast.unparse(node.items[0]):
            refused.append(node)
        if isinstance(getattr(node, "body", None), list):
            refused += [
                first for first, second in itertools.pairwise(node.body)
                if isinstance(second, ast.Assert)
                and re.search(r"\b(status|returncode) == [12]\b", ast.unparse(second))
            ]
    return {part for node in refused for part in ast.walk(node)}


def _modes(node, seen=()):
    """The modes that a call, list or tuple is a command of, and whether what is spliced in counts.

    It does not where modes come in rows, ("eval", "--data", folder), each with its own words:
    those count by themselves.
    """
    if node in seen:
        return set(), True
    parts = node.args if isinstance(node, ast.Call) else node.elts
    named = [second for first, second in itertools.pairwise(parts)
             if isinstance(first, ast.Constant) and first.value == "--mode"]
    modes, rows = set(), False
    for part in parts[:1] + named:
        values = [part] if isinstance(part, ast.Constant) else []
        if isinstance(part, (ast.Name, ast.Starred)):
            values = [item for value in _expand(part) for item in getattr(value, "elts", ())]
        heads = [item.elts[0] if isinstance(item, SEQUENCE) and item.elts else item
                 for item in values]
        if all(getattr(head, "value", None) in MODES for head in heads):
            modes |= {head.value for head in heads}
            rows |= any(isinstance(item, SEQUENCE) for item in values)
    for part in parts:
        if isinstance(part, ast.Starred):
            for value in _expand(part.value):
                if isinstance(value, SEQUENCE):
                    modes |= _modes(value, (*seen, node))[0]
        elif isinstance(part, ast.Call) and SERVER in map(ast.dump, part.args):
            modes.add("serve")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        modes |= node.helpers.get(node.func.id, set())
    return modes, not rows


def _options(node, command, spliced=True, seen=()):
    """The options written in words, and, if wanted, in what is spliced into them."""
    options = set()
    for value in [node] if command else _expand(node):
        if value in seen:
            continue
        if isinstance(value, ast.Constant):
            word = WORD.fullmatch(value.value) if isinstance(value.value, str) else None
            options |= {word[1]} if word else set()
            continue
        for part in value.args if isinstance(value, ast.Call) else value.elts:
            if (spliced or isinstance(part, ast.Constant)) and (
                    _are_words(part) or command and _stands_for_words(part)):
                options |= _options(part, False, seen=(*seen, value))
    return options


def _are_words(part):
    """Whether a part is words; others are values, a path for instance."""
    return (
        isinstance(part, (ast.Constant, ast.Starred, *SEQUENCE))
        or isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add)
        or isinstance(part, ast.Name) and part.id.isupper()
    )


def _stands_for_words(part):
    """Whether an argument is a list of words, as that of `parse(mode, words)`."""
    if isinstance(part, ast.Call):
        return getattr(part.func, "id", None) in THROUGH
    return isinstance(part, ast.Name) and any(
        isinstance(value, SEQUENCE) for value in _values(part.id, part)
    )


def _values(name, node):
    """The expressions that a name may stand for where the node is."""
    return next((names[name] for names in node.scopes if name in names), [])


def _expand(node, seen=()):
    """The constants, lists and tuples that an expression may stand for."""
    if node in seen:
        return
    if isinstance(node, (ast.Constant, *SEQUENCE)):
        yield node
        return
    if isinstance(node, ast.Name):
        parts = _values(node.id, node)
    elif isinstance(node, ast.Attribute):
        parts = _values("." + node.attr, node)
    elif isinstance(node, ast.Call):
        name = getattr(node.func, "id", None)
        parts = node.args if name in THROUGH else _values(name, node)
        if isinstance(node.func, ast.Attribute):  # of a dictionary: its values, or both
            parts = [node.func.value]
    elif isinstance(node, ast.Subscript) and not isinstance(node.slice, (ast.Slice, ast.Constant)):
        parts = []  # which one is computed
    else:
        parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    for part in parts:
        yield from _expand(part, (*seen, node))


SOURCE = """
WORDS = ("--workers", 3)
MANY = {"a": ("--labels", "x"), "b": ()}

def go(*words):
    return main(["--mode", "eval", *map(str, words)])

@pytest.fixture
def start():
    def inner(*words):
        go(*words, "--data", "d")
    yield inner

def test_one(start):
    go("--run", "r", *WORDS, "--json")
    start("--top_k", 1)
    result = go("--csv", "c")
    assert result.status == 2
    with pytest.raises(InputError):
        go("--tta", "flip")
    refused("train", "--epochs", 3)
    f(f"--{name}", other("--record", "x"))

@pytest.mark.parametrize("mode", ["train", "preview"])
def test_two(mode, folder):
    for name, more in MANY.items():
        run.main(["--mode", mode, "--seed=1", *more, MANY[name]])

@pytest.mark.parametrize("mode, words", [("report", ["--target", "a"]), ("audit", WORDS)])
def test_three(mode, words):
    path = fit("train", "--ema", 1)["run"]
    run.main(["--mode", mode, "--json", path, *words])
"""


def test_reading():
    assert given({"test_a": SOURCE}) == {
        ("eval", "data"), ("eval", "run"), ("eval", "workers"), ("eval", "json"),
        ("eval", "top_k"), ("train", "seed"), ("train", "labels"), ("preview", "seed"),
        ("preview", "labels"), ("train", "ema"), ("report", "target"), ("report", "json"),
        ("audit", "workers"), ("audit", "json"),
    }


# --- the project's --------------------------------------------------------------------


def test_each_option_is_given_to_its_mode_by_a_test():
    given_options = given({name[:-3]: read(os.path.join("tests", name))
                   for name in os.listdir(os.path.join(ROOT, "tests")) if name.endswith(".py")})
    missing = [f"--mode {mode} --{option}" for mode, table in MODES.items()
               for option in table.options
               if option not in _COMMON and (mode, option) not in given_options]
    assert missing == []
