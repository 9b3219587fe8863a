"""A smaller problem that looks like the large one: representatives, their mass, and prices for everybody.

Random rows and columns represent the rest. Each row gives its mass to the nearest representative, near in the costs to
a few anchor columns (a Lipschitz embedding, Bourgain, 1985: rows with like costs everywhere have like costs there);
columns likewise. With u the row potentials of the small optimum, p_j = max_i u_i - c_ij over the representatives
prices each column so that no reduced cost there is negative.
"""

from __future__ import annotations

import numpy as np

from otdist.kernels.jit import kernel


@kernel
def aggregate(E, R, weights, total, distance):
    """total[q] += weights of the rows of E (n, d) whose nearest column of R (d, s) is q. Scratch: distance (s,)."""
    d, s = R.shape
    for i in range(len(E)):
        for q in range(s):
            distance[q] = 0.0
        for t in range(d):
            x = E[i, t]
            for q in range(s):
                difference = x - R[t, q]
                distance[q] += difference * difference
        lowest = np.inf
        for q in range(s):
            lowest = min(lowest, distance[q])
        for q in range(s):
            if distance[q] == lowest:
                total[q] += weights[i]
                break


@kernel
def extend(T, places, first, last, u, prices):
    """prices[j] = max(prices[j], u[t] - c[t, j]) over the representatives first <= t < last of a tile."""
    for t in range(first, last):
        row, value = T[places[t]], u[t]
        for j in range(len(prices)):
            prices[j] = max(prices[j], value - row[j])
