"""Tables on the terminal: through rich where it is installed, in plain text where it is not."""

from collections.abc import Sequence

__all__ = ["number", "show"]


def number(value: float) -> str:
    """Six significant digits, trailing zeros dropped; inf and nan by name."""
    return f"{float(value):.6g}"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one table: the first column is left aligned, so is every column of words; numbers go to the right."""
    right = [column > 0 and all(_is_number(row[column]) for row in rows) for column in range(len(columns))]
    print(f"\n{title}")
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _plain(columns, rows, right)
    else:
        headed = any(columns)
        lines = box.SIMPLE_HEAD if headed else None
        table = Table(box=lines, show_header=headed, pad_edge=False, collapse_padding=True)
        for column, (name, is_right) in enumerate(zip(columns, right, strict=True)):
            table.add_column(Text(name), justify="right" if is_right else "left", no_wrap=is_right or column == 0)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console(highlight=False).print(table)


def _is_number(cell: str) -> bool:
    try:
        float(cell.rstrip("%"))
    except ValueError:
        return cell == ""
    return True


def _plain(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    head = [columns, ["-" * width for width in widths]] if any(columns) else []
    for row in [*head, *rows]:
        cells = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        )
        print("  ".join(cells).rstrip())
