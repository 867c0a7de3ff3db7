"""Findings on the terminal: verify's table, warnings and faults."""

from rich.console import Console
from rich.table import Table

from selftrain.data.faults import Fault, counted, grouped
from selftrain.data.findings import Report


def print_report(report: Report) -> None:
    """Print the table, every warning and every fault to stdout."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    heading, *rows = report.rows()
    if console.is_terminal:
        table = Table(*heading)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        for row in (heading, *rows):
            print("  ".join(cell.ljust(14) for cell in row).rstrip())
    for warning in report.warnings:
        console.print(f"warning: {warning}")
    print_faults(report.faults)
    console.print(f"{counted(len(report.faults), 'fault')}, {counted(len(report.warnings), 'warning')}")


def print_faults(faults: list[Fault]) -> None:
    """Print each group of faults to stdout."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for group in grouped(faults):
        console.print(f"fault: {group}")
