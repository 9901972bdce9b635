"""The group of all commands; each says errors of this package in one line, and exits with 1."""

from typing import Any

import click

import ray
from ray.cli.drain import drain
from ray.cli.start import start
from ray.cli.status import status
from ray.cli.stop import stop
from ray.errors import RayError


class Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RayError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ray.__version__, message="raycore %(version)s")
def main() -> None:
    """Sessions that go on without the script that uses them.

    A script joins one with ray.init(redis_address="...").
    """


for each in (start, stop, status, drain):
    main.add_command(each)
