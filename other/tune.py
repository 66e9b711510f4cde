"""The search of settings: trials that are ordinary runs, and a verdict on unseen photos.

Optuna proposes the values; a study goes on where it was killed. Several processes may work on one
study at once, each at a trial of its own.
"""

from common import console
from common.console import say
from config.mode_options import TuneOptions
from other.compare import BETTER, WORSE
from other.tuning import outputs
from other.tuning.plan import LOCKS, lock, make_plan
from other.tuning.space import show_value, with_values
from other.tuning.study import import_optuna, open_study
from other.tuning.trials import Budget, run_trials, tidy
from other.tuning.verdict import reach_verdict
from training.setup import resolve


def main(options: TuneOptions):
    """`--mode tune`.

    Returns:
        dict, what `--json` prints.
    """
    import_optuna()
    budget = Budget(options, 2 * options.seeds)
    plan = make_plan(options)
    resolved = resolve(with_values(plan.asked, plan.space.start), plan.counts[0])
    study = open_study(plan, options, resolved.epochs)
    run_trials(study, plan, options, budget)
    result = _conclude(study, plan, options)
    console.show(result, _text, options.json)
    return result


def _conclude(study, plan, options):
    """dict, the result; without a verdict where another process is to reach it."""
    from filelock import Timeout

    if not study.is_begun_here():
        say("note: the machine on which the study was begun writes its page and the verdict")
        return outputs.summarize(study, plan, None)
    if not study.is_shared():
        try:
            with lock(plan.file(LOCKS, "conclusion"), waits=False):
                tidy(study, plan)
                verdict = reach_verdict(study.best(), plan, options)
                result = outputs.summarize(study, plan, verdict)
                outputs.write(study, plan, result, options)
                return result
        except Timeout:
            pass
    say("note: another process is still at work; it writes the page and the verdict")
    return outputs.summarize(study, plan, None)


def _text(result):
    counts = result["trials"]
    start, best = result["start"], result["best"]
    lines = [
        f"trials {sum(counts.values())}: {counts['complete']} complete, {counts['pruned']} ended "
        f"early, {counts['failed']} failed",
        f"starting point  val_accuracy {start['score']:.4f}",
        f"best trial {best['number'] + 1}    val_accuracy {best['score']:.4f}, on "
        f"{result['photos']['val']} photos by which it was chosen",
    ]
    width = max(map(len, best["values"]))
    for name, value in best["values"].items():
        before = start["values"][name]
        changed = "" if value == before else f"  (starting point: {show_value(before)})"
        lines.append(f"  {name:<{width}}  {show_value(value)}{changed}")
    lines += ["", *_verdict_lines(result)]
    if result["page"]:
        lines += [f"settings  {result['settings']}", f"page      {result['page']}"]
    return "\n".join(lines)


def _verdict_lines(result):
    verdict = result["verdict"]
    if verdict is None:
        return ["verdict: not reached yet"]
    if verdict["difference"] is None:
        return ["verdict: can't tell, since no trial was better than the starting point"]
    photos = f"{result['photos']['test']} photos that no trial has seen, {verdict['seeds']} seeds"
    endings = {
        BETTER: "the best settings are better than the starting point",
        WORSE: "the best settings are worse than the starting point: keep that",
    }
    ending = endings.get(verdict["verdict"], "can't tell whether the best settings are better")
    return [
        f"verdict: {ending}",
        f"difference {verdict['difference']:+.4f}, 95 % interval {verdict['low']:+.4f} to "
        f"{verdict['high']:+.4f}, on {photos}",
        *(f"counted as wrong: {problem}" for problem in verdict["undecodable"]),
    ]
