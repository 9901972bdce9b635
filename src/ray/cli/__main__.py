"""`python -m ray.cli`, for where the command itself is not on PATH."""

from ray.cli.main import main

main(prog_name="ray")
