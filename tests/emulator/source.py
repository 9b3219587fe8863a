"""The text of a kernel, made ready for g++: its own headers put in place, and the one declaration that g++ lacks."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"[^\n]*$', re.MULTILINE)
# extern __shared__ __align__(16) unsigned char buffer[];
_DYNAMIC = re.compile(
    r"\bextern\s+__shared__\s+((?:(?:alignas|__align__)\s*\([^)]*\)\s*)?)([\w:<>\s]+?)\s*\b(\w+)\s*\[\s*\]\s*;"
)
_SHARED_ALIGNAS = re.compile(r"\b__shared__\s+alignas\s*\(")
_C_NAMES = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:void\s+)?(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?(?:void\s+)?(\w+)\s*\('
)


def flatten(code: str, name: str, folders: list[Path]) -> str:
    """`code` with every `#include "x.cuh"` replaced, once, by the file's text; #line keeps file names and numbers."""
    seen: set[Path] = set()

    def place(text: str, name: str) -> str:
        def include(match: re.Match[str]) -> str:
            path = next((f / match[1] for f in folders if (f / match[1]).is_file()), None)
            if path is None:
                raise FileNotFoundError(f'{name}: #include "{match[1]}" is in none of {[str(f) for f in folders]}')
            line = text.count("\n", 0, match.start()) + 2
            if path in seen:
                return ""
            seen.add(path)
            return f'{place(path.read_text(), path.name)}\n#line {line} "{name}"'

        body = _INCLUDE.sub(include, _without_guards(text))
        return f'#line 1 "{name}"\n{body}'

    return place(code, name)


def _without_guards(text: str) -> str:
    # Each file is put in place once; g++ warns of #pragma once in a main file.
    return re.sub(r"^[ \t]*#[ \t]*pragma[ \t]+once[^\n]*$", "", text, flags=re.MULTILINE)


def translate(code: str) -> str:
    """Dynamic shared memory as a pointer, `__shared__ alignas(n)` in the order that g++ takes."""
    code = _DYNAMIC.sub(r"\2* \3 = emulator::dynamic_shared<\2>();", code)
    return _SHARED_ALIGNAS.sub("__shared__ __align__(", code)


def c_names(code: str) -> list[str]:
    """The kernels that the text exports under their plain names."""
    return _C_NAMES.findall(re.sub(r"//[^\n]*|/\*.*?\*/", "", code, flags=re.DOTALL))


def identifier(expression: str) -> str:
    """A C identifier for a name expression such as `rows<float, 3>`."""
    readable = re.sub(r"\W+", "_", expression).strip("_")[:40]
    return f"{readable}_{hashlib.sha256(expression.encode()).hexdigest()[:8]}"
