"""What is built from the tree: the kernels install as otdist.kernels, never as kernels."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"


def build(tree: Path, kind: str, out: Path) -> Path:
    """Call the build backend without isolation, hence without a network."""
    ran = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(out)], cwd=tree, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return next(out.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that nothing is written into it."""
    copy = tmp_path_factory.mktemp("build") / "tree"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "*.nbi", "*.nbc")
    copy.mkdir()
    for name in ("otdist", "kernels", "tests"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy / path.name)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, "wheel", tmp_path_factory.mktemp("wheel"))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_link_is_relative() -> None:
    link = ROOT / "otdist" / "kernels"
    assert link.is_symlink()
    assert Path("..", "kernels") == link.readlink()
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_wheel_holds_every_module(wheel: Path) -> None:
    expected = {f"otdist/{path.relative_to(ROOT / 'otdist')}" for path in (ROOT / "otdist").rglob("*.py")}
    for pattern in ("*.py", "*.cu", "*.cuh"):
        expected |= {f"otdist/kernels/{path.name}" for path in (ROOT / "kernels").glob(pattern)}
    assert names(wheel) == expected | {"otdist/py.typed"}
    assert any(name.startswith("otdist/kernels/") for name in names(wheel))


def test_wheel_from_sdist_is_the_same(tree: Path, wheel: Path, tmp_path: Path) -> None:
    sdist = build(tree, "sdist", tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (inner,) = (tmp_path / "unpacked").iterdir()
    assert (inner / "tests" / "test_packaging.py").exists()
    assert (inner / "constraints.txt").exists()
    again = build(inner, "wheel", tmp_path)
    assert names(again) == names(wheel)
    assert again.name == wheel.name


def test_wheel_works_on_its_own(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import otdist, otdist.kernels.threads as threads
assert otdist.__file__.startswith({str(tmp_path)!r}), otdist.__file__
assert threads.__file__.startswith({str(tmp_path)!r}), threads.__file__
assert abs(otdist.tv([0.5, 0.5], [0.25, 0.75]) - 0.25) < 1e-15
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_metadata(wheel: Path) -> None:
    import otdist

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
        entry = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert f"Version: {otdist.__version__}\n" in metadata
    assert "otdist = otdist.cli:main" in entry
    for extra in ("cuda12", "cuda13", "torch", "jax", "dask", "bench", "docs", "test", "demo"):
        assert f"Provides-Extra: {extra}\n" in metadata
