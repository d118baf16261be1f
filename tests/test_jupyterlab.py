"""JupyterLab in a real browser: open, run, edit, save, sandbox, panel."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import prerequisites
import pytest
from command_template import write_forked_kernelspec
from playwright.sync_api import Page, sync_playwright
from small_project import BIN, ROOT, STAGES, SmallProject

from modelbook import config
from modelbook.registry import store

pytestmark = [pytest.mark.slow, pytest.mark.requires("browser")]

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run")  # fmt: skip
TOKEN = "of-this-test"
SECONDS = 120.0  # time limit of a page or a stage

IDLE = """path => {
    const panel = jupyterapp.shell.currentWidget;
    return panel?.context?.path === path && panel.context.sessionContext.session?.kernel?.status === 'idle';
}"""
EXECUTION_STATE = """() => {
    const panel = jupyterapp.shell.currentWidget;
    const cells = [...panel.content.model.cells].filter(cell => cell.type === 'code');
    const failed = cells.some(cell => cell.toJSON().outputs.some(output => output.output_type === 'error'));
    const idle = panel.context.sessionContext.session.kernel.status === 'idle';
    return idle && (failed || cells.every(cell => cell.executionCount !== null));
}"""
ERRORS = """() => [...jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type === 'code')
    .flatMap(cell => cell.toJSON().outputs).filter(output => output.output_type === 'error').map(e => e.evalue)"""
SHOWN = """id => {
    const content = jupyterapp.shell.currentWidget.content;
    const place = content.widgets.findIndex(widget => widget.model.id === id);
    content.activeCellIndex = place;
    return content.scrollToItem(place, 'start');
}"""
REPLACED = """([id, old, changed]) => {
    const cells = [...jupyterapp.shell.currentWidget.content.model.cells];
    const source = cells.find(cell => cell.id === id).sharedModel;
    if (!source.getSource().includes(old)) throw new Error(`${id} has no ${old}`);
    source.setSource(source.getSource().replace(old, changed));
}"""
SAVED = "() => !jupyterapp.shell.currentWidget.context.model.dirty"
REVERTED = "async () => { await jupyterapp.shell.currentWidget.context.revert() }"
CLOSED = """async () => {
    jupyterapp.shell.currentWidget.close();
    await jupyterapp.serviceManager.sessions.shutdownAll();
}"""
DRESSED = "async name => { await jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab ' + name}) }"


@pytest.fixture(scope="module")
def project(
    bundled_project: SmallProject, tmp_path_factory: pytest.TempPathFactory
) -> SmallProject:
    """A clone, set up and built; the notebooks' own book, made small."""
    small_project = SmallProject.copy(bundled_project.first_build, tmp_path_factory.mktemp("clone"))
    for name in (".gitattributes", ".gitignore"):
        shutil.copy(ROOT / name, small_project.root)
    git(small_project, "init", "--quiet")
    result = small_project.run("modelbook", "setup")
    assert result.returncode == 0, result.stderr
    git(small_project, "add", "--all")
    git(
        small_project, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "all"
    )
    result = small_project.build()
    assert result.returncode == 0, result.stdout + result.stderr
    assert small_project.list_executed_stages(result) == []
    assert git(small_project, "status", "--porcelain") == ""
    return small_project


@pytest.fixture(scope="module")
def products_of_build(project: SmallProject) -> dict[str, object]:
    """Products of the build before manual runs."""
    return list_products(project)


@pytest.fixture(scope="module")
def kernelspecs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of kernelspecs with precedence over the environment's; empty at first."""
    return tmp_path_factory.mktemp("kernelspecs")


@pytest.fixture
def forked_kernels(kernelspecs: Path) -> Iterator[None]:
    """Use forked kernels, which start faster; another test starts the installed kernel."""
    write_forked_kernelspec(kernelspecs)
    yield
    shutil.rmtree(kernelspecs / "kernels")


