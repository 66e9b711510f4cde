"""MLflow as this project uses it: quiet, bounded in time, and telling nobody but its own server.

Where the tracks go is said by MLflow's own variables, MLFLOW_TRACKING_URI and
MLFLOW_EXPERIMENT_NAME. Without them they go to a database beside the runs.
"""

import contextlib
import logging
import os
import re
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from common.console import waiting
from common.errors import InputError, RunError
from common.files import check_writable

DATABASE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"  # in the folder of all runs
LOCAL = "beside the runs"  # in place of the address of that database, which moves with the runs
EXPERIMENT = "image-classification"
# Usage reports to MLflow's makers are on by default, and addresses go to standard output.
FIXED_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
}
# By MLflow's own a server that hangs takes a quarter of an hour: 120 s, 7 times again
BOUNDS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
LOGGERS = ("mlflow", "alembic", "urllib3", "databricks")
LONGEST_VALUE = 500  # of an option; servers before MLflow 2.8 take no more
METRICS_PER_REQUEST = 500  # MLflow takes 1,000, options and tags included
NO_SUCH_RUN = "RESOURCE_DOES_NOT_EXIST"


class TrackingError(RunError):
    """MLflow does not take what it is sent; the message says which MLflow and why."""


class Track(NamedTuple):
    """What MLflow has of a run.

    Attributes:
        params: dict of name -> str.
        metrics: dict of name -> float, the newest value of each.
        tags: dict of name -> str.
        status: str, such as RUNNING or FINISHED.
        data_contexts: set of str, what its data sets are for, such as training.
    """

    params: dict
    metrics: dict
    tags: dict
    status: str
    data_contexts: set


class MlflowStore:
    """A tracking server or database of MLflow.

    Args:
        uri: str, as MLFLOW_TRACKING_URI has it, with credentials if it has some.
        address: str, what people and files are told instead.
        artifact_folder: str, where files of a database beside the runs go; None leaves that to
            the server.

    Raises:
        TrackingError: it cannot be reached, or does not accept us.
    """

    def __init__(self, uri, address, artifact_folder=None):
        from mlflow import MlflowClient

        self.address = address
        with self._plain_errors():
            self.client = MlflowClient(uri)
            self.experiment_id = self._find_experiment(artifact_folder)

    def _find_experiment(self, artifact_folder):
        experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        if experiment_id and not os.environ.get("MLFLOW_EXPERIMENT_NAME"):
            return self.client.get_experiment(experiment_id).experiment_id
        experiment = self.client.get_experiment_by_name(name)
        if experiment:
            return experiment.experiment_id
        place = artifact_folder and Path(os.path.abspath(artifact_folder)).as_uri()
        return self.client.create_experiment(name, artifact_location=place)

    @contextlib.contextmanager
    def _plain_errors(self):
        try:
            yield
        except Exception as error:
            raise TrackingError(f"MLflow {self.address} {explain(error)}") from error

    def create(self, name, tags):
        """Begins a run.

        Args:
            name: str, as people see it.
            tags: dict of name -> str.

        Returns:
            str, its id.
        """
        with self._plain_errors():
            return self.client.create_run(self.experiment_id, run_name=name, tags=tags).info.run_id

    def read(self, run_id):
        """Reads a run.

        Args:
            run_id: str.

        Returns:
            `Track`, or None where there is no such run any more.
        """
        from mlflow.exceptions import MlflowException

        with self._plain_errors():
            try:
                run = self.client.get_run(run_id)
            except MlflowException as error:
                if error.error_code == NO_SUCH_RUN:
                    return None
                raise
            if run.info.lifecycle_stage != "active":
                return None
            contexts = {tag.value for data in run.inputs.dataset_inputs for tag in data.tags}
            return Track(
                run.data.params, run.data.metrics, run.data.tags, run.info.status, contexts
            )

    def read_steps(self, run_id, name):
        """Reads the values of a metric.

        Args:
            run_id: str.
            name: str, the metric.

        Returns:
            dict of step, an int -> value, a float.
        """
        with self._plain_errors():
            history = self.client.get_metric_history(run_id, name)
            return {metric.step: metric.value for metric in history}

    def log(self, run_id, metrics=(), params=None, tags=None):
        """Adds scores, options and tags to a run.

        Args:
            run_id: str.
            metrics: list of (name, value, step).
            params: dict of name -> str; one that is there cannot be changed.
            tags: dict of name -> str; one that is there is replaced.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        entries = [Metric(name, float(value), now, step) for name, value, step in metrics]
        with self._plain_errors():
            self.client.log_batch(
                run_id,
                params=[Param(name, value) for name, value in (params or {}).items()],
                tags=[RunTag(name, value) for name, value in (tags or {}).items()],
            )
            for start in range(0, len(entries), METRICS_PER_REQUEST):
                self.client.log_batch(run_id, entries[start : start + METRICS_PER_REQUEST])

    def add_data(self, run_id, context, name, digest, source, profile):
        """Tells what a run is made from.

        Args:
            run_id: str.
            context: str, what the data are for: training or validation.
            name: str, the data set.
            digest: str, of its content, at most 36 characters.
            source: str, where it is, as JSON.
            profile: str, how large it is, as JSON.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(name[:LONGEST_VALUE], digest, "local", source, profile=profile)
        with self._plain_errors():
            tags = [InputTag("mlflow.data.context", context)]
            self.client.log_inputs(run_id, [DatasetInput(data, tags)])

    def set_status(self, run_id, status):
        """Says how a run goes.

        Args:
            run_id: str.
            status: str, RUNNING, FINISHED, FAILED or KILLED.
        """
        with self._plain_errors():
            if status == "RUNNING":
                self.client.update_run(run_id, status)
            else:
                self.client.set_terminated(run_id, status)

    def add_file(self, run_id, path, folder):
        """Sends a file, or a folder with all that is in it.

        Args:
            run_id: str.
            path: str, the file or folder here.
            folder: str, the folder there.
        """
        with self._plain_errors():
            if os.path.isdir(path):
                self.client.log_artifacts(run_id, path, folder)
            else:
                self.client.log_artifact(run_id, path, folder)


