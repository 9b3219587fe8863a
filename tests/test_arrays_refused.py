"""What the door refuses: mixed libraries, what is not an array of real numbers, bad values."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from otdist._arrays import refuse_values
from tests.test_arrays import refused


def test_libraries_do_not_mix():
    kinds = {"numpy": np.ones(2), "torch": torch.ones(2), "jax": jnp.ones(2)}
    for one_, p in kinds.items():
        for other, q in kinds.items():
            if one_ != other:
                refused(TypeError, rf"^p and q: found {one_} for p and {other} for q; .*\(q\)", p=p, q=q)
                refused(TypeError, rf"^p and r: found {one_} for p and {other} for r", p=p, q=[1.0], r=q)
        if one_ != "numpy":
            refused(TypeError, rf"^q: found a sequence of {one_} arrays", q=[p, p])
            refused(TypeError, rf"^q: found a sequence of {one_} arrays", q=[[1.0], (p,)])


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (None, TypeError, "found None"),
        ([1.0, None], TypeError, "found None"),
        ("abc", TypeError, "found dtype str"),
        (["a", "b"], TypeError, "found dtype str"),
        (b"abc", TypeError, "found dtype bytes"),
        ({"a": 1.0}, TypeError, "found dtype object"),
        (np.array([1.0, "a"], dtype=object), TypeError, "found dtype object"),
        (1j, TypeError, "found dtype complex128; take its real part"),
        (np.ones(2, np.complex64), TypeError, "found dtype complex64"),
        (np.array(["2020"], "M8[D]"), TypeError, "found dtype datetime64"),
        (np.array([1], "m8[s]"), TypeError, "found dtype timedelta64"),
        (np.zeros(2, [("a", "f8")]), TypeError, "found dtype void"),
        (np.ones(2, ml_dtypes.float8_e4m3fn), TypeError, "found dtype float8_e4m3fn"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), TypeError, r"found a masked array; fill it first"),
        ([np.ma.masked_array([1.0], [True])], TypeError, "found a masked array"),
        ([0.5, np.ma.masked], TypeError, "found a masked array"),
        ([[1.0, 2.0], [3.0]], ValueError, "found a ragged sequence"),
        ([10**400], TypeError, "found dtype object"),
    ],
)
def test_what_is_not_an_array_of_real_numbers(x, error, match):
    refused(error, rf"^q: {match}", p=np.ones(2), q=x)
    refused(error, rf"^q: {match}", q=x)
    if not isinstance(x, (np.ndarray, np.ma.MaskedArray)):
        refused(error, rf"^q: {match}", p=torch.ones(2), q=x)


def test_long_doubles():
    if np.dtype(np.longdouble) != np.float64:
        refused(TypeError, r"^p: found dtype (float|longdouble).*convert it to float64", p=np.ones(2, np.longdouble))


def test_an_array_interface_that_fails():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("no")

    refused(TypeError, r"^p: found Broken, which NumPy cannot read \(no\)", p=Broken())


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    for make_sparse in (sparse.csr_array, sparse.csr_matrix, sparse.coo_array):
        refused(TypeError, r"^p: found a scipy\.sparse matrix, which only `pairwise` takes", p=make_sparse(np.eye(2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_of_histograms(dtype):
    a = np.full((2, 4), 0.25, dtype)
    a[0, 0] = -0.0
    assert refuse_values("p", a) is None
    assert refuse_values("p", a[:0]) is None
    a[1, 2] = a[1, 3] = -0.2
    with pytest.raises(ValueError, match=r"^p: found a negative entry, -0\.2 at index \(1, 2\); .* \(2 such in all\)"):
        refuse_values("p", a)
    for value, match in (
        (np.nan, "NaN at"),
        (np.inf, "an infinite entry, inf at"),
        (-np.inf, "an infinite entry, -inf at"),
    ):
        a[0, 1] = value
        with pytest.raises(ValueError, match=rf"^q: found {match} index \(0, 1\); .* \(3 such in all\)"):
            refuse_values("q", a)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_of_logits(dtype):
    a = np.zeros((2, 3, 4), dtype)
    a[0, 0, :3] = -np.inf
    a[1, 1] = -5
    assert refuse_values("p", a, logits=True) is None
    assert refuse_values("p", a[..., :0], logits=True) is None
    a[0, 0, 3] = -np.inf
    with pytest.raises(ValueError, match=r"^p: found -inf in every bin of the row at index \(0, 0\); .*finite entry"):
        refuse_values("p", a, logits=True)
    for value, match in ((np.nan, "NaN at"), (np.inf, "an infinite entry, inf at")):
        a[1, 2, 3] = value
        with pytest.raises(ValueError, match=rf"^p: found {match} index \(1, 2, 3\); logits .*\(1 such in all\)"):
            refuse_values("p", a, logits=True)
