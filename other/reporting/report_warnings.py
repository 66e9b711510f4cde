"""The report's sentences on what makes its scores less reliable than they seem."""

import os

WIDE_INTERVAL = 0.1  # width of the accuracy's interval above which the page warns
MOST_NAMES = 10  # that a sentence lists


def warnings_about(answers, run, accuracy, seen, texts):
    """Collects the warnings.

    Args:
        answers: `other.report.Answers`.
        run: `run_folder.Run`, or None for an exported model.
        accuracy: `other.report.Score`.
        seen: bool (N,), which images the run was trained on.
        texts: function of `text_tables.texts_of`.

    Returns:
        list of str.
    """
    samples, class_names, *_, errors = answers
    image_count, warnings = f"{len(samples.file_names):,}", []
    if accuracy.high - accuracy.low > WIDE_INTERVAL:
        points = f"{(accuracy.high - accuracy.low) * 100:.0f}"
        warnings.append(texts("report.few", count=image_count, points=points))
    if seen.any():
        warnings.append(texts("report.seen", seen=f"{seen.sum():,}", count=image_count))
    elif (
        run
        and run.options.val_data
        and os.path.realpath(run.options.val_data) == os.path.realpath(samples.folder)
    ):
        warnings.append(texts("report.chosen"))
    empty_classes = [
        name for class_id, name in enumerate(class_names) if class_id not in samples.class_ids
    ]
    if empty_classes:
        warnings.append(texts("report.empty_classes", names=listed(empty_classes, texts)))
    if errors:
        messages = [
            f"{os.path.relpath(error.name, samples.folder)}: {error.reason}"
            for error in errors.values()
        ]
        warnings.append(texts("report.undecodable", names=listed(messages, texts)))
    return warnings


def listed(names, texts):
    """The first names as a list in a sentence, and how many more there are.

    Args:
        names: list of str.
        texts: function of `text_tables.texts_of`.

    Returns:
        str.

    Example:
        >>> from pages.text_tables import texts_of
        >>> listed(["glass", "metal"], texts_of("en"))
        'glass, metal'
    """
    first_names = texts("page.list_comma").join(names[:MOST_NAMES])
    if len(names) <= MOST_NAMES:
        return first_names
    return texts("page.and_more", names=first_names, count=len(names) - MOST_NAMES)
