"""Kernels of ``profiles.py`` as C++ types for ``formulas.cuh``, and their numbers in the order of the tree."""

from __future__ import annotations

from typing import Any

from otdist.kernels.profiles import (
    GEOMETRIES,
    PLACES,
    Constant,
    Decay,
    Inverse,
    InverseRoot,
    Kernel,
    MaternFive,
    MaternThree,
    Negative,
    NegativePower,
    Polynomial,
    Power,
    Product,
    Root,
    Sum,
)

_NAMES = ("SQUARED", "CITYBLOCK", "INNER", "ANGLE")
_SUMS = (Decay, Inverse, InverseRoot, Power, MaternThree, MaternFive)


def numbers(tag: Kernel) -> list[float]:
    """What the type leaves open."""
    return _write(tag.expression)[1]


def name(tag: Kernel) -> str:
    """The C++ type; kernels that differ in numbers only share it."""
    geometries = ", ".join(_NAMES[GEOMETRIES.index(type(g))] for g in tag.geometries)
    return f"formulas::Tree<{_write(tag.expression)[0]}, {geometries}>"


def _write(node: Any) -> tuple[str, list[float]]:
    kind = type(node)
    if kind is Constant:
        return "formulas::Constant", [node.c]
    if kind in (Sum, Product):
        left, right = _write(node.left), _write(node.right)
        return f"formulas::{kind.__name__}<{left[0]}, {right[0]}>", left[1] + right[1]
    leaf = node.leaf if kind is Root else node
    inner, found = _leaf(leaf)
    inner = f"formulas::Root<{inner}>" if kind is Root else inner
    return f"formulas::At<{PLACES.index(type(leaf.on))}, {inner}>", found


def _leaf(leaf: Any) -> tuple[str, list[float]]:
    kind = type(leaf)
    if kind in _SUMS:
        power = [leaf.power] if kind is Power else []
        return f"formulas::{kind.__name__}<{len(leaf.rates)}>", [*leaf.rates, *power]
    if kind is Polynomial:
        return f"formulas::Polynomial<{len(leaf.factors)}>", [leaf.gamma, leaf.coef0]
    if kind is NegativePower:
        return "formulas::NegativePower", [leaf.half]
    if kind is Negative:
        return "formulas::Negative", []
    raise AssertionError(f"no such leaf: {kind.__name__}")
