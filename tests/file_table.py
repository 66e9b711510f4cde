"""CONTRIBUTING.md's table of files, each with the first sentence of its docstring.

    python -m tests.file_table        writes the table anew

A test compares the table with the files.
"""

import ast
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENT = os.path.join(ROOT, "CONTRIBUTING.md")
BEGIN, END = "<!-- files: python -m tests.file_table -->\n", "<!-- end of files -->\n"


def files():
    """The project's Python files outside tests and benchmarks, sorted by folder."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split()
    chosen = [name for name in listed if not name.startswith(("tests/", "benchmarks/"))
              and not name.endswith("__init__.py") and os.path.exists(os.path.join(ROOT, name))]
    return sorted(chosen, key=lambda name: (os.path.dirname(name), name))


def summary(name):
    """The first paragraph of a file's docstring, in one line."""
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        docstring = ast.get_docstring(ast.parse(file.read()))
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")


def table():
    rows = [f"| `{name}` | {summary(name)} |" for name in files()]
    return "\n".join(["| file | what it is for |", "| --- | --- |", *rows]) + "\n"


def document(text):
    """CONTRIBUTING.md's text with the table of today."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    with open(DOCUMENT, encoding="utf-8") as file:
        text = document(file.read())
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(text)
