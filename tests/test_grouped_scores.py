"""A random split flatters where the background tells the recording; a grouped one does not."""

from benchmarks.grouped_split import measure


def test_the_grouped_score_is_true_and_the_random_one_is_not():
    """Made recordings, split by `--mode split`; the truth is the score on recordings unseen."""
    result = measure(seed=0, recordings=10, new_recordings=40)
    random, grouped = result["random"], result["grouped"]
    assert random["shared"] > 30 and grouped["shared"] == 0
    assert random["accuracy"] >= 0.95 and random["truth"] < 0.75
    low, high = grouped["by_groups"]
    assert low <= grouped["truth"] <= high < 0.95
