"""What the documents say that can be checked: scripts, manifests, links, options."""

import os
import re
import subprocess

import pytest
import yaml
from conftest import ROOT

from config import parser

DOCUMENTS = ["README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md",
             *(f"{folder}/{name}" for folder in ("docs", "docs/zh-CN")
               for name in sorted(os.listdir(os.path.join(ROOT, folder)))
               if name.endswith(".md"))]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", read(name), re.M | re.S)


def prose(name):
    return re.sub(r"^```.*?^```$", "", read(name), flags=re.M | re.S)


def anchors(name):
    """What links to the headings of a document end with, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", prose(name), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_headings(name):
    for link in re.findall(r"\]\(([^):]+)\)", prose(name)):
        target, _, anchor = link.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(name), target)) if target else name
        assert os.path.exists(os.path.join(ROOT, path)), link
        if anchor:
            assert anchor in anchors(path), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_named_are_there(name):
    """In tables and text; lines of commands of other programs have options of their own."""
    known = {option for mode in parser.MODES.values() for option in mode.options}
    known |= {"mode", "help", "version"}
    for word in re.findall(r"`--([a-z_-]+)", read(name)):
        word = word.rstrip("-").replace("-", "_")  # either may be typed
        assert word in known or name.startswith("docs/benchmarks"), word


@pytest.mark.parametrize("name", DOCUMENTS)
def test_shell_in_documents_is_shell(name):
    for script in blocks(name, "bash"):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("name", ["docs/several-machines.md", "docs/object-stores.md",
                                  "docs/zh-CN/object-stores.md"])
def test_options_of_the_training_scripts_exist(name):
    known = set(parser.MODES["train"].options) | {"mode"}
    text = "\n".join([*blocks(name, "bash"), *blocks(name, "yaml")])
    used = set(re.findall(r"--([a-z]+(?:_[a-z]+)*)\b(?!-)", text.split("set -euo")[1]))
    assert {"backend", "coordinator", "resume"} <= used
    assert used <= known


def test_kubernetes_manifest_has_a_service_that_selects_its_job():
    (text,) = blocks("docs/several-machines.md", "yaml")
    service, job = yaml.safe_load_all(text)
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"]
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]
    assert service["spec"]["clusterIP"] == "None"  # headless
    command = job["spec"]["template"]["spec"]["containers"][0]["args"][0]
    assert f"--num_processes {job['spec']['completions']} " in command


@pytest.mark.parametrize("name", ["docs/object-stores.md", "docs/zh-CN/object-stores.md"])
def test_the_container_for_object_stores_fits_the_job_of_several_machines(name):
    (text,) = blocks(name, "yaml")
    other = yaml.safe_load(text)
    _, job = yaml.safe_load_all(*blocks("docs/several-machines.md", "yaml"))
    spec = job["spec"]["template"]["spec"]
    (container,), (own,) = spec["containers"], other["containers"]
    assert own["name"] == container["name"] and own["command"] == container["command"]
    mounted = {mount["name"] for mount in own["volumeMounts"]}
    assert mounted == {volume["name"] for volume in other["volumes"]}
    start = container["args"][0].split("--run waste")[0]  # who waits for whom, and where
    assert own["args"][0].startswith(start)


def test_the_reference_of_options_is_that_of_the_table():
    from option_reference import text

    assert read("docs/options.md") == text()


def test_contributing_names_every_file():
    import file_table

    assert read("CONTRIBUTING.md") == file_table.document(read("CONTRIBUTING.md"))


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readmes_name_every_file_of_the_root(name):
    for file in sorted(os.listdir(ROOT)):
        if file.endswith(".py"):
            assert file in read(name), file


# --- commands and paths ---------------------------------------------------------------

COMMANDS = [*DOCUMENTS, *(f"sh/{name}" for name in sorted(os.listdir(os.path.join(ROOT, "sh"))))]
# What stands for a value that the reader fills in: words in capitals, shell variables
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_/.]*$|.*[$<{]")
WORDS = re.compile(r"[A-Za-z0-9_.,:/=@*'\"$<>{}\[\]()+~-]+")


def lines_of(name):
    """Lines of a document, those that a backslash continues as one."""
    return re.sub(r" *\\\n *", " ", read(name)).splitlines()


def commands(name, start):
    """The words after `start` in each command of a document, up to what ends a command."""
    for line in lines_of(name):
        for rest in line.split(start)[1:]:
            words = []
            for word in re.split(r"[ `]", re.split(r"[`|;#]| && | >|\)", rest)[0]):
                if word:
                    words.append(word.strip("'\""))
            yield line, words


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_understood(name):
    """Each `run.py --mode X ...` is read by the parser, placeholders replaced by the default."""
    found = [*commands(name, "run.py --mode ")]
    found += [(line, words) for line, words in commands(name, "run.py ") if words[:1] and (
        words[0] in parser.MODES)]
    for line, words in found:
        mode, *words = words or ["X"]
        if PLACEHOLDER.match(mode):
            continue
        assert mode in parser.MODES, line
        known = {option.name: option for option in parser.mode_options(mode)}
        given = [word[2:].split("=")[0] for word in words if word.startswith("--")]
        assert set(given) <= {*known, "help"}, line
        for option, value in zip(words, words[1:]):
            if option.startswith("--") and not value.startswith("-"):
                if option[2:] in known and not PLACEHOLDER.match(value) and value != "...":
                    known[option[2:]].type.convert(value.rstrip(".,:"))  # refused: ValueError


@pytest.mark.parametrize("name", COMMANDS)
def test_what_commands_start_is_there(name):
    for start, ending in (("bash sh/", ""), ("pip install -r ", ""), ("python -m ", ".py")):
        for line, words in commands(name, start):
            word = words[0].rstrip(".,:") if words else "X"
            if start == "python -m ":
                if word.split(".")[0] not in ("benchmarks", "tests", "export", "other"):
                    continue  # pytest, pip, venv
                word = word.replace(".", "/")
            if not PLACEHOLDER.match(word):
                path = ("sh/" if start == "bash sh/" else "") + word.removeprefix("/opt/image-"
                                                                                  "classifier/")
                assert os.path.exists(os.path.join(ROOT, path + ending)), line


@pytest.mark.parametrize("name", [path for path in DOCUMENTS if path != "CHANGELOG.md"])
def test_files_in_backticks_are_there(name):
    ours = {os.path.basename(path) for path in os.listdir(ROOT)} | {"client.py"}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.split()
    in_packages = {os.path.basename(path): path for path in listed}
    for path in re.findall(r"`([A-Za-z_/-]+\.(?:py|sh))`", read(name)):
        beside = os.path.basename(path) in in_packages and "/" not in path
        assert os.path.exists(os.path.join(ROOT, path)) or path in ours or (
            beside and name == "CONTRIBUTING.md"), path
