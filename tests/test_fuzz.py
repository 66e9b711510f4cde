"""What a user's files can hold ends in a value or one line: the short form of fuzz_inputs.py."""

import pytest
from fuzz_inputs import IMAGES, TEXTS, case, finds, fuzz


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
