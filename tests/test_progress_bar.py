"""The time that a training says is left, by a clock that the test moves."""

import types

import pytest

from training import callbacks

STEP, VALIDATION, COMPILING = 2.0, 1.0, 60.0


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def train(monkeypatch, capsys):
    """Trains epochs of some steps; gives what each line says is left, and the bar after a step."""

    def run(steps, epochs, done_steps=0, validation_batches=2):
        clock = Clock()
        monkeypatch.setattr(callbacks, "time", clock)
        bar = callbacks.ProgressBar(10 * steps, 10, epochs, done_steps)
        bar.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.1)))
        clock.now += 500  # solving the head
        bar.on_train_begin()
        for epoch in range(epochs):
            bar.on_epoch_begin(epoch)
            for step in range(done_steps if epoch == 0 else 0, steps):
                clock.now += STEP + (COMPILING if bar.compiles_step else 0)
                bar.on_train_batch_end(step, {"loss": 1.0, "accuracy": 0.5})
            bar.on_test_begin()
            for batch in range(validation_batches):
                clock.now += VALIDATION + (COMPILING if bar.compiles_validation else 0)
                bar.on_test_batch_end(batch)
            bar.on_epoch_end(epoch, {"learning_rate": 0.1})
        return [line.split("left ")[1] for line in capsys.readouterr().err.splitlines()]

    return run


def seconds(text):
    return sum(int(part) * 60**index for index, part in enumerate(reversed(text.split(":"))))


@pytest.mark.parametrize("done_steps", [0, 5])
def test_compiling_is_not_in_the_estimate(train, done_steps):
    """An epoch takes 10 * 2 + 2 s; the first step and batch are known by the others."""
    said = train(10, 4, done_steps)
    for text, epochs_left in zip(said, (3, 2, 1, 0)):
        assert seconds(text) == pytest.approx(22 * epochs_left, rel=0.12, abs=1)


def test_an_epoch_of_one_step_knows_nothing_better(train):
    first, second, _ = train(1, 3)
    assert seconds(first) == 2 * (COMPILING + STEP + VALIDATION * 2 + COMPILING)
    assert seconds(second) <= STEP + 2 * VALIDATION + 1


def test_the_bar_begins_to_count_after_the_first_step(monkeypatch):
    """tqdm says what is left by the images since `initial` and the time since then."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = callbacks.ProgressBar(100, 10, 1)
    bar.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.1)))
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.bar.start_t -= COMPILING
    bar.bar.last_print_t -= COMPILING
    bar.on_train_batch_end(0, {"loss": 1.0, "accuracy": 0.5})
    assert bar.bar.n == bar.bar.initial == 10
    assert bar.bar.format_dict["elapsed"] < COMPILING
    bar.on_train_end()
