"""Who may import whom (STYLE.md): read from the source, and tried where a host lacks libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400
BOTTOM = {
    "secateur.championship",
    "secateur.errors",
    "secateur.config",
    "secateur.results",
    "secateur.confusion",
    "secateur.findings",
    "secateur.insight",
    "secateur.progress",
    "secateur.resources",
    "secateur.sensitivity_results",
    "secateur.turns",
}
ISLANDS = {
    "secateur.export": BOTTOM,
    "secateur.benchmark": BOTTOM,
    "secateur.search": BOTTOM,
    "secateur.store": BOTTOM,
    "secateur.report": BOTTOM | {"secateur.leaderboard"},
    "secateur.leaderboard": BOTTOM,
    "secateur.prospects": BOTTOM | {"secateur.leaderboard"},
}
"""Each knows only the bottom, and none of the others."""

LAYERS = (
    {"secateur.errors"},
    BOTTOM - {"secateur.errors"} | {"secateur.references", "secateur.stopwatch"},
    {"secateur.methods", "secateur.models", "secateur.datasets"},
    {"secateur.schedule"},
    {"secateur.thinning"},
    {"secateur.pruning", "secateur.training", "secateur.identity", "secateur.parameters", "secateur.admissibility"},
    {
        "secateur.retraining",
        "secateur.admissibility",
        "secateur.block_importance",
        "secateur.candidate",
        "secateur.drift",
        "secateur.noninferiority",
    },
    {"secateur.steps", "secateur.preflight", "secateur.analysis", "secateur.wandb_sweep"},
    {"secateur.cli"},
)
"""From the bottom up; a module imports from its own layer's packages and from those below."""

HOMES = {
    "prefect": {"flows", "tasks", "secateur.cli"},
    "typer": {"secateur.cli"},
    "ax": {"secateur.search.ax_optimiser"},
    "openvino": {"secateur.benchmark.runner"},
    "minio": {"secateur.store"},
    "urllib3": {"secateur.store"},
    "torch_pruning": {"secateur.thinning.spaces"},
    "onnx": {"secateur.export", "secateur.analysis.onnx_layers"},
    "sklearn": {"secateur.datasets"},
    "torchvision": {"secateur.datasets", "secateur.models.zoos"},
    "timm": {"secateur.models.zoos"},
    "plotly": {"secateur.report"},
    "matplotlib": {"secateur.report"},
}
"""Where alone a third party's API is used."""

MAY_DEFER = {
    "secateur.cli": "--help answers at once",
    "secateur.benchmark.runner.device": "has one of two OpenVINO interfaces, or says that there is none",
    "secateur.search.proposer": "only a Bayesian search needs Ax",
    "secateur.models.zoos": "timm is an extra",
    "flows.local_run": "Prefect reads its settings when it is imported",
    "flows.server_process": "Prefect reads its settings when it is imported",
}
"""Who may import inside a function, and why."""

EDGE_MODULES = (
    "flows.measure_artifacts",
    "tasks.measurements",
    "secateur.steps.measure",
    "flows.judge_contenders",
    "flows.measure_again",
    "secateur.cli.main",
    "secateur.cli.benchmark",
    "secateur.cli.devices",
)
ABSENT_ON_THE_EDGE = ("torch", "torchvision", "torch_pruning", "ax", "sklearn", "onnx", "safetensors", "plotly")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(p): p for top in ("secateur", "tasks", "flows") for p in sorted((ROOT / top).rglob("*.py"))}


