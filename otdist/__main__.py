"""``python -m otdist``: the same as the command ``otdist``."""

from otdist.cli import main

raise SystemExit(main())
