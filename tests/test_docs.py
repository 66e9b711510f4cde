"""What the documents say that can be checked: scripts, manifests, links, options."""

import os
import re
import subprocess

import pytest
import yaml
from conftest import ROOT

from config import parser

DOCUMENTS = ["README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md",
             *(f"docs/{name}" for name in sorted(os.listdir(os.path.join(ROOT, "docs")))
               if name.endswith(".md"))]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", read(name), re.M | re.S)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name):
    text = re.sub(r"^```.*?^```$", "", read(name), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert os.path.exists(os.path.join(ROOT, os.path.dirname(name), target)), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_named_are_there(name):
    """In tables and text; lines of commands of other programs have options of their own."""
    known = {option for mode in parser.MODES.values() for option in mode.options} | {"mode"}
    for word in re.findall(r"`--([a-z_]+)", read(name)):
        assert word in known or name.startswith("docs/benchmarks") or word == "help", word


@pytest.mark.parametrize("name", DOCUMENTS)
def test_shell_in_documents_is_shell(name):
    for script in blocks(name, "bash"):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_options_of_the_training_scripts_exist():
    known = set(parser.MODES["train"].options) | {"mode"}
    text = "\n".join([*blocks("docs/several-machines.md", "bash"),
                      *blocks("docs/several-machines.md", "yaml")])
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
