"""Forked kernels: isolation, cause of death, cleanup."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import psutil
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from small_project import ROOT, STAGES, clean_environ

from modelbook import config
from modelbook.build import dependencies, fork_server, kernel_forking, kernels
from modelbook.build.kernel_forking import (
    KernelForker,
    can_fork,
    compute_server_key,
    share_fork_server,
)
from modelbook.build.kernel_options import KERNEL_ENVIRONMENT
from modelbook.build.kernels import StageKernel
from modelbook.registry import clean_process, store

COMMAND = ["python", "-m", "ipykernel_launcher", "-f", "connection.json"]
START_ENVIRON = clean_environ()  # before a test or a library that it imports has changed it
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux"),
]


def evaluate(kernel, expression):
    """The value of an expression in a kernel."""
    client = kernel._connect_client()
    try:
        reply = client.execute(
            "import os, sys", user_expressions={"value": expression}, reply=True, timeout=60
        )
        return ast.literal_eval(reply["content"]["user_expressions"]["value"]["data"]["text/plain"])
    finally:
        client.stop_channels()


def write_notebook(path, source):
    cell = {"cell_type": "code", "source": [source]}
    path.write_text(json.dumps({"cells": [cell]}))


def test_signal_to_ended_kernel_is_ignored():
    ended_process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    ended_process.wait()
    template, connection = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with template:
        process = kernel_forking.ForkedKernel(connection)
        template.send(json.dumps({"pid": ended_process.pid}).encode())
        process.kill()  # the template has not said yet that it ended
        assert process.poll() is None
        template.send(json.dumps({"code": 0}).encode())
        assert process.wait(10) == 0


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a kernel for a notebook, which by default imports next to nothing."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    for variable in kernel_forking.FORK_SERVER_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    forker, kernels, notebook = KernelForker(), [], tmp_path / "notebook.ipynb"

    def start(source="import json"):
        write_notebook(notebook, source)
        kernel = StageKernel(tmp_path, notebook, tmp_path / "log", "token", forker)
        kernels.append(kernel)
        kernel.wait_until_ready()
        return kernel

    yield start
    for kernel in kernels:
        kernel.shut_down()
    forker.close()


def test_kernels_of_one_template_are_isolated(start, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "edited.py").write_text("VALUE = 1\n")
    monkeypatch.setenv("MODELBOOK_SECOND", "no")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    first = start()
    assert evaluate(first, "os.environ['OMP_WAIT_POLICY']") == "PASSIVE"
    assert evaluate(first, "__import__('edited').VALUE, os.environ['MODELBOOK_SECOND']") == (
        1,
        "no",
    )
    (tmp_path / "edited.py").write_text("VALUE = 2222\n")
    monkeypatch.setenv("MODELBOOK_SECOND", "yes")
    second = start()
    assert evaluate(second, "__import__('edited').VALUE, os.environ['MODELBOOK_SECOND']") == (
        2222,
        "yes",
    )
    assert evaluate(first, "os.getppid()") == evaluate(second, "os.getppid()") != os.getpid()
    pid, group, session, folder = evaluate(
        second, "os.getpid(), os.getpgid(0), os.getsid(0), os.getcwd()"
    )
    assert pid == group == session == second._process.pid != first._process.pid
    assert folder == str(tmp_path)
    draws = [evaluate(kernel, "__import__('numpy').random.random()") for kernel in (first, second)]
    assert draws[0] != draws[1]


@pytest.mark.parametrize(
    ("code", "facts"),
    [
        ("os._exit(3)", "code 3"),
        ("os.kill(0, 9)", "SIGKILL"),
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
    ],
)
def test_cause_of_kernel_death_is_described(start, code, facts):
    kernel = start()
    client = kernel._connect_client()
    client.execute(f"import os; {code}")
    kernel._process.wait(10)
    client.stop_channels()
    assert facts in kernel.describe_exit()


@pytest.mark.parametrize(
    ("signal_name", "cause"), [("SIGKILL", "memory"), ("SIGSEGV", "native code"), ("SIGTERM", "")]
)
def test_cause_of_signal_is_stated_only_if_known(start, tmp_path, monkeypatch, signal_name, cause):
    events = tmp_path / "memory.events"
    events.write_text("oom_kill 0\n")
    monkeypatch.setattr(kernels, "OOM_EVENTS_FILE", events)
    kernel = start()
    events.write_text("oom_kill 1\n")  # of any process of the container
    os.kill(kernel._process.pid, signal.Signals[signal_name])
    kernel._process.wait(10)
    description = kernel.describe_exit()
    assert signal_name in description
    causes = [name for name in ("memory", "native code", "outside") if name in description]
    assert causes == ([cause] if cause else [])


def test_kernel_can_be_killed_before_fork(start):
    kernel = start()
    forker = KernelForker()
    try:
        process = forker.fork(
            [sys.executable, *COMMAND[1:]], {**os.environ}, "/", ["time", "this.takes", "no.time"]
        )
        process.kill()
        assert process.wait(20) == -signal.SIGKILL
    finally:
        forker.close()
    assert kernel._process.poll() is None  # the other template's


OWNER = """
    import sys
    from pathlib import Path
    from modelbook.build.kernel_forking import KernelForker
    from modelbook.build.kernels import StageKernel
    root = Path(sys.argv[1])
    kernel = StageKernel(root, root / "notebook.ipynb", root / "log", "token", KernelForker())
    kernel.wait_until_ready()
    print(kernel._process.pid, flush=True)
    sys.stdin.read()
