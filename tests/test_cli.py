"""The command line: answers, guesses, errors, JSON, and the picture."""

import json
import math
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import otdist as od
from otdist import _doctor
from otdist.cli import main

# Ground truth from the closed forms, worked by hand.
P, Q = [0.36, 0.48, 0.16], [1 / 3, 1 / 3, 1 / 3]
TRUTH = {
    "tv": 0.1733333333,
    "hellinger": 0.1504982751,
    "l2": 0.2286190427,
    "chi2": 0.1568,
    "chi2_neyman": 0.2345679012,
    "kl": 0.0852996013,
    "js": 0.0224598604,
    "js_distance": 0.1498661417,
    "cross_entropy": math.log(3),
    "entropy": -sum(x * math.log(x) for x in P),
}


def save(folder: Path, name: str, values: Any) -> str:
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, **values)
    else:
        path.write_text(values, encoding="utf-8")
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found: dict[str, Any] = json.loads(captured.out, parse_constant=refuse)
    return found


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    def row(values: list[float]) -> str:
        return ",".join(map(repr, values)) + "\n"

    return {
        "npy": save(tmp_path, "p.npy", P),
        "npz": save(tmp_path, "p.npz", {"only": P}),
        "named": save(tmp_path, "two.npz", {"first": Q, "second": P}) + ":second",
        "csv": save(tmp_path, "p.csv", row(P)),
        "headed": save(tmp_path, "headed.csv", "\ufeffa,b,c\n" + row(P)),
        "column": save(tmp_path, "column.csv", "mass\n" + "\n".join(map(repr, P)) + "\n\n"),
        "q": save(tmp_path, "q.npy", Q),
    }


@pytest.mark.parametrize("form", ["npy", "npz", "named", "csv", "headed", "column"])
def test_compare_reads_every_format(form: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "compare", files[form], files["q"])
    assert found["as"] == "histograms"
    assert "guess" in found["reason"]
    assert found["rows"] == 1
    for name, value in TRUTH.items():
        assert found["divergences"][name]["value"] == pytest.approx(value, abs=1e-10), name


