"""Commands, nothing else."""

import click


@click.group()
def main() -> None:
    """Runs a container for every file that lands and every message that arrives."""