"""


PROBE = """
    import json, os, sys
    state = {"parent": os.getppid(), "folder": os.getcwd(), "words": sys.argv[1:]}
    state["imported"] = [name for name in sys.modules if name.partition(".")[0] == "modelbook"]
    print(json.dumps({**state, "second": os.environ["MODELBOOK_SECOND"]}))
    sys.exit("ended")
"""


def test_a_clean_process_is_forked_from_the_kernels_template(start, tmp_path, monkeypatch):
    """Without a template, the process is started with the same environment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.py").write_text(textwrap.dedent(PROBE))
    kernel = start()
    environment = {**os.environ, "MODELBOOK_SECOND": "yes"}
    sockets = [
        evaluate(kernel, f"os.environ['{clean_process.FORK_SERVER_VARIABLE}']"),
        "/closed",
        "",
    ]
    states = []
    for path in sockets:
        monkeypatch.setenv(clean_process.FORK_SERVER_VARIABLE, path)
        result = clean_process.run_module(
            "probe", ["a word"], libraries=["json"], environment=environment
        )
        assert (result.returncode, result.stderr) == (1, "ended\n")
        states.append(json.loads(result.stdout))
    parents = [state.pop("parent") for state in states]
    assert parents == [evaluate(kernel, "os.getppid()"), os.getpid(), os.getpid()]
    expected = {"folder": str(tmp_path), "words": ["a word"], "imported": [], "second": "yes"}
    assert states == [expected] * 3


