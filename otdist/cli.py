"""The command ``otdist``: compare, demo, doctor, warmup."""

import argparse
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        0: done. 1: ``doctor`` found a problem. 2: bad input, with one line on stderr.
    """
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except BrokenPipeError:  # the reader of a pipe has seen enough; keep the interpreter's last flush quiet too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"otdist {arguments.command}: {message}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    from otdist import __version__

    parser = argparse.ArgumentParser(prog="otdist", description="Distances between distributions.")
    parser.add_argument("--version", action="version", version=f"otdist {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    compare = commands.add_parser(
        "compare",
        help="every distance between two files",
        description="Every distance between two files of histograms or samples (.npy .npz .csv .parquet).",
        epilog="In --json, numbers that JSON cannot hold are the strings 'inf', '-inf' and 'nan'.",
    )
    compare.add_argument("a", metavar="A", help="first file: p, or x; one array of an archive is file.npz:name")
    compare.add_argument("b", metavar="B", help="second file: q, or y")
    compare.add_argument("--as", dest="kind", choices=["histograms", "samples"], help="guessed, and said, by default")
    compare.add_argument(
        "--metric", action="append", metavar="NAME", help="only this one (repeat, or separate by commas); histograms"
    )
    compare.add_argument("--alpha", type=float, default=0.5, help="order of renyi, tsallis, alpha_divergence (0.5)")
    compare.add_argument(
        "--normalize",
        choices=["auto", "check", "true", "false"],
        default="auto",
        help="auto (default): divide counts by their sum, check the rest; check, true, false: as in the library",
    )
    compare.set_defaults(run=_compare)

    demo = commands.add_parser("demo", help="handwritten digits and two classical examples, in one picture")
    demo.add_argument("--save", default="otdist-demo.png", metavar="PATH", help="the picture (otdist-demo.png)")
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser("doctor", help="versions, processor, threads, caches, and what to repair")
    doctor.set_defaults(run=_doctor)

    warmup = commands.add_parser("warmup", help="compile every kernel once, so that first calls are fast")
    warmup.set_defaults(run=_warmup)

    for command in (compare, demo, doctor):
        command.add_argument("--json", action="store_true", help="print JSON only")
    return parser


def _compare(arguments: argparse.Namespace) -> int:
    from otdist import _compare as command

    names = [name.strip() for item in arguments.metric or () for name in item.split(",") if name.strip()]
    return command.run(
        arguments.a,
        arguments.b,
        kind=arguments.kind,
        metrics=names,
        alpha=arguments.alpha,
        normalize=arguments.normalize,
        as_json=arguments.json,
    )


def _demo(arguments: argparse.Namespace) -> int:
    from otdist import _demo as command

    return command.run(arguments.save, as_json=arguments.json)


def _doctor(arguments: argparse.Namespace) -> int:
    from otdist import _doctor as command

    return command.run(as_json=arguments.json)


def _warmup(_: argparse.Namespace) -> int:
    from otdist import _warmup as command

    return command.run()
