"""The public assignment function: SciPy's semantics, batches, exact integers, array libraries, refusals."""

import doctest
import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment as scipy_assignment

from otdist.transport import matching
from otdist.transport.matching import linear_sum_assignment


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 1), (4, 4), (3, 8), (8, 3), (60, 60), (5, 300), (260, 240), (240, 260), (0, 0), (0, 3), (3, 0)]
)
def test_like_scipy(shape: tuple[int, int], maximize: bool) -> None:
    C = np.random.default_rng(shape).standard_normal(shape)
    kept = C.copy()
    rows, cols = linear_sum_assignment(C, maximize)
    expected = scipy_assignment(C, maximize=maximize)
    assert rows.dtype == cols.dtype == np.int64
    assert rows.flags.writeable
    assert cols.flags.writeable
    assert np.array_equal(rows, expected[0])
    assert np.array_equal(cols, expected[1])
    assert np.array_equal(C, kept)


@pytest.mark.parametrize("layout", ["fortran", "reversed", "strided", "read-only", "list", "swapped bytes"])
def test_layouts(layout: str) -> None:
    C = np.random.default_rng(1).random((230, 250))
    given_as: dict[str, Any] = {
        "fortran": np.asfortranarray(C),
        "reversed": C[::-1, ::-1],
        "strided": np.repeat(C, 2, axis=1)[:, ::2],
        "read-only": C,
        "list": C.tolist(),
        "swapped bytes": C.astype(">f8"),
    }
    C.flags.writeable = layout != "read-only"
    rows, cols = linear_sum_assignment(given_as[layout])
    expected = scipy_assignment(np.asarray(given_as[layout], float))
    assert np.array_equal(rows, expected[0])
    assert np.array_equal(cols, expected[1])


@pytest.mark.parametrize(
    "shape", [(6, 5, 5), (2, 3, 4, 7), (2, 3, 7, 4), (0, 3, 3), (2, 0, 3), (2, 3, 0), (3, 210, 215)]
)
@pytest.mark.parametrize("maximize", [False, True])
def test_batches(shape: tuple[int, ...], maximize: bool) -> None:
    C = np.random.default_rng(shape).random(shape)
    rows, cols = linear_sum_assignment(C, maximize=maximize)
    assert rows.shape == cols.shape == (*shape[:-2], min(shape[-2:]))
    for at in np.ndindex(*shape[:-2]):
        expected = scipy_assignment(C[at], maximize=maximize)
        assert np.array_equal(rows[at], expected[0])
        assert np.array_equal(cols[at], expected[1])


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32"]
)
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("n", [9, 270])
def test_dtypes(dtype: str, maximize: bool, n: int) -> None:
    high = 2 if dtype == "bool" else 100
    C = np.random.default_rng(3).integers(0, high, (n, n)).astype(dtype)
    rows, cols = linear_sum_assignment(C, maximize)
    expected = scipy_assignment(C.astype(float), maximize=maximize)
    assert C[rows, cols].astype(float).sum() == C[expected].astype(float).sum()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.booleans(), st.data())
def test_large_integers_are_exact(n: int, m: int, maximize: bool, data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([0, 2**52, -(2**52)]))
    entries = data.draw(st.lists(st.integers(-2, 2), min_size=n * m, max_size=n * m))
    C = np.array(entries, np.int64).reshape(n, m) + base
    rows, cols = linear_sum_assignment(C, maximize)
    expected = scipy_assignment((C - base).astype(float), maximize=maximize)
    assert int((C[rows, cols] - base).sum()) == int((C[expected] - base).sum())


def test_forbidden_pairs() -> None:
    C = np.array([[np.inf, 2.0, 9.0], [1.0, np.inf, 3.0], [5.0, 4.0, np.inf]])
    assert linear_sum_assignment(C)[1].tolist() == scipy_assignment(C)[1].tolist()
    assert linear_sum_assignment(-C, maximize=True)[1].tolist() == scipy_assignment(C)[1].tolist()


@pytest.mark.parametrize(
    ("cost_matrix", "maximize", "message"),
    [
        ([[1.0, np.nan], [0.0, 1.0]], False, r"cost_matrix: found NaN at index \(0, 1\)"),
        (np.full((2, 3, 3), np.nan), True, r"cost_matrix: found NaN at index \(0, 0, 0\)"),
        ([[1.0, 1.0], [0.0, -np.inf]], False, r"cost_matrix: found -inf at index \(1, 1\).*with \+inf"),
        ([[1.0, 1.0], [0.0, np.inf]], True, r"cost_matrix: found inf at index \(1, 1\).*with -inf"),
        ([1.0, 2.0], False, r"cost_matrix: found shape \(2,\); give a matrix"),
        (3.0, False, r"cost_matrix: found shape \(\)"),
        ([[np.inf, 1.0], [np.inf, 2.0]], False, r"cost_matrix: row [01] cannot be matched: 2 rows"),
        ([[1.0, np.inf], [1.0, np.inf], [2.0, np.inf]], False, r"cost_matrix: in the transpose.*row 1 has no finite"),
        ([[[1.0]], [[np.inf]]], False, r"cost_matrix: row 0 of problem 1 has no finite cost"),
        (np.array([[2**60, 1]]), False, r"cost_matrix: found integers from 1 to 1152921504606846976"),
        (np.array([[2**63]], np.uint64), False, r"cost_matrix: found integers from 9223372036854775808"),
        ([[1, 2], [3]], False, r"cost_matrix: found a ragged"),
    ],
)
def test_refused_values(cost_matrix: Any, maximize: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_sum_assignment(cost_matrix, maximize)


@pytest.mark.parametrize("cost_matrix", [None, [["a"]], np.ones((2, 2), complex), np.ma.ones((2, 2)), [[object()]]])
def test_refused_types(cost_matrix: Any) -> None:
    with pytest.raises(TypeError, match="cost_matrix: found"):
        linear_sum_assignment(cost_matrix)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"])
def test_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    C = torch.as_tensor(np.random.default_rng(5).integers(0, 2 if dtype == "bool" else 50, (2, 20, 22)))
    C = C.to(getattr(torch, dtype))
    rows, cols = linear_sum_assignment(C)
    assert rows.dtype == cols.dtype == torch.int64
    host = C.double().numpy()
    for k in range(2):
        expected = host[k][scipy_assignment(host[k])].sum()
        assert host[k][rows[k].numpy(), cols[k].numpy()].sum() == expected


def test_torch_integers_are_exact() -> None:
    torch = pytest.importorskip("torch")
    C = torch.tensor([[2**40 + 1, 2**40], [2**40, 2**40 + 2]])
    assert linear_sum_assignment(C)[1].tolist() == [1, 0]


def test_jax() -> None:
    jax = pytest.importorskip("jax")
    for C in (jax.numpy.array([[1.0, 9.0], [2.0, 1.0]]), jax.numpy.array([[1, 9], [2, 1]])):
        rows, cols = linear_sum_assignment(C)
        assert isinstance(rows, jax.Array)
        assert rows.tolist() == cols.tolist() == [0, 1]


def test_examples_run() -> None:
    text = inspect.getdoc(linear_sum_assignment) or ""
    example = doctest.DocTestParser().get_doctest(text, {}, "linear_sum_assignment", None, None)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
    assert all(section in text for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"))


def test_large_problems_of_a_batch_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    C = np.random.default_rng(6).random((2, 8, 9))
    whole = linear_sum_assignment(C)
    monkeypatch.setattr(matching, "SINGLE", 0)
    single = linear_sum_assignment(C)
    assert np.array_equal(whole[1], single[1])
