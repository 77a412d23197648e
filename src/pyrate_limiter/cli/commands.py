"""The commands, under one name."""

from __future__ import annotations

import click

from .demo import demo
from .inspect import inspect, reset
from .replay import replay
from .simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
def commands() -> None:
    """See a rate limit before you set it."""


commands.add_command(simulate)
commands.add_command(replay)
commands.add_command(inspect)
commands.add_command(reset)
commands.add_command(demo)
