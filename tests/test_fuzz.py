"""What a user's files can hold ends in a value or one line: the short form of fuzz_inputs.py."""

import pytest
from fuzz_inputs import IMAGES, TEXTS, case, finds, fuzz

from common.errors import ImageError, InputError, RunError
from config import parser


def fuzzed(*counts, **limits):
    """The results, none of which is a find."""
    results = fuzz(*counts, **limits)
    assert not finds(results), "\n".join(map(str, finds(results)))
    return results


def test_texts():
    results = fuzzed(300, 0)
    assert {each.outcome for each in results} == {"value", "refusal"}
    # The first of each kind is not spoilt.
    assert [each.outcome for each in results if not each.number] == ["value"] * len(TEXTS)


def test_images():
    results = fuzzed(0, 200, max_pixels=25_000_000)  # as a server has it
    assert {each.outcome for each in results if each.kind == "sound"} == {"value"}
    assert "refusal" in {each.outcome for each in results if each.kind == "cut"}


@pytest.mark.parametrize("kind", [*TEXTS, *IMAGES])
def test_a_case_is_a_function_of_seed_kind_and_number(kind):
    first = [case(0, kind, number)[0] for number in range(1, 5)]
    assert first == [case(0, kind, number)[0] for number in range(1, 5)]
    assert first != [case(1, kind, number)[0] for number in range(1, 5)]


@pytest.mark.parametrize("text, part", [
    ("source: [!!int 0x" + "f" * 5000 + "]", "source: has a number with too many digits"),
    ("split: " + "[" * 100_000, "has more than 10 levels of brackets"),
    ("- " * 2000, "has more than 10 levels of brackets"),
    ('source: "\\ud800"', "is not YAML"),
    ("source: &a [x]\ntarget: *a", "must not use aliases"),
], ids=["digits", "brackets", "lists", "half a character", "alias"])
def test_what_takes_an_options_file_too_far(tmp_path, text, part):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=part):
        parser.parse("dir2txt", ["--config", str(tmp_path / "config.yaml")])


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\x1c", "\u2028"])
def test_an_error_is_one_line_whatever_it_names(separator):
    for error in (InputError(f"a{separator}b  c"), RunError(f"a{separator}b  c")):
        assert str(error) == "a b  c"
    assert str(ImageError(f"a{separator}b", "is none")) == "a b: is none"
