"""Log candidates to MLflow: a child run each, with model, parameters, plots and dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import mlflow

from modelbook.display.components import list_figures
from modelbook.display.figures import predictions
from modelbook.evaluation import metrics_ci
from modelbook.registry.requirements import pip_requirements
from modelbook.registry.signature import build_pipeline_signature
from modelbook.registry.tracking import StageRun, active_run

if TYPE_CHECKING:
    from modelbook.training.candidate import Candidate
    from modelbook.training.experiment import Experiment

PLOT_RESAMPLES = 0  # no bands: they would take more time than all else; the report has intervals
MAX_PARAMETER_LENGTH = 500
DIGEST_LENGTH = 36  # maximum length of a dataset digest in MLflow


@dataclass(frozen=True)
class CandidateLogger:
    """Logs candidates as child runs of their stage's run, with a logged model if they are fitted.

    Parameters
    ----------
    run : StageRun
        The run of the stage, the parent of the candidates' runs.
    experiment : Experiment
        The experiment that compares them.
    train_path : Path
        File of the training rows, which are the dataset of each run.
    fingerprint : str
        Fingerprint of the data.
    """

    run: StageRun
    experiment: Experiment
    train_path: Path
    fingerprint: str

    def __call__(self, candidate: Candidate) -> None:
        """Log a candidate; with its fitted pipeline, if it has one."""
        has_model = candidate.pipeline is not None
        self.run.log_candidate(candidate, self._log_model if has_model else None)

    def _log_model(self, run_id: str, candidate: Candidate) -> str:
        with active_run(run_id), TemporaryDirectory() as folder:
            mlflow.log_input(self._dataset, context="training")
            mlflow.log_params(_list_parameters(candidate.pipeline))
            self._draw_plots(candidate, Path(folder))
            mlflow.log_artifacts(folder, "plots")
            return log_pipeline(candidate.pipeline, self.experiment)

    @cached_property
    def _dataset(self) -> Any:
        rows = self.experiment.features.assign(
            **{self.experiment.task.contract.target: self.experiment.target}
        )
        return mlflow.data.from_pandas(  # type: ignore[attr-defined]
            rows,
            source=str(self.train_path),
            targets=self.experiment.task.contract.target,
            name=self.train_path.parent.name,
            digest=self.fingerprint[:DIGEST_LENGTH],
        )

    def _draw_plots(self, candidate: Candidate, folder: Path) -> None:
        """Draw the plots of the stage finalize from the out-of-fold predictions."""
        task = self.experiment.task
        experiment = self.experiment
        scores = experiment.join_fold_scores(enumerate(candidate.fold_scores))
        scored = experiment.to_scored_rows(scores)
        options = {"resamples": PLOT_RESAMPLES, "seed": 0}
        figure_module = predictions.get_figure_module(task.contract.task)
        values = metrics_ci.evaluate_metrics(scored, task.metric_functions(), resamples=0, seed=0)
        curve = metrics_ci.compute_reliability_curve(
            task.select_calibration_pairs(scored), **options
        )
        plots = {
            "curves": figure_module.plot_diagnostics(
                task.compute_curves(scored, **options), values
            ),
            "calibration": figure_module.plot_calibration(curve),
        }
        for name, plot in plots.items():
            figures = [figure for figure in list_figures(plot) if figure.figure is not None]
            for position, figure in enumerate(figures, 1):
                suffix = f"-{position}" if len(figures) > 1 else ""
                (folder / f"{name}{suffix}.svg").write_text(figure.to_svg_file(), encoding="utf-8")


def log_pipeline(pipeline: Any, experiment: Experiment) -> str:
    """Log a fitted pipeline to the active run, for ``mlflow.sklearn`` and ``mlflow.pyfunc``.

    Returns the id of the model.
    """
    info = mlflow.sklearn.log_model(
        pipeline,
        name="model",
        serialization_format="cloudpickle",
        signature=build_pipeline_signature(experiment.features, experiment.task),
        pip_requirements=pip_requirements(pipeline),
        pyfunc_predict_fn=experiment.task.response_method,
    )
    return str(info.model_id)


def _list_parameters(pipeline: Any) -> dict[str, str]:
    """List the estimator's class and parameters, as texts."""
    estimator = pipeline.steps[-1][1]
    parameters = {"estimator": type(estimator).__name__, **estimator.get_params()}
    return {name: str(value)[:MAX_PARAMETER_LENGTH] for name, value in parameters.items()}
