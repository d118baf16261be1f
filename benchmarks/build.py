"""Pipeline overhead: build time, relative to one script, and the time of an up-to-date build.

Build and script alternate, so that their ratio is robust to a machine whose speed varies.

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
        "--rounds", type=int, default=3, help="number of rounds; medians are printed (default: 3)"
    )
    args = parser.parse_args()
    profiles = {"sample build": "env.sample.yaml", **({"build": "env.yaml"} if args.full else {})}
    for name, env_file in profiles.items():
        rounds = [run_round(env_file) for _ in range(args.rounds)]
        print_measurements(name, [durations["build"] for durations in rounds], TARGETS[name])
        print_measurements(f"{name}, plain script", [durations["script"] for durations in rounds])
        print_measurements(
            f"{name}, overhead",
            [durations["build"] / durations["script"] for durations in rounds],
            TARGETS.get(f"{name}, overhead"),
            unit="x",
        )
        print_measurements(
            "no-op, modelbook build", [durations["noop"] for durations in rounds], TARGETS["no-op"]
        )
        print_measurements(
            "no-op, ploomber build",
            [durations["ploomber noop"] for durations in rounds],
            TARGETS["no-op"],
        )


def run_round(env_file: str) -> dict[str, float]:
    """Time a build and the script, each in a fresh project, and then two up-to-date builds."""
    with TemporaryDirectory() as build_folder, TemporaryDirectory() as script_folder:
        build_root, script_root = (
            copy_project(Path(build_folder)),
            copy_project(Path(script_folder)),
        )
        return {
            "build": measure_seconds(lambda: run(build_root, env_file, "ploomber", "build")),
            "noop": measure_seconds(lambda: run(build_root, env_file, "modelbook", "build")),
            "ploomber noop": measure_seconds(
                lambda: run(build_root, env_file, "ploomber", "build")
            ),
            "script": measure_seconds(
                lambda: run(script_root, env_file, "python", str(ROOT / "benchmarks/plain.py"))
            ),
        }


def copy_project(root: Path) -> Path:
    """Copy the project's sources into a folder, without generated files."""
    for name in ("notebooks", "contracts"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("pipeline.yaml", "env.yaml", "env.sample.yaml"):
        shutil.copy(ROOT / name, root)
    return root


def run(root: Path, env_file: str, *command: str) -> None:
    environment = {**os.environ, "PLOOMBER_ENV_FILENAME": env_file}
    result = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")


def measure_seconds(function: Callable[[], None]) -> float:
    start_time = time.perf_counter()
    function()
    return time.perf_counter() - start_time


def print_measurements(
    name: str, values: list[float], target: float | None = None, unit: str = "s"
) -> None:
    """Print median, minimum and maximum, and the target."""
    target_text = f"   target at most {target:g} {unit}" if target else ""
    print(
        f"{name:<32} median {statistics.median(values):7.2f} {unit}   "
        f"{min(values):7.2f} to {max(values):7.2f}{target_text}",
        flush=True,
    )


if __name__ == "__main__":
    main()
