"""What every benchmark command shares: the machine, its load, and results as JSON and tables."""

from .load import LoadWatch
from .machine import describe_machine, versions
from .results import Result, table

__all__ = ["LoadWatch", "Result", "describe_machine", "table", "versions"]