@pytest.fixture(scope="module")
def server(
    project: SmallProject,
    products_of_build: dict,
    kernelspecs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """URL of a JupyterLab without user settings, configured by `modelbook setup`."""
    home = tmp_path_factory.mktemp("home")
    places = {
        name: str(home / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
                     "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
    }  # fmt: skip
    places["JUPYTER_PATH"] = str(kernelspecs)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        BIN / "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=project.root,
            env={**project.environ, **places},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for_server(
                f"http://127.0.0.1:{port}/api/status?token={TOKEN}", process, home / "log"
            )
            yield f"http://127.0.0.1:{port}/lab?token={TOKEN}"
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def requested_urls() -> list[str]:
    """URLs of all requests of the browser."""
    return []


@pytest.fixture(scope="module")
def page(server: str, requested_urls: list[str]) -> Iterator[Page]:
    """A browser that has opened JupyterLab."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=prerequisites.browser(), args=QUIET)
        page = opened.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(SECONDS * 1000)
        page.on("request", lambda request: requested_urls.append(request.url))
        page.goto(server)
        page.locator(".jp-DirListing-item").first.wait_for()
        page.wait_for_load_state("networkidle")
        yield page
        opened.close()


def wait_for_server(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(int(SECONDS * 5)):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    pytest.fail(f"JupyterLab does not answer:\n{log.read_text()}")


def git(project: SmallProject, *args: str) -> str:
    environment = {**os.environ, "GIT_PAGER": "cat"}
    result = subprocess.run(
        ["git", *args], cwd=project.root, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def list_products(project: SmallProject) -> dict[str, object]:
    """Products but for those by hand and the store's; who is champion."""
    products = {
        path: modified_at
        for path, modified_at in project.list_products().items()
        if not re.search(r"by-hand|sandbox/|\.ipynb_checkpoints", path)
        and not path.startswith(("models/mlflow.", "models/artifacts/", "models/aliases/"))
    }
    models = store.create_client(project.root).search_registered_models()
    aliases = {(model.name, *alias) for model in models for alias in model.aliases.items()}
    return {**products, "aliases": sorted(aliases)}


def notebook_name(stage: str) -> str:
    return f"{config.stage_stem(stage)}.ipynb"


def open_notebook(page: Page, stage: str) -> None:
    page.locator(".jp-DirListing-item", has_text=notebook_name(stage)).dblclick()
    page.wait_for_function(IDLE, arg=f"notebooks/{notebook_name(stage)}")
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(".Toastify__toast").count() == 0


def run_all(page: Page) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    page.wait_for_function(EXECUTION_STATE)
    assert page.evaluate(ERRORS) == []


def save_notebook(page: Page) -> None:
    page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) [data-jp-item-name=save]").click()
    page.wait_for_function(SAVED)


def scroll_to_cell(page: Page, name: str):
    """A cell by its id, scrolled to."""
    page.evaluate(f"async id => {{ await ({SHOWN})(id) }}", name)
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell.jp-mod-active")


def test_lab_starts_without_dialogs_or_external_requests(page, requested_urls):
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(".Toastify__toast").count() == 0
    assert [
        address for address in requested_urls if re.search(r"/lab/api/(build|news|update)", address)
    ] == []
    assert {
        re.split("[/:]+", address)[1]
        for address in requested_urls
        if address.startswith(("http", "ws"))
    } == {"127.0.0.1"}


def test_lab_lists_notebooks(page):
    page.locator(".jp-DirListing-item", has_text="notebooks").dblclick()
    page.locator(".jp-DirListing-item", has_text=notebook_name("ingest")).wait_for()
    names = page.locator(".jp-DirListing-item .jp-DirListing-itemText").all_inner_texts()
    assert names == [notebook_name(stage) for stage in STAGES]


def test_launcher_opens_panel_with_state_of_each_stage(page):
    page.locator(".jp-LauncherCard", has_text="Modelbook panel").click()
    rows = page.frame_locator("#modelbook-panel iframe").locator("#stages tr")
    rows.nth(len(STAGES) - 1).wait_for()
    cells = [row.inner_text().split("\t") for row in rows.all()]
    assert [row[0] for row in cells] == [config.stage_stem(stage) for stage in STAGES]
    assert {row[4] for row in cells} == {"up to date"}
    assert {row[1] for row in cells} == {f"notebooks/{notebook_name(stage)}" for stage in STAGES}


def test_links_between_reports_work(page):
    panel = page.frame_locator("#modelbook-panel iframe")
    panel.locator("tr[data-stage=compare] a", has_text="report").click()
    report = page.frame_locator(".jp-Document:not(.lm-mod-hidden) iframe")
    report.locator("h1", has_text="Compare").wait_for()
    report.locator("nav a", has_text="finalize").first.click()
    report.locator("h1", has_text="Finalize").wait_for()
    page.evaluate("() => jupyterapp.shell.currentWidget.close()")


def test_executed_deploy_notebook_run_by_hand_moves_no_alias(page, project):
    products_of_build = list_products(project)
    page.evaluate(
        "async path => { await jupyterapp.commands.execute('docmanager:open', {path}) }",
        f"reports/rand-hie/{notebook_name('deploy')}",
    )
    page.wait_for_function(IDLE, arg=f"reports/rand-hie/{notebook_name('deploy')}")
    run_all(page)
    scroll_to_cell(page, "open").get_by_text("By hand").first.wait_for()
    assert list_products(project) == products_of_build
    page.evaluate(REVERTED)
    page.evaluate(CLOSED)


EDITS = {  # replacements of cell texts, by stage and cell
    "compare": {
        "candidates": (
            "custom_estimators = {",
            "from sklearn.ensemble import HistGradientBoostingClassifier\n\n"
            'custom_estimators = {\n    "HGB": HistGradientBoostingClassifier(max_iter=20),',
        ),
        "pycaret": (
            "experiment = cv_experiment.pycaret",
            "experiment = cv_experiment.pycaret\n"
            'hgb = experiment.create_model(candidate_estimators["HGB"], verbose=False)\n'
            'experiment.plot_model(hgb, "auc")',
        ),
    }
}
SANDBOX_LINE = {"parameters": ("product = None", 'sandbox = "try"\nproduct = None')}


def run_in_sandbox(page: Page, stage: str) -> None:
    run_all(page)
    verdict = scroll_to_cell(page, "verdict").get_by_label("Verdict")
    verdict.wait_for()
    assert f"{stage} · rand-hie" in verdict.inner_text()
    scroll_to_cell(page, "open").get_by_text("Sandbox try").first.wait_for()
    source = "the table" if stage == "ingest" else "from this sandbox"
    assert source in scroll_to_cell(page, "open").inner_text()


@pytest.mark.usefixtures("forked_kernels")
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "explore"])
def test_notebooks_run_in_sandbox_and_saving_leaves_git_clean(page, project, stage):
    open_notebook(page, stage)
    assert page.locator(".jp-NotebookPanel-toolbar [data-jp-item-name=save]").count() == 1
    assert page.locator(".jp-NotebookPanel-toolbar", has_text="Share").count() == 0
    edits = {**SANDBOX_LINE, **EDITS.get(stage, {})}
    for name, (old, new) in edits.items():
        page.evaluate(REPLACED, [name, old, new])
    run_in_sandbox(page, stage)
    if stage == "compare":
        assert "HGB" in scroll_to_cell(page, "lead-figure").locator("table").text_content()
        plot = scroll_to_cell(page, "pycaret").locator(".jp-OutputArea-output img")
        plot.first.wait_for()
        save_notebook(page)
        own_notebook = project.root.with_name("mine.ipynb")
        shutil.copy(project.root / "notebooks" / notebook_name(stage), own_notebook)
    for name, (old, new) in edits.items():
        page.evaluate(REPLACED, [name, new, old])
    save_notebook(page)
    assert (
        '"execution_count": 1,' in (project.root / "notebooks" / notebook_name(stage)).read_text()
    )
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "diff") == ""
    page.evaluate(CLOSED)


