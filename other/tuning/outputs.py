"""What a study leaves to read: the best settings, the table of trials, the page."""

import json
import time
from collections import Counter

import numpy as np
import yaml

from common.commands import command_line
from common.files import write_text
from common.tables import write_table
from common.write_errors import write_error
from config.next_steps import next_step
from other.tuning.charts import draw_charts
from other.tuning.plan import BEST, PAGE, RESULT, TABLE, TRIALS
from other.tuning.space import show_value
from other.tuning.study import FINISHED, STARTUP_TRIALS
from pages.languages import choose_language
from pages.rendering import render
from pages.text_tables import texts_of

ENOUGH_TRIALS = 20  # complete ones, below which the importance says little


def summarize(study, plan, verdict):
    """What `--json` prints.

    Args:
        study: `Study`.
        plan: `Plan`.
        verdict: `Verdict`, or None where it was not reached.

    Returns:
        dict: name, data, photos (by part), trials (by state), start and best (dicts of number,
        score and values), importance, verdict (a dict, or None), page, settings, csv.
    """
    records, best = study.records(), study.best()
    counts = Counter(record.state for record in records)
    is_done = verdict is not None
    return {
        "name": plan.name,
        "data": plan.data,
        "photos": dict(zip(("train", "val", "test"), plan.counts)),
        "trials": {state: counts[state] for state in FINISHED},
        "start": _trial(records[0]) if records else None,
        "best": _trial(best) if best else None,
        "importance": study.importance(),
        "verdict": _verdict(verdict, plan) if is_done else None,
        "page": plan.file(PAGE) if is_done else None,
        "settings": plan.file(BEST) if is_done else None,
        "csv": plan.file(TABLE) if is_done else None,
    }


def _trial(record):
    return {"number": record.number, "score": record.score, "values": record.values}


def _verdict(verdict, plan):
    comparison = verdict.comparison
    return {
        "verdict": verdict.word,
        "difference": comparison and comparison.difference,
        "low": comparison and comparison.low,
        "high": comparison and comparison.high,
        "p_value": comparison and comparison.p_value,
        "only_start": comparison and comparison.only_first,
        "only_best": comparison and comparison.only_second,
        "groups": len(np.unique(plan.groups)),
        "seeds": len(verdict.accuracies.get("start", [])),
        "accuracies": verdict.accuracies,
        "undecodable": verdict.errors,
    }


def write(study, plan, result, options):
    """Writes best.yaml, the table of trials, the result and the page.

    Args:
        study: `Study`.
        plan: `Plan`.
        result: dict, of `summarize`.
        options: `TuneOptions`.

    Raises:
        InputError: they cannot be written.
        RunError: the disk is full.
    """
    records = study.records()
    language, settings = choose_language(options.lang), _settings(result)
    page = render(
        "tune.html",
        language,
        result=result,
        date=time.strftime("%Y-%m-%d %H:%M"),
        rows=[_row(record, plan) for record in records],
        names=list(plan.space.dimensions),
        settings=settings,
        charts=draw_charts(
            records, plan.space, [row["name"] for row in settings], texts_of(language)
        ),
        few_trials=result["trials"]["complete"] < ENOUGH_TRIALS,
        startup_trials=STARTUP_TRIALS,
        minutes=sum(record.seconds for record in records) / 60,
        next=command_line(*next_step("tune", options, result)),
        files={"settings": BEST, "table": TABLE},
    )
    try:
        write_text(plan.file(BEST), best_settings(plan, result["best"]["values"]))
        _write_table(records, plan)
        write_text(plan.file(RESULT), json.dumps(result, indent=1) + "\n")
        write_text(plan.file(PAGE), page)
    except OSError as error:
        raise write_error(error, plan.folder, "--save_dir") from None


def best_settings(plan, values):
    """str, the content of best.yaml: what was given and what was searched, and nothing else.

    Args:
        plan: `Plan`.
        values: dict of option name -> value.
    """
    content = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in {**plan.given(), **values}.items()
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _write_table(records, plan):
    names = list(plan.space.dimensions)
    columns = ("trial", "run", "state", "val_accuracy", "epochs", "seconds", *names)
    rows = [
        (
            record.number + 1,
            f"{TRIALS}/trial-{record.number:04}",
            record.state,
            "" if record.score is None else f"{record.score:.6g}",
            "" if record.epochs is None else record.epochs,
            f"{record.seconds:.1f}",
            *(record.values.get(name, "") for name in names),
            record.weights,
            record.reason,
        )
        for record in records
    ]
    write_table(plan.file(TABLE), (*columns, "weights", "reason"), rows)


def _row(record, plan):
    """dict, a trial as the page shows it."""
    names = plan.space.dimensions
    return {
        "number": record.number + 1,
        "state": record.state,
        "score": record.score,
        "epochs": record.epochs,
        "seconds": round(record.seconds),
        "values": [
            show_value(record.values[name]) if name in record.values else "–" for name in names
        ],
        "reason": record.reason,
    }


def _settings(result):
    """list of dict, what each option is at the start and at best, the most important first."""
    importance = result["importance"]
    names = [*importance, *(name for name in result["best"]["values"] if name not in importance)]
    start, best = result["start"]["values"], result["best"]["values"]
    return [
        {
            "name": name,
            "start": show_value(start[name]),
            "best": show_value(best[name]),
            "is_changed": start[name] != best[name],
            "importance": importance.get(name),
        }
        for name in names
    ]