@pytest.mark.parametrize("shared", [False, True])
def test_killed_build_leaves_no_processes(start, tmp_path, shared, monkeypatch):
    write_notebook(tmp_path / "notebook.ipynb", "import json")

    def kill_owner():
        command = [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
            kernel = psutil.Process(int(owner.stdout.readline()))
            template = kernel.parent()
            owner.kill()
        psutil.wait_procs([kernel], timeout=10)
        assert not kernel.is_running()
        return template

    if not shared:
        template = kill_owner()
        psutil.wait_procs([template], timeout=10)
        assert not template.is_running()
        return
    with share_fork_server():
        build = start()
        template = kill_owner()
        assert template.is_running()  # serves the other builds of the block
        assert build._process.poll() is None
        assert evaluate(build, "os.getppid()") == template.pid
    assert build._process.wait(10) == -signal.SIGKILL
    assert not template.is_running()


def test_template_serves_only_its_interpreter_and_environment():
    def key(python=("python",), **environment):
        return compute_server_key(python, {"PATH": "/bin", **environment})

    assert (
        key()
        == key(MODELBOOK_FOLDS="3")
        == key(PYTHONPATH="/src")
        == key(PLOOMBER_ENV_FILENAME="env.x.yaml")
        == key(AWS_ENDPOINT_URL="http://127.0.0.1", JUPYTER_CONFIG_DIR="/home")
    )
    other_requests = [
        key(("other",)),
        key(OMP_NUM_THREADS="1"),
        key(NPY_DISABLE_CPU_FEATURES="AVX2"),
        key(PYTHONHASHSEED="0"),
    ]
    assert len({key(), *other_requests}) == 5


def test_builds_of_the_tests_share_a_template():
    """Although the build and pytest set environment variables."""
    environment = {**START_ENVIRON, **KERNEL_ENVIRONMENT, **store.ENVIRONMENT_DEFAULTS}
    python = [*KernelSpecManager().get_kernel_spec("python3").argv]
    python = python[: python.index("-m")]
    folder = os.environ[kernel_forking.FORK_SERVERS_VARIABLE]
    assert compute_server_key(python, environment) in os.listdir(folder)


def test_kernel_that_cannot_be_forked_is_started_as_process(monkeypatch, tmp_path):
    assert can_fork(COMMAND, [str(tmp_path)])
    assert not can_fork(["python", "-m", "other_kernel", "-f", "connection.json"], [])
    (tmp_path / "pandas.py").touch()  # a library of the project's own by this name
    assert not can_fork(COMMAND, [str(tmp_path)])
    monkeypatch.setattr("sys.platform", "darwin")
    assert not can_fork(COMMAND, [])
    forker = KernelForker()
    assert forker.fork(COMMAND, {**os.environ}, "/", []) is None
    forker.close()


def test_mlflow_plugin_missing_in_template_is_found_in_kernel(start):
    registry = "mlflow.store.artifact.artifact_repository_registry"
    plugins = f"sys.modules['{registry}'].get_registered_artifact_repositories()"
    open_plugin = f"{plugins}['modelbook']('modelbook:/x', tracking_uri='sqlite:////m.db')"
    kernel = start(f"import {registry}")
    assert evaluate(kernel, f"type({open_plugin}).__name__") == "EmbeddedArtifactRepository"


def test_kernel_plot_style_is_unaffected_by_preloaded_pycaret(start):
    restyled = (
        "sorted(name for name in matplotlib.rcParams if 'backend' not in name "
        "and matplotlib.rcParams[name] != matplotlib.rcParamsOrig[name])"
    )
    load = "globals().setdefault('matplotlib', __import__('matplotlib')) and "
    assert evaluate(start("import pycaret.regression"), load + restyled)
    assert evaluate(start("import matplotlib"), load + restyled) == []


def test_installed_packages_are_listed_before_fork(start):
    kernel = start("import mlflow, pycaret.regression")
    end = "lambda *_: os._exit(1)"
    forbid = (
        f"setattr(__import__('importlib.metadata').metadata, 'distributions', {end}), "
        f"setattr(__import__('importlib_metadata'), 'packages_distributions', {end})"
    )
    assert evaluate(kernel, forbid) == (None, None)
    assert evaluate(kernel, "sys.modules['pycaret'].show_versions()") is None
    check = "warn_dependency_requirement_mismatches(['mlflow'])"
    requirements = "__import__('mlflow.utils.requirements_utils').utils.requirements_utils"
    assert evaluate(kernel, f"{requirements}.{check}") is None


def test_kernel_collects_garbage(start):
    assert evaluate(start("import json"), "__import__('gc').isenabled()")


def test_preloaded_modules_survive_fork():
    """No Python thread and no event loop is running, which a fork would lose or share."""
    notebooks = [ROOT / f"notebooks/{config.stage_stem(stage)}.ipynb" for stage in STAGES]
    preloaded = {name for path in notebooks for name in dependencies.find_preload_modules(path)}
    names = [*fork_server.KERNEL_MODULES, *sorted(preloaded)]
    assert {"pandas", "pycaret.classification", "mlflow.pyfunc"} <= {*names}
    of_ingest = {*dependencies.find_preload_modules(notebooks[0])}
    assert {"jinja2", "matplotlib.figure", "sklearn.ensemble"} <= of_ingest  # functions import them
    opens_store = "mlflow.store.tracking.sqlalchemy_store"
    assert opens_store in {*names} - of_ingest
    code = f"""
        import asyncio, importlib, json, os, sys, threading
        from contextlib import suppress
        sys.modules["modelbook"] = None
        for name in {names!r}:
            with suppress(ImportError):  # a class, not a module
                importlib.import_module(name)
        files = [os.path.realpath(f"/proc/self/fd/{{n}}") for n in range(3, 99) if os.path.exists(f"/proc/self/fd/{{n}}")]
        print(json.dumps([
            threading.active_count(), asyncio.get_event_loop_policy()._local._loop is None,
            [name for name in files if "eventpoll" in name or ".db" in name],
            sorted(name for name in sys.modules if name.split(".")[0] in ("evidently", "onnxruntime", "modelbook") and sys.modules[name]),
        ]))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout.splitlines()[-1]) == [1, True, [], []]