@pytest.mark.usefixtures("forked_kernels")
def test_edited_parameter_takes_effect_and_is_only_git_change(page, project):
    """Runs explore in the sandbox, like the other tests."""
    open_notebook(page, "explore")
    [(name, (original_line, sandbox_line))] = SANDBOX_LINE.items()
    page.evaluate(REPLACED, [name, original_line, sandbox_line])
    line = scroll_to_cell(page, "parameters").locator(".cm-line", has_text="columns_shown")
    line.wait_for()
    old = line.inner_text()
    new = old.replace("= 8", "= 5")
    line.click()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    page.keyboard.type(new)
    run_in_sandbox(page, "explore")
    row = scroll_to_cell(page, "open").locator("tr", has_text="columns_shown")
    row.wait_for()
    assert row.locator("td").first.inner_text() == "5"
    assert "parameters cell" in row.inner_text()
    page.evaluate(REPLACED, [name, sandbox_line, original_line])
    save_notebook(page)
    assert git(project, "status", "--porcelain") == " M notebooks/02_explore.ipynb\n"
    changed_lines = re.findall(r"^[-+](?![-+]).*", git(project, "diff", "--no-ext-diff"), re.M)
    by_cell = re.findall(r"^[-+](?![-+]).*", git(project, "diff"), re.M)
    assert [line[0] + line[1:].strip(' ",').removesuffix("\\n") for line in changed_lines] == [
        f"-{old}",
        f"+{new}",
    ]
    assert by_cell == [f"-{old}", f"+{new}"]


