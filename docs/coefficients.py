"""Prints the coefficients in ``kernels/vecmath.py``, ``tiles.py`` and ``settle.py`` with their errors (needs mpmath).

    python docs/coefficients.py

Polynomials are Chebyshev fits in 60 digits: within a few per cent of the best of their degree.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60


def atanh_tail(u: mp.mpf) -> mp.mpf:
    """(atanh t - t)/t^3 at u = t^2."""
    if u < mp.mpf(10) ** -20:
        return mp.mpf(1) / 3 + u / 5
    t = mp.sqrt(u)
    return (mp.atanh(t) - t) / t**3


def expm1_ratio(x: mp.mpf) -> mp.mpf:
    """(e^x - 1)/x."""
    return mp.expm1(x) / x if x else mp.mpf(1)


def js_shape(u: mp.mpf) -> mp.mpf:
    """[(1+t) log(1+t) + (1-t) log(1-t)]/t^2 at u = t^2: JS of one bin is (p+q) t^2/4 of it, t = (p-q)/(p+q)."""
    if u < mp.mpf(10) ** -20:
        return 1 + u / 6
    t = mp.sqrt(u)
    low = (1 - t) * mp.log1p(-t) if t < 1 else mp.mpf(0)
    return ((1 + t) * mp.log1p(t) + low) / u


def js_of_root(z: mp.mpf) -> mp.mpf:
    """`js_shape` in z = sqrt(1 - t^2) = 2 sqrt(pq)/(p+q): analytic on [0, 1], where it is singular in t at t = 1."""
    return js_shape(1 - z * z)


def log_tail(u: mp.mpf) -> mp.mpf:
    """2 atanh(t)/t at u = t^2."""
    return 2 * (1 + u * atanh_tail(u))


FITS: list[tuple[str, Callable[[mp.mpf], mp.mpf], tuple[str, str], int]] = [
    ("ATANH32", atanh_tail, ("0", "0.0401"), 2),
    ("ATANH64", atanh_tail, ("0", "0.0401"), 7),
    ("EXPM1_32", expm1_ratio, ("-0.36", "0.36"), 5),
    ("EXPM1", expm1_ratio, ("-0.36", "0.36"), 11),
    ("JS16", js_shape, ("0", "0.0625"), 6),
    ("ATANH", log_tail, ("0", "0.0295"), 6),
]


def rational(
    function: Callable[[mp.mpf], mp.mpf], degree: int, rounds: int = 12
) -> tuple[list[mp.mpf], list[mp.mpf], mp.mpf]:
    """P/Q of least relative error on [0, 1], both of `degree`, Q(0) = 1: Remez exchange by linearised solves."""
    count = 2 * degree + 2
    grid = [((1 - mp.cos(mp.pi * i / (60 * count))) / 2) ** 3 for i in range(60 * count + 1)]
    values = [function(x) for x in grid]
    nodes = [60 * i * count // (count - 1) for i in range(count)]
    error, bottom = mp.mpf(0), [mp.mpf(1)] + [mp.mpf(0)] * degree
    for _ in range(rounds):
        for _ in range(12):
            a, b = mp.zeros(count, count), mp.zeros(count, 1)
            for row, node in enumerate(nodes):
                x, g = grid[node], values[node]
                for k in range(degree + 1):
                    a[row, k] = x**k
                for k in range(1, degree + 1):
                    a[row, degree + k] = -g * x**k
                a[row, count - 1] = (-1) ** row * g * mp.polyval(bottom[::-1], x)
                b[row] = g
            solved = mp.lu_solve(a, b)
            top, bottom = list(solved[: degree + 1]), [mp.mpf(1), *solved[degree + 1 : count - 1]]
            settled = abs(solved[count - 1] - error) <= abs(error) / 1000
            error = solved[count - 1]
            if settled:
                break
        pairs = zip(grid, values, strict=True)
        off = [mp.polyval(top[::-1], x) / mp.polyval(bottom[::-1], x) / g - 1 for x, g in pairs]
        runs, start = [], 0
        for i in range(1, len(off) + 1):
            if i == len(off) or (off[i] > 0) != (off[start] > 0):
                runs.append(max(range(start, i), key=lambda j: abs(off[j])))
                start = i
        if len(runs) < count:
            break
        while len(runs) > count:
            runs.pop(0 if abs(off[runs[0]]) < abs(off[runs[-1]]) else -1)
        nodes = runs
    return top, bottom, max(abs(e) for e in off)


def main() -> None:
    for name, function, (low, high), degree in FITS:
        interval = [mp.mpf(low), mp.mpf(high)]
        coefficients, error = mp.chebyfit(function, interval, degree + 1, error=True)
        print(f"# error {mp.nstr(error, 3)} on [{low}, {high}]")
        print(f"{name} = (")
        for c in reversed(coefficients):
            print(f"    {mp.nstr(c, 18)},")
        print(")")
    top, bottom, error = rational(js_of_root, 4)
    print(f"# error {mp.nstr(error, 3)} on [0, 1]: JS_SCALE P/Q, both monic")
    print("# (the first of JS_TOP is then moved by five units of float32, so that JS_SCALE P/Q is 2 log 2 at 0)")
    print(f"JS_TOP = ({', '.join(mp.nstr(c / top[-1], 12) for c in top[:-1])})")
    print(f"JS_BOTTOM = ({', '.join(mp.nstr(c / bottom[-1], 12) for c in bottom[:-1])})")
    print(f"JS_SCALE = {mp.nstr(top[-1] / bottom[-1], 12)}")


if __name__ == "__main__":
    main()
