"""MLflow: a server (MLFLOW_TRACKING_URI, or `mlflow(uri=...)`), or a data base in the run folder."""

import os
import time
from collections.abc import Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from unmask.files import read_json, write_json
from unmask.training.trackers import IDS, Plain, Tracker

__all__ = ["MLflow"]
BASE = "mlflow.db"  # in the run folder, where no server is named
AT_ONCE = 100  # parameters that MLflow takes in one call


class MLflow(Tracker):
    """One MLflow run per run folder. A resumed training goes on with it, and what MLflow has already is not sent again,
    since it would keep both."""

    def __init__(self, experiment: str = "unmask", uri: str | None = None):
        self.experiment, self.uri = experiment, uri
        self._client: Any = None
        self._id, self._last = "", 0

    def begin(self, out: Path, settings: Mapping[str, Plain], step: int) -> None:
        if self._client is not None:
            return
        mlflow = import_module("mlflow")
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / BASE).resolve()}"
        client, ids = mlflow.MlflowClient(tracking_uri=uri), read_json(out / IDS)
        if "mlflow" in ids:
            self._id = ids["mlflow"]
            client.update_run(self._id, status="RUNNING")
            self._last = max((metric.step for metric in client.get_metric_history(self._id, "seconds")), default=0)
        else:
            experiment = client.get_experiment_by_name(self.experiment)
            where = experiment.experiment_id if experiment else client.create_experiment(self.experiment)
            self._id = client.create_run(where, run_name=out.resolve().name).info.run_id
            write_json(out / IDS, ids | {"mlflow": self._id})
            parameters = iter(mlflow.entities.Param(name, str(value)[:6000]) for name, value in settings.items())
            while batch := list(islice(parameters, AT_ONCE)):
                client.log_batch(self._id, params=batch)
        self._client = client

    def write(self, step: int, values: Mapping[str, float]) -> None:
        metric = import_module("mlflow").entities.Metric
        if step > self._last:
            now = int(time.time() * 1000)
            self._client.log_batch(self._id, metrics=[metric(name, v, now, step) for name, v in values.items()])

    def close(self) -> None:
        if self._client is not None:
            self._client.set_terminated(self._id)
            self._client = None
