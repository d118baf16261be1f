"""FastAPI applications that benchmarks/serving.py compares with `modelbook serve`.

The environment variable ``EXAMPLE`` is the path of a JSON file with a row, ``PICKLE`` the path of
the pickled pipeline.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import create_model

ROW = json.loads(Path(os.environ["EXAMPLE"]).read_text())
FIELD_TYPES: dict[str, Any] = {
    name: (str if isinstance(value, str) else float | None, ...) for name, value in ROW.items()
}
Row = create_model("Row", **FIELD_TYPES)


def make_empty_app() -> FastAPI:
    """An endpoint that validates the body and does nothing."""
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: Row) -> dict[str, Any]:  # type: ignore[valid-type]
        return {"prediction": 1}

    return app


def make_pipeline_app() -> FastAPI:
    """An endpoint that calls the fitted pipeline's predict_proba."""
    import cloudpickle
    import pandas as pd

    model = cloudpickle.loads(Path(os.environ["PICKLE"]).read_bytes())
    app = FastAPI()

    @app.post("/predict")
    def predict(row: Row) -> dict[str, Any]:  # type: ignore[valid-type]
        frame = pd.DataFrame([row.model_dump()])  # type: ignore[attr-defined]
        return {"probability": float(model.predict_proba(frame)[0, 1])}

    return app


def make_pycaret_app() -> FastAPI:
    """An endpoint that calls PyCaret's predict_model."""
    import cloudpickle
    import pandas as pd
    from pycaret.classification import predict_model

    model = cloudpickle.loads(Path(os.environ["PICKLE"]).read_bytes())
    app = FastAPI()

    @app.post("/predict")
    def predict(row: Row) -> dict[str, Any]:  # type: ignore[valid-type]
        frame = pd.DataFrame([row.model_dump()])  # type: ignore[attr-defined]
        result = predict_model(model, data=frame, raw_score=True, verbose=False)
        return {"prediction": int(result["prediction_label"].iloc[0])}

    return app