def test_sandbox_is_listed_and_dropped(project):
    listed = project.run("modelbook", "sandbox", "list").stdout.split()
    assert listed[-len(STAGES) - 1 :] == ["try", *STAGES]
    assert project.run("modelbook", "sandbox", "drop", "try").returncode == 0


def measure_brightness(page: Page) -> tuple[int, int]:
    """Brightness of a displayed figure's background, and the contrast of its ink, out of 255."""
    from PIL import Image

    picture = scroll_to_cell(page, "balance-figure").locator("svg.chart, img").first.screenshot()
    grey = Image.open(io.BytesIO(picture)).convert("L")
    darkest, lightest = grey.getextrema()
    paper = max(enumerate(grey.histogram()), key=lambda shade: shade[1])[0]
    return paper, max(lightest - paper, paper - darkest)


@pytest.mark.parametrize(("theme", "is_light"), [("Dark", False), ("Light", True)])
def test_figures_are_readable_in_each_theme(page, theme, is_light):
    page.evaluate(DRESSED, theme)
    for _ in range(50):  # the browser redraws images asynchronously
        paper, ink = measure_brightness(page)
        if (paper > 200) == is_light and ink > 150:
            return
        page.wait_for_timeout(200)
    pytest.fail(f"the paper has {paper} of 255, the ink is {ink} away from it")


def test_runs_by_hand_leave_build_unchanged(page, project, products_of_build):
    page.evaluate(CLOSED)
    assert list_products(project) == products_of_build
    assert products_of_build["aliases"] == [("rand-hie", "champion", 1)]
    git(project, "checkout", "--quiet", "notebooks/02_explore.ipynb")
    result = project.run("modelbook", "build")  # the five other notebooks have outputs on disk
    assert result.stdout.startswith("\nNothing to do"), result.stdout


def test_panel_builds_outdated_stages(page, project):
    source = project.root / "notebooks" / notebook_name("explore")
    edited = nbformat.read(source, as_version=4)
    section = next(
        scroll_to_cell for scroll_to_cell in edited.cells if scroll_to_cell.source.startswith("## ")
    )
    section.source += "\n\nA sentence of a reader."
    nbformat.write(edited, source)
    page.evaluate("() => jupyterapp.commands.execute('modelbook:open')")
    panel = page.frame_locator("#modelbook-panel iframe")
    row = panel.locator("tr[data-stage=explore]")
    row.get_by_text("outdated: its notebook").wait_for()
    panel.get_by_text("rand-hie: outdated explore").wait_for()
    panel.get_by_role("button", name="Build").click()
    panel.get_by_role("button", name="Cancel").and_(panel.locator(":enabled")).wait_for()
    row.get_by_text("up to date").wait_for()
    report = project.root / "reports/rand-hie/02_explore.html"
    assert "A sentence of a reader." in report.read_text()
    page.evaluate("() => jupyterapp.shell.currentWidget.close()")


def test_estimator_from_cell_is_taken_to_build_and_served(project):
    """Uses the sandbox's estimator; runs last, because it changes the book."""
    project.set_pipeline_parameters(log_candidate_models="true")
    result = project.run("modelbook", "take", "../mine.ipynb", "--yes")
    assert result.returncode == 0, result.stderr
    assert "HistGradientBoostingClassifier" in result.stdout
    assert "sandbox" not in (project.root / "notebooks" / notebook_name("compare")).read_text()
    result = project.build("--partially", "compare")
    assert result.returncode == 0, result.stdout + result.stderr
    result = project.run("modelbook", "finalize", "--candidate", "HGB")
    assert result.returncode == 0, result.stdout + result.stderr
    receipt = json.loads((project.root / "models/rand-hie/finalize.json").read_text())
    number = str(receipt["details"]["version"])
    result = project.run(
        "modelbook", "promote", number, "--override", "to be served", "--why", "HGB"
    )
    assert result.returncode == 0, result.stderr  # the gate may have held it, or promoted it
    with project.serve() as address:
        about = json.load(urllib.request.urlopen(f"{address}/model"))
    assert (about["model"], str(about["model_version"])) == ("rand-hie", number)
    assert about["family"] == "HGB"
