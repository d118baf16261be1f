"""What the pipeline costs: a build, the same work in one plain script, and a build with nothing to do.

Build and script run in turn, in one go on one machine, so that their ratio holds when the machine's speed drifts.

    python benchmarks/build.py              the sample profile only, some minutes
    python benchmarks/build.py --full       the bundled book as well, some ten minutes a round
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
TARGETS = {"build": 300, "sample build": 90, "no-op": 5, "build, overhead": 1.3}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="measure the bundled book, too")
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often; medians are told (default: 3)"
    )
    options = parser.parse_args()
    profiles = {
        "sample build": "env.sample.yaml",
        **({"build": "env.yaml"} if options.full else {}),
    }
    for name, env in profiles.items():
        rounds = [round_of(env) for _ in range(options.rounds)]
        tell(name, [r["build"] for r in rounds], TARGETS[name])
        tell(f"{name}, plain script", [r["script"] for r in rounds])
        tell(
            f"{name}, overhead",
            [r["build"] / r["script"] for r in rounds],
            TARGETS.get(f"{name}, overhead"),
            unit="x",
        )
        tell("no-op, modelbook build", [r["noop"] for r in rounds], TARGETS["no-op"])
        tell("no-op, ploomber build", [r["ploomber noop"] for r in rounds], TARGETS["no-op"])


def round_of(env: str) -> dict[str, float]:
    """One round: build and script each in a fresh project, then the build again with nothing to do."""
    with TemporaryDirectory() as item, TemporaryDirectory() as other:
        build, script = project(Path(item)), project(Path(other))
        return {
            "build": timed(lambda: run(build, env, "ploomber", "build")),
            "noop": timed(lambda: run(build, env, "modelbook", "build")),
            "ploomber noop": timed(lambda: run(build, env, "ploomber", "build")),
            "script": timed(lambda: run(script, env, "python", str(ROOT / "benchmarks/plain.py"))),
        }


def project(root: Path) -> Path:
    """A copy of the project without anything that was generated."""
    for name in ("notebooks", "contracts"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("pipeline.yaml", "env.yaml", "env.sample.yaml"):
        shutil.copy(ROOT / name, root)
    return root


def run(root: Path, env: str, *words: str) -> None:
    named = {**os.environ, "PLOOMBER_ENV_FILENAME": env}
    result = subprocess.run(
        [str(BIN / words[0]), *words[1:]], cwd=root, env=named, capture_output=True, check=False
    )
    if result.returncode:
        sys.exit(
            f"{' '.join(words)} failed:\n{result.stdout.decode()[-2000:]}{result.stderr.decode()[-2000:]}"
        )


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def tell(name: str, values: list[float], target: float | None = None, unit: str = "s") -> None:
    """Print median, least and most, beside the target."""
    goal = f"   target at most {target:g} {unit}" if target else ""
    print(
        f"{name:<32} median {statistics.median(values):7.2f} {unit}   {min(values):7.2f} to {max(values):7.2f}{goal}",
        flush=True,
    )


if __name__ == "__main__":
    main()
