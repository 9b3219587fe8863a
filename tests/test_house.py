"""The laws of the house: one direction of imports, a light front, documented public names whose examples run."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import otdist as od

ROOT = Path(od.__file__).parent.parent

# A module may import its own layer and those below. The longest matching name counts, so a package covers its modules.
LAYERS = {
    "otdist.kernels": 0,
    "otdist._arrays": 1,
    "otdist._device": 1,
    "otdist._results": 1,
    "otdist.catalogue": 1,
    "otdist.reference": 1,
    "otdist._bandwidth": 2,
    "otdist._binned": 2,
    "otdist._clouds": 2,
    "otdist._custom": 2,
    "otdist._evaluate": 2,
    "otdist._evaluate_device": 2,
    "otdist._expression": 2,
    "otdist._line": 2,
    "otdist._matrix": 2,
    "otdist._nearest_neighbours": 2,
    "otdist._moments": 2,
    "otdist._normal": 2,
    "otdist._quantiles": 2,
    "otdist._samples": 2,
    "otdist._samples_device": 2,
    "otdist._sorted": 2,
    "otdist.rkhs": 2,
    "otdist._discrepancy": 3,
    "otdist._discrepancy_device": 3,
    "otdist._nystroem": 3,
    "otdist._spectrum": 3,
    "otdist._fitted": 3,
    "otdist._front": 3,
    "otdist._gradients": 3,
    "otdist._information": 3,
    "otdist._pairwise": 3,
    "otdist._pairwise_device": 3,
    "otdist._permutation": 3,
    "otdist._permutation_device": 3,
    "otdist.discrepancy": 3,
    "otdist.divergences": 3,
    "otdist.estimate": 3,
    "otdist.features": 3,
    "otdist.gaussian": 3,
    "otdist.transport": 3,
    "otdist.twosample": 3,
    "otdist": 4,  # the table of public names, for those above the front doors
    "otdist.autodiff": 4,
    "otdist.compat": 5,
    "otdist.losses": 5,
    "otdist.distributed": 6,
    "otdist.models": 6,
    "otdist.__main__": 7,
    "otdist._compare": 6,
    "otdist._demo": 6,
    "otdist._doctor": 6,
    "otdist._files": 6,
    "otdist._picture": 6,
    "otdist._table": 6,
    "otdist._warmup": 6,
    "otdist.cli": 6,
}
KERNELS_MAY_IMPORT = {"cupy", "llvmlite", "numba", "numpy", "threadpoolctl"}
ONLY_WHEN_NEEDED = {"cupy", "dask", "jax", "matplotlib", "ot", "pandas", "pyarrow", "rich", "sklearn", "torch"}
ONLY_IN_KERNELS = {"llvmlite", "numba"}


def modules() -> dict[str, Path]:
    """Dotted name -> file, kernels through the link."""
    found = {}
    for folder, prefix in ((ROOT / "otdist", "otdist"), (ROOT / "otdist" / "kernels", "otdist.kernels")):
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            name = ".".join((prefix, *(part for part in inside if part != "__init__")))
            found[name] = path
    return found


MODULES = modules()


def imports(name: str, tree: ast.AST, known: dict[str, Path], *, package: bool) -> Iterator[tuple[str, bool]]:
    """Every module that ``tree`` imports, and whether that happens when it is loaded."""
    later = set()
    for node in ast.walk(tree):
        guarded = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if guarded or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            later.update(id(inner) for statement in body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in later
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")[: len(name.split(".")) - node.level + package]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                is_module = inner in known or any(other.startswith(f"{inner}.") for other in known)
                yield inner if is_module else base, id(node) not in later


def layer(name: str) -> int:
    parts = name.split(".")
    if len(parts) == 1 or ".".join(parts[:2]) not in LAYERS:
        assert name == "otdist", f"{name}: give it a layer in LAYERS"
    return next(LAYERS[".".join(parts[:n])] for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in LAYERS)


def offences(name: str, source: str, known: dict[str, Path], *, package: bool = False) -> list[str]:
    found = []
    in_kernels = name.startswith("otdist.kernels")
    for target, at_load in imports(name, ast.parse(source), known, package=package):
        top = target.split(".")[0]
        if top in {"otdist", "kernels"}:
            if top == "kernels":
                found.append(f"{name} imports {target}: say otdist.{target}")
            elif name != "otdist" and layer(target) > layer(name):
                found.append(f"{name} imports {target}: an arrow against the law")
            elif name.startswith("otdist.reference") and target.startswith("otdist.kernels"):
                found.append(f"{name} imports {target}: the oracle shares nothing with what it judges")
        elif in_kernels and top not in KERNELS_MAY_IMPORT and top not in sys.stdlib_module_names:
            found.append(f"{name} imports {target}: kernels know {sorted(KERNELS_MAY_IMPORT)} only")
        if at_load and top in ONLY_WHEN_NEEDED | (set() if in_kernels else ONLY_IN_KERNELS):
            found.append(f"{name} imports {target} when it is loaded: import it where it is needed")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    path = MODULES[name]
    assert layer(name) >= 0
    assert offences(name, path.read_text(encoding="utf-8"), MODULES, package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("otdist.kernels.rows", "from otdist import catalogue"),
        ("otdist.kernels.rows", "def f():\n    from otdist.catalogue import x"),
        ("otdist.kernels.rows", "from .. import divergences"),
        ("otdist.kernels.rows", "import scipy.linalg"),
        ("otdist.kernels.rows", "import cupy"),
        ("otdist.catalogue", "import otdist"),
        ("otdist.catalogue", "from . import divergences"),
        ("otdist.divergences", "from otdist.cli import main"),
        ("otdist.divergences", "from kernels import rows"),
        ("otdist.divergences", "import numba"),
        ("otdist.reference.divergences", "from otdist.kernels import rows"),
        ("otdist._arrays", "try:\n    import torch\nexcept ImportError:\n    torch = None"),
    ],
)
def test_the_law_catches(name: str, source: str) -> None:
    known = dict.fromkeys(
        ["otdist", "otdist.catalogue", "otdist.divergences", "otdist.kernels.rows", "otdist.cli"], Path()
    )
    assert offences(name, source, known)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("otdist.kernels.rows", "from . import vecmath\nimport numba, numpy\nfrom otdist.kernels import threads"),
        ("otdist._arrays", "def f():\n    import torch"),
        ("otdist._arrays", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("otdist.divergences", "from otdist import catalogue\nfrom otdist.kernels import rows"),
    ],
)
def test_the_law_allows(name: str, source: str) -> None:
    known = dict.fromkeys(["otdist", "otdist.catalogue", "otdist.kernels.rows", "otdist.kernels.threads"], Path())
    assert offences(name, source, known) == []


def test_files_stay_small() -> None:
    assert [name for name, path in MODULES.items() if len(path.read_text(encoding="utf-8").splitlines()) >= 400] == []


def documented() -> dict[str, object]:
    found = {name: getattr(od, name) for name in od.__all__ if name != "__version__"}
    for name, value in list(found.items()):
        if isinstance(value, types.ModuleType):
            inside = inspect.getmembers(value, inspect.isfunction)
            own = {inner: function for inner, function in inside if function.__module__ == value.__name__}
            found |= {f"{name}.{inner}": function for inner, function in own.items() if not inner.startswith("_")}
    return found


@pytest.mark.parametrize("name", od.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(od, name) is not None
    assert name in dir(od)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = od.no_such_name


def test_names_stay_functions_after_their_modules_are_imported() -> None:
    code = "import otdist._pairwise, otdist._gradients, otdist; assert callable(otdist.pairwise); otdist.gaussian"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", documented())
def test_docstring(name: str) -> None:
    value = documented()[name]
    text = inspect.getdoc(value)
    assert text
    if isinstance(value, types.ModuleType):
        return
    sections = ["Parameters", "Examples"] if inspect.isclass(value) else ["Parameters", "Returns", "Examples"]
    missing = [section for section in sections if f"\n{section}\n{'-' * len(section)}\n" not in text]
    assert missing == []


@pytest.mark.parametrize("name", [*documented(), "otdist"])
def test_examples_run(name: str) -> None:
    value = documented().get(name, od)
    test = doctest.DocTestParser().get_doctest(
        inspect.getdoc(value) or "", {"np": np, "od": od, "otdist": od}, name, None, None
    )
    assert test.examples or isinstance(value, types.ModuleType)
    report: list[str] = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append).failed
    assert failed == 0, "".join(report)


def test_readme_examples_run() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    exec("\n".join(blocks), {})


IMPORT = """
import sys, time
import numpy
start = time.perf_counter()
import otdist
print(time.perf_counter() - start)
print(*({"numba", "torch", "jax", "cupy", "ot", "scipy", "llvmlite", "rich"} & set(sys.modules)))
"""


def test_import_budget() -> None:
    seconds = []
    for _ in range(5):
        ran = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
        first, loaded = ran.stdout.splitlines()
        assert loaded == ""
        seconds.append(float(first))
        if seconds[-1] <= 0.15:
            break
    assert min(seconds) <= 0.15
