"""docs/deploy-elsewhere.md: its C++ and C# make the pixels that Python makes."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageOps

from data.decoding import load
from data.geometry import Preprocessing
from export import self_test
from prediction.runtimes import Answers

FILL = (10, 200, 90)
PAGES = ("docs/deploy-elsewhere.md", "docs/zh-CN/deploy-elsewhere.md")
# width, height, size and resize are arguments; the pixels come on standard input.
CPP_MAIN = """
#include <cstdio>
#include <iostream>
#include <iterator>
int main(int, char** words) {
  std::vector<uint8_t> rgb((std::istreambuf_iterator<char>(std::cin)), {});
  const uint8_t fill[3] = {10, 200, 90};
  const auto square = to_square(rgb, std::stoi(words[1]), std::stoi(words[2]),
                                std::stoi(words[3]), words[4], fill);
  fwrite(square.data(), 1, square.size(), stdout);
}
"""
CSHARP_MAIN = """
public static class Program
{
    public static void Main(string[] words)
    {
        var rgb = new System.IO.MemoryStream();
        System.Console.OpenStandardInput().CopyTo(rgb);
        var square = Preprocessing.ToSquare(rgb.ToArray(), int.Parse(words[0]), int.Parse(words[1]),
            int.Parse(words[2]), words[3], new byte[] { 10, 200, 90 });
        System.Console.OpenStandardOutput().Write(square, 0, square.Length);
    }
}
"""
PROJECT = """<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup><OutputType>Exe</OutputType>
<TargetFramework>net{version}</TargetFramework></PropertyGroup></Project>
"""


def code(language, page=PAGES[0]):
    with open(os.path.join(ROOT, page), encoding="utf-8") as file:
        [block] = re.findall(rf"```{language}\n(.*?)```", file.read(), re.S)
    return block


@pytest.mark.parametrize("language", ["cpp", "csharp", "bash", "json"])
def test_both_pages_have_the_same_code(language):
    assert code(language) == code(language, PAGES[1])


@pytest.fixture(scope="module")
def cpp(tmp_path_factory):
    """The command that runs the page's C++."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    folder = tmp_path_factory.mktemp("cpp")
    (folder / "main.cpp").write_text(code("cpp") + CPP_MAIN)
    subprocess.run([compiler, "-std=c++17", "-O2", "-Wall", "-Werror", "main.cpp", "-o", "main"],
                   cwd=folder, check=True, timeout=120)
    return [str(folder / "main")]


@pytest.fixture(scope="module")
def csharp(tmp_path_factory):
    """The command that runs the page's C#, by Microsoft's compiler or by Mono's."""
    folder = tmp_path_factory.mktemp("csharp")
    (folder / "main.cs").write_text(code("csharp") + CSHARP_MAIN)
    if shutil.which("dotnet") is None:
        if shutil.which("mcs") is None or shutil.which("mono") is None:
            pytest.skip("neither dotnet nor Mono is installed")
        subprocess.run(["mcs", "-out:main.exe", "main.cs"], cwd=folder, check=True, timeout=120)
        return ["mono", str(folder / "main.exe")]
    version = subprocess.run(["dotnet", "--version"], check=True, capture_output=True,
                             text=True).stdout.split(".")[0] + ".0"
    (folder / "main.csproj").write_text(PROJECT.format(version=version))
    subprocess.run(["dotnet", "build", "-c", "Release", "-o", "out"], cwd=folder, check=True,
                   timeout=300)
    return ["dotnet", str(folder / "out" / "main.dll")]


@pytest.fixture(params=["cpp", "csharp"])
def program(request):
    return request.getfixturevalue(request.param)


def upright_rgb(path):
    """Steps 1 to 3 of the page, by Pillow: (height, width, 3)."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGBA")
    rgba = np.asarray(image).astype(float)
    opacity = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * opacity + np.array(FILL) * (1 - opacity)).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 75, 224])
@pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
def test_the_test_vectors(program, tmp_path, resize, size):
    preprocessing = Preprocessing(size, resize, FILL)
    self_test.write(str(tmp_path), preprocessing,
                    lambda images: Answers(np.zeros((len(images), 1), np.float32)))
    names = [path for path in sorted((tmp_path / "self_test").glob("*.png"))
             if not path.name.endswith(".pixels.png")]
    assert len(names) == 9
    for path in names:
        rgb = upright_rgb(path)
        height, width = rgb.shape[:2]
        made = subprocess.run([*program, str(width), str(height), str(size), resize],
                              input=rgb.tobytes(), capture_output=True, check=True, timeout=60)
        pixels = np.frombuffer(made.stdout, np.uint8).reshape(size, size, 3).astype(int)
        apart = np.abs(pixels - load(str(path), preprocessing))
        assert apart.max() <= 2 and apart.mean() < 0.5, (path.name, apart.max(), apart.mean())
