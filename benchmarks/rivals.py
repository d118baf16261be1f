"""The usual ways to serve a model, for benchmarks/serving.py: applications for uvicorn, all on one champion and row.

``EXAMPLE`` in the environment names a JSON file with a row, ``PICKLE`` the fitted pipeline.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import create_model

ROW = json.loads(Path(os.environ["EXAMPLE"]).read_text())
KINDS: dict[str, Any] = {
    name: (str if isinstance(value, str) else float | None, ...) for name, value in ROW.items()
}
Row = create_model("Row", **KINDS)


def empty() -> FastAPI:
    """An endpoint that validates the body and does nothing."""
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: Row) -> dict[str, Any]:  # type: ignore[valid-type]
        return {"prediction": 1}

    return app


def pipeline() -> FastAPI:
    """The fitted pipeline's predict_proba."""
    import cloudpickle
    import pandas as pd

    model, app = cloudpickle.loads(Path(os.environ["PICKLE"]).read_bytes()), FastAPI()

    @app.post("/predict")
    def predict(row: Row) -> dict[str, Any]:  # type: ignore[valid-type]
        return {"probability": float(model.predict_proba(pd.DataFrame([row.model_dump()]))[0, 1])}  # type: ignore[attr-defined]

    return app


def pycaret() -> FastAPI:
    """PyCaret's predict_model."""
    import cloudpickle
    import pandas as pd
    from pycaret.classification import predict_model

    model, app = cloudpickle.loads(Path(os.environ["PICKLE"]).read_bytes()), FastAPI()

    @app.post("/predict")
    def predict(row: Row) -> dict[str, Any]:  # type: ignore[valid-type]
        result = predict_model(
            model, data=pd.DataFrame([row.model_dump()]), raw_score=True, verbose=False
        )  # type: ignore[attr-defined]
        return {"prediction": int(result["prediction_label"].iloc[0])}

    return app