def test_compare_parquet(
    tmp_path: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for pyarrow, which is not among the requirements of the tests: its tables are lists of columns."""
    parquet = types.ModuleType("pyarrow.parquet")
    vars(parquet)["read_table"] = lambda path: types.SimpleNamespace(columns=[[P[0]], [P[1]], [P[2]]])
    pyarrow = types.ModuleType("pyarrow")
    vars(pyarrow)["parquet"] = parquet
    monkeypatch.setitem(sys.modules, "pyarrow", pyarrow)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    found = answer(capsys, "compare", save(tmp_path, "p.parquet", ""), files["q"], "--metric", "tv")
    assert found["divergences"]["tv"]["value"] == pytest.approx(TRUTH["tv"], abs=1e-10)


def test_compare_one_metric_and_infinity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = save(tmp_path, "a.npy", [1.0, 0.0]), save(tmp_path, "b.npy", [0.0, 1.0])
    found = answer(capsys, "compare", a, b, "--metric", "kl, js", "--metric", "tv")
    assert list(found["divergences"]) == ["kl", "js", "tv"]
    assert found["divergences"]["kl"]["value"] == "inf"
    assert found["divergences"]["js"]["value"] == pytest.approx(math.log(2), rel=1e-12)


def test_compare_direction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = save(tmp_path, "a.npy", [1.0, 0.0]), save(tmp_path, "b.npy", [0.5, 0.5])
    found = answer(capsys, "compare", a, b)["divergences"]
    assert found["kl"]["value"] == pytest.approx(math.log(2), rel=1e-12)
    assert found["kl_reverse"]["value"] == "inf"


def test_compare_counts_and_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = save(tmp_path, "a.npy", [[36, 48, 16], [1, 1, 1]]), save(tmp_path, "b.npy", [[1, 1, 1], [1, 1, 1]])
    found = answer(capsys, "compare", a, b)
    assert "counts" in found["reason"]
    assert found["divergences"]["tv"]["max"] == pytest.approx(TRUTH["tv"], abs=1e-10)
    assert found["divergences"]["tv"]["mean"] == pytest.approx(TRUTH["tv"] / 2, abs=1e-10)
    assert found["divergences"]["tv"]["min"] == 0.0
    assert main(["compare", a, b]) == 0
    assert "2 pair(s) of histograms over 3 bins; each divided by its sum" in capsys.readouterr().out


def test_compare_one_row_against_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = save(tmp_path, "a.npy", P), save(tmp_path, "b.npy", [P, Q])
    found = answer(capsys, "compare", a, b, "--as", "histograms")
    assert found["rows"] == 2
    assert set(found["divergences"]["entropy"]) == {"mean", "min", "max"}
    assert found["divergences"]["tv"]["max"] == pytest.approx(TRUTH["tv"], abs=1e-10)


def test_compare_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Scaling by 2 and shifting by v: squared distance |v|² + tr(Σ), because Bures(Σ, 4Σ)² = (2 - 1)² tr(Σ).
    x = np.random.default_rng(0).normal(size=(50, 3))
    shift = np.array([1.0, -2.0, 0.5])
    centre = x.mean(axis=0)
    a, b = save(tmp_path, "a.npy", x), save(tmp_path, "b.npy", 2 * (x - centre) + centre + shift)
    found = answer(capsys, "compare", a, b)
    parts, kernels = found["frechet"], found["kernels"]
    x, y = np.load(a), np.load(b)
    assert kernels["energy_distance"] == pytest.approx(od.energy_distance(x, y))
    assert kernels["mmd"] == pytest.approx(od.mmd(x, y))
    assert kernels["p_value"] == od.mmd_test(x, y, rng=0).p_value
    assert parts["mean_part"] == pytest.approx(float(shift @ shift), rel=1e-10)
    spread = min(np.trace(np.cov(x.T, bias=bias)) for bias in (False, True)) * 0.999
    assert spread <= parts["covariance_part"] <= spread * 50 / 49 * 1.003
    assert parts["squared_distance"] == pytest.approx(parts["mean_part"] + parts["covariance_part"], rel=1e-10)
    assert main(["compare", a, b]) == 0
    assert "compared as samples, a guess" in capsys.readouterr().out


def test_compare_one_dimensional_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = save(tmp_path, "a.npy", [0.0, 1.0, 2.0]), save(tmp_path, "b.npy", [3.0, 4.0, 5.0])
    parts = answer(capsys, "compare", a, b, "--as", "samples")["frechet"]
    assert parts["mean_part"] == pytest.approx(9.0)
    assert parts["covariance_part"] == pytest.approx(0.0, abs=1e-10)


def test_compare_table_says_what_it_did(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", files["npy"], files["q"]]) == 0
    out = capsys.readouterr().out
    assert "compared as histograms, a guess" in out
    for name in TRUTH:
        assert name in out
    assert "0.0852996" in out


def test_tables_without_rich(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["compare", files["npy"], files["q"], "--metric", "kl"]) == 0
    assert "kl  0.0852996  [0, inf]" in capsys.readouterr().out


BAD: dict[str, tuple[Any, Any, list[str], str]] = {
    "no file": (None, P, [], "no such file"),
    "unknown format": ("x.txt", P, [], ".txt"),
    "several arrays": ({"one": P, "two": Q}, P, [], "one, two"),
    "words": ("a,b\nc,d\n", P, [], "could not convert"),
    "ragged": ("1,2\n3\n", P, [], "columns"),
    "empty csv": ("a,b\n", P, [], "no numbers"),
    "empty array": (np.zeros((0, 3)), P, [], "shape (0, 3)"),
    "nan": ([0.5, math.nan, 0.5], P, [], "nan at index (1,)"),
    "complex": (np.array([1j, 0, 0]), P, [], "complex128"),
    "objects": (np.array([{}, {}, {}]), P, [], "object"),
    "negative": ([-0.2, 0.7, 0.5], P, ["--as", "histograms"], "A: found a negative entry"),
    "negative in B": (P, [-0.2, 0.7, 0.5], ["--as", "histograms"], "B: found a negative entry"),
    "not normalised": ([0.2, 0.2, 0.2], P, ["--as", "histograms"], "A: "),
    "bins": ([0.5, 0.5], P, ["--as", "histograms"], "A has 2 bins and B has 3"),
    "rows": (np.full((2, 3), 1 / 3), np.full((4, 3), 1 / 3), ["--as", "histograms"], "do not pair up"),
    "cannot tell": ([0.5, 0.5], P, [], "--as histograms or --as samples"),
    "unknown metric": (P, Q, ["--metric", "wasserstain"], "wasserstain"),
    "metric of samples": (np.eye(3), np.eye(3), ["--as", "samples", "--metric", "kl"], "--metric"),
    "one sample": (np.ones((1, 3)), np.eye(3), ["--as", "samples"], "at least two"),
    "columns": (np.eye(3), np.eye(2), ["--as", "samples"], "A has 3 columns and B has 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_compare_refuses(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, options, message = BAD[case]
    paths = []
    for name, values in (("a", a), ("b", b)):
        if values is None:
            paths.append(str(tmp_path / "absent.npy"))
        elif isinstance(values, str):
            paths.append(save(tmp_path, values if values.endswith(".txt") else f"{name}.csv", values))
        elif isinstance(values, dict):
            paths.append(save(tmp_path, f"{name}.npz", values))
        else:
            path = tmp_path / f"{name}.npy"
            np.save(path, values, allow_pickle=True)
            paths.append(str(path))
    assert main(["compare", *paths, *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("otdist compare: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_compare_refuses_damaged_files(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(b"PK\x03\x04 this is not what it seems")
    assert main(["compare", str(path), str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"otdist compare: {path}: ")


def test_parquet_without_pyarrow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = save(tmp_path, "a.parquet", "")
    assert main(["compare", path, path]) == 2
    assert "pip install pyarrow" in capsys.readouterr().err


def test_compare_wrong_name_in_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path, "a.npz", {"one": P, "two": Q})
    assert main(["compare", f"{path}:three", path]) == 2
    assert "one, two" in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == int(bool(report["problems"]))
    assert report["versions"]["numpy"] == np.__version__
    assert report["threads"]["used by otdist"] >= 1
    assert Path(report["cache"]["directory"]).is_absolute()
    assert main(["doctor"]) == code
    assert report["cache"]["directory"][:20] in capsys.readouterr().out


def test_doctor_finds_two_cupys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "_cupys", lambda: {"cupy-cuda11x": "13.0", "cupy-cuda12x": "13.0"})
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert main(["doctor"]) == 1
    assert "pip uninstall cupy-cuda11x cupy-cuda12x" in capsys.readouterr().out


@pytest.mark.parametrize("somewhere", [True, False])
def test_doctor_finds_a_cache_it_cannot_write(
    somewhere: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from otdist.kernels import jit

    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path / "file" / "cache" if somewhere else None)
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["cache"]["writable"] is False
    assert "every process compiles anew" in report["problems"][0]["what"]


def test_doctor_finds_a_bad_thread_count(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from otdist.kernels import threads

    def refuse() -> int:
        raise ValueError("OTDIST_NUM_THREADS: found 'many'")

    monkeypatch.setattr(threads, "thread_count", refuse)
    assert main(["doctor"]) == 1
    assert "OTDIST_NUM_THREADS: found 'many'" in capsys.readouterr().out


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "demo.png"
    found = answer(capsys, "demo", "--save", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    for name in ("js", "frechet"):
        table = np.array(found[name])
        assert table.shape == (10, 10)
        np.testing.assert_allclose(table, table.T, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.diag(table), 0, atol=1e-12)
        assert table[~np.eye(10, dtype=bool)].min() > 0
    for name, kernels in found["tests"].items():
        assert (kernels["p_value"] > 0.01) == name.startswith("half")
        assert kernels["energy_distance"] > kernels["mmd"] > 0
    assert min(found["accuracy"].values()) > 0.95

    curves = {name: np.array(values) for name, values in found["gaussians"].items()}
    np.testing.assert_allclose(curves["kl"], curves["mean"] ** 2 / 8, rtol=1e-6)  # σ = 2
    assert curves["js"][-1] == pytest.approx(math.log(2), rel=1e-9)
    assert abs(curves["js_slope"][-1]) < 1e-9
    slope = np.gradient(curves["js"], curves["mean"])
    np.testing.assert_allclose(curves["js_slope"][1:-1], slope[1:-1], atol=2e-3)

    segments = found["segments"]
    assert segments["kl"] == [0.0] + ["inf"] * 10
    np.testing.assert_allclose(segments["js"], [0] + [math.log(2)] * 10, atol=1e-12)
    np.testing.assert_allclose(segments["tv"], [0] + [1] * 10, atol=1e-12)


def test_demo_prints_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--save", str(tmp_path / "demo.png")]) == 0
    out = capsys.readouterr().out
    assert "153.125" in out
    assert "hellinger" in out
    assert str(tmp_path / "demo.png") in out.replace("\n", "")


def test_demo_names_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["demo"]) == 2
    assert "pip install 'otdist[demo]'" in capsys.readouterr().err


def test_demo_refuses_a_missing_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--save", str(tmp_path / "absent" / "demo.png")]) == 2
    assert "--save" in capsys.readouterr().err


def test_warmup(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("all ")


def test_help_is_light_and_the_module_runs() -> None:
    code = (
        "import sys\nfrom otdist.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as e:\n"
        "    assert not e.code\nassert 'numpy' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "compare" in ran.stdout
    ran = subprocess.run([sys.executable, "-m", "otdist", "--version"], check=True, capture_output=True, text=True)
    assert ran.stdout.startswith("otdist ")


def test_no_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "command" in capsys.readouterr().err