def open_store(save_dir):
    """Opens what MLFLOW_TRACKING_URI names, or a database beside the runs.

    Args:
        save_dir: str, the folder of all runs.

    Returns:
        `MlflowStore`.

    Raises:
        InputError: MLflow is not installed, or does not answer as it should.

    Example:

    ```python
    store = open_store("save_h5_model")
    run_id = store.create("flowers", {})
    store.log(run_id, [("val_accuracy", 0.93, 1)])
    ```
    """
    uri, artifact_folder = os.environ.get("MLFLOW_TRACKING_URI"), None
    address = f"at {without_secrets(uri)}" if uri else LOCAL
    with waiting("opening MLflow"):
        _import_mlflow()
        if not uri:
            os.makedirs(save_dir, exist_ok=True)
            path = Path(os.path.abspath(save_dir), DATABASE)
            check_writable(str(path), "--save_dir")  # MLflow would try for two minutes
            # SQLAlchemy decodes it; more than this MLflow would take for another folder.
            uri = "sqlite:///" + path.as_posix().replace("%", "%25").replace("?", "%3F")
            artifact_folder = os.path.join(save_dir, ARTIFACTS)
        try:
            return MlflowStore(uri, address, artifact_folder)
        except TrackingError as error:
            raise InputError(
                f"--track: {error}; correct MLFLOW_TRACKING_URI (http://HOST:PORT), unset it for a "
                "database beside the runs, or leave --track out"
            ) from error


def _import_mlflow():
    """Imports MLflow, with its reports to its makers and its messages to us turned off."""
    os.environ.update(FIXED_VARIABLES)
    for name, value in BOUNDS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="mlflow")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        raise InputError(
            "--track mlflow: MLflow is not installed; bash sh/setup.sh track, or pip install -r "
            "requirements/track.txt"
        ) from None
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def without_secrets(text):
    """A text without what may be a secret in its addresses: user, password, query.

    Args:
        text: str.

    Returns:
        str.

    Example:
        >>> without_secrets("http://me:secret@host:5000/x?token=1")
        'http://host:5000/x'
    """
    return re.sub(r"(\w+://)(?:[^/\s@]*@)?([^\s?]*)(\?\S*)?", r"\1\2", text)


def explain(error):
    """Why MLflow did not take something, as the end of a sentence that begins with its address.

    Args:
        error: the exception that MLflow raised.

    Returns:
        str.
    """
    import requests
    import urllib3

    causes = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    timeouts = requests.Timeout, urllib3.exceptions.ReadTimeoutError  # inside after a repetition
    if any(isinstance(cause, timeouts) for cause in causes):
        seconds = os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
        return f"does not answer within {seconds} s (MLFLOW_HTTP_REQUEST_TIMEOUT)"
    if any(isinstance(cause, requests.ConnectionError) for cause in causes):
        reasons = [cause.strerror for cause in causes if getattr(cause, "strerror", None)]
        return f"cannot be reached{f': {reasons[-1]}' if reasons else ''}"
    status = _http_status(causes[0])
    if status in (401, 403):
        return (
            f"refuses us (HTTP {status}): check MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD"
        )
    lines = str(causes[0]).splitlines() or [type(causes[0]).__name__]
    return f"does not take it: {without_secrets(lines[0])[:300]}"


def _http_status(error):
    """int, the status that a server has answered with, or None."""
    response = getattr(error, "response", None)  # of an uploaded file
    if response is not None:
        return response.status_code
    match = re.search(r"failed with error code (\d+)", str(error))
    if match:
        return int(match[1])
    return error.get_http_status_code() if hasattr(error, "get_http_status_code") else None