def is_within(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@cache
def imports_of(module: str, *, deferred: bool = True) -> tuple[str, ...]:
    """Return what a module imports, as ``package.module`` or ``package.module.name``; types alone do not count."""
    return tuple(_imports(module, ast.parse(SOURCES[module].read_text()), deferred))


def _imports(module: str, tree: ast.Module, deferred: bool) -> Iterator[str]:
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree) if deferred else ast.iter_child_nodes(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in SOURCES else node.module


def breaches(modules: Iterable[str], may_import: Iterable[str]) -> list[str]:
    """Return the imports of our own packages that are not allowed."""
    allowed = tuple(may_import)
    return [
        f"{module} imports {name}"
        for module in modules
        for name in imports_of(module)
        if is_within(name, ("secateur", "tasks", "flows")) and name != "secateur" and not is_within(name, allowed)
    ]


def test_flows_know_tasks_and_tasks_know_secateur_and_never_backwards() -> None:
    of_domain = [module for module in SOURCES if is_within(module, ["secateur"])]
    domain = [module for module in of_domain if not is_within(module, ["secateur.cli"])]
    assert breaches(domain, [m for m in domain if m != "secateur"]) == []
    assert breaches((m for m in SOURCES if is_within(m, ["tasks"])), ["tasks", *domain[1:]]) == []
    assert breaches((m for m in SOURCES if is_within(m, ["flows"])), ["flows", "tasks", *domain[1:]]) == []


@pytest.mark.parametrize("island", ISLANDS)
def test_islands_know_only_the_bottom(island: str) -> None:
    assert breaches((m for m in SOURCES if is_within(m, [island])), {island, *ISLANDS[island]}) == []


@pytest.mark.parametrize("height", range(len(LAYERS)), ids=lambda height: min(LAYERS[height]).removeprefix("secateur."))
def test_a_layer_knows_only_those_below(height: int) -> None:
    below: set[str] = set().union(*LAYERS[: height + 1])
    above_the_islands = height >= next(i for i, layer in enumerate(LAYERS) if "secateur.candidate" in layer)
    anything = {"flows", "tasks"} if LAYERS[height] == {"secateur.cli"} else set()
    allowed = below | anything | (set(ISLANDS) if above_the_islands else set())
    assert breaches((m for m in SOURCES if is_within(m, LAYERS[height])), allowed) == []


def test_every_module_has_its_place() -> None:
    placed = set(ISLANDS).union(*LAYERS)
    assert [m for m in SOURCES if is_within(m, ["secateur"]) and m != "secateur" and not is_within(m, placed)] == []


@pytest.mark.parametrize("library", HOMES)
def test_one_third_party_lives_in_one_place(library: str) -> None:
    users = [m for m in SOURCES if any(is_within(name, [library]) for name in imports_of(m))]
    assert users, f"nobody uses {library}"
    assert [module for module in users if not is_within(module, HOMES[library])] == []


def test_imports_stand_at_the_top() -> None:
    deferring = [m for m in SOURCES if sorted(imports_of(m)) != sorted(imports_of(m, deferred=False))]
    assert [module for module in deferring if not is_within(module, MAY_DEFER)] == []


def test_the_package_itself_imports_nothing() -> None:
    assert imports_of("secateur") == ()


@pytest.mark.parametrize("module", SOURCES)
def test_modules_are_short_and_speak_for_themselves(module: str) -> None:
    assert len(SOURCES[module].read_text().splitlines()) <= MAX_LINES
    assert module.rpartition(".")[2] not in {"utils", "helpers", "common", "misc"}


def test_flows_shadow_nothing() -> None:
    """Prefect puts their folder first on `sys.path`."""
    names = [module.removeprefix("flows.") for module in SOURCES if module.startswith("flows.")]
    assert [name for name in names if "_" not in name or name in sys.stdlib_module_names] == []


BLOCKED = """
import importlib, importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
for module in {modules!r}:
    try:
        importlib.import_module(module)
    except ImportError as exc:
        sys.exit(f"{{module}}: {{exc}}")
"""


def test_the_edge_host_needs_neither_torch_nor_ax() -> None:
    code = BLOCKED.format(absent=ABSENT_ON_THE_EDGE, modules=EDGE_MODULES)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr


def test_the_runner_needs_nothing_of_ours() -> None:
    """It runs under any Python that has numpy and OpenVINO."""
    runner = "secateur.benchmark.runner"
    assert breaches((module for module in SOURCES if is_within(module, [runner])), {runner}) == []


def test_a_host_that_only_trains_needs_four_libraries() -> None:
    """An air-gapped GPU host has torch (which brings typing_extensions), torchvision, numpy and safetensors."""
    installed = {name.partition(".")[0] for names in map(imports_of, SOURCES) for name in names}
    four = {"torch", "torchvision", "numpy", "safetensors"}
    absent = installed - sys.stdlib_module_names - four - {"secateur", "tasks", "flows", "typing_extensions"}
    assert {"pydantic", "yaml", "prefect"} <= absent
    code = BLOCKED.format(absent=absent, modules=["secateur.training"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr
