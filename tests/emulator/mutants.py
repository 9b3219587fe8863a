"""The mutants of a kernel file, all in one text: each barrier left out, each comparison one wider and one narrower."""

from __future__ import annotations

import re
from dataclasses import dataclass

LIMIT = 4096  # the scheduler's table of those reached
_BARRIER = re.compile(r"\b(?:__syncthreads\(\)|__syncwarp\([^()]*\)|\w+\.sync\(\));")
_COMPARISON = re.compile(r" (<=|>=|<|>) ")
_LETTER = {"<": "L", "<=": "M", ">": "G", ">=": "H"}
_WIDER = {"<": "<=", "<=": "<= 1 +", ">": ">=", ">=": ">= -1 +"}
_NARROWER = {"<": "< -1 +", "<=": "<", ">": "> 1 +", ">=": ">"}
# a < b ? a : b is the same for <=
_LEAST = re.compile(r"([\w.\[\]]+) $"), re.compile(r"^ ([\w.\[\]]+) \? ([\w.\[\]]+) : ([\w.\[\]]+)")


@dataclass(frozen=True)
class Mutant:
    """One change of a file's text."""

    number: int
    file: str
    line: int
    column: int
    before: str
    after: str
    context: str

    @property
    def is_barrier(self) -> bool:
        return self.after == ""

    @property
    def change(self) -> str:
        """What changes in which line, without its number: an entry's name in equivalent.toml."""
        return f"{self.before} {f'becomes {self.after}' if self.after else 'left out'}: {self.context}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.change}"


def blank(text: str) -> str:
    """The text with comments, strings, preprocessor lines and what only a device compiles blanked out."""

    def spaces(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    text = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', spaces, text, flags=re.DOTALL)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", _keep_conditions, text, flags=re.MULTILINE)
    text = re.sub(r"#ifndef OTDIST_EMULATED\b.*?#(?:else|endif)", spaces, text, flags=re.DOTALL)
    text = re.sub(
        r"(#ifdef OTDIST_EMULATED\b[^#]*)(#else.*?#endif)", lambda m: m[1] + spaces_of(m[2]), text, flags=re.DOTALL
    )
    text = re.sub(r"\b(?:static_assert|template)\b[^;{]*", spaces, text)
    return text


def spaces_of(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _keep_conditions(match: re.Match[str]) -> str:
    if re.match(r"\s*#\s*(?:ifdef|ifndef) OTDIST_EMULATED|\s*#\s*(?:else|endif)", match[0]):
        return match[0]
    return spaces_of(match[0]) if not re.match(r"\s*#\s*if", match[0]) else match[0].replace("#", "@")


def find(file: str, text: str) -> list[Mutant]:
    """Every mutant of the text, in order."""
    code = blank(text)
    found = [(m.start(), m[0], "") for m in _BARRIER.finditer(code)]
    for m in _COMPARISON.finditer(code):
        left, right = _LEAST[0].search(code[: m.start() + 1]), _LEAST[1].search(code[m.end() - 1 :])
        if left and right and {left[1], right[1]} == {right[2], right[3]}:
            continue
        found += [(m.start() + 1, m[1], _WIDER[m[1]]), (m.start() + 1, m[1], _NARROWER[m[1]])]
    lines = text.split("\n")
    out = []
    for number, (start, before, after) in enumerate(sorted(found, key=lambda f: f[0])):
        line = text.count("\n", 0, start)
        column = start - text.rfind("\n", 0, start) - 1
        out.append(Mutant(number, file, line + 1, column, before, after, lines[line].strip()[:90]))
    return out


def plant(text: str, mutants: list[Mutant]) -> str:
    """The text with all of them, each behind its switch."""
    lines = text.split("\n")
    for m in reversed(mutants):
        line = lines[m.line - 1]
        end = m.column + len(m.before)
        if m.is_barrier:
            new = f"if (!emulator::lives({m.number}, emulator::as_barrier)) {m.before}"
        else:
            if m.after == _NARROWER[m.before]:
                continue  # planted with the one before it
            new = f"<emulator::compare<{m.number}, '{_LETTER[m.before]}'> >"
        lines[m.line - 1] = line[: m.column] + new + line[end:]
    return "\n".join(lines)
