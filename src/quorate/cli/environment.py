"""ETCD_* variables as settings (etcd: pkg/flags/flag.go).

A variable stands for the flag of its name; an empty one counts as absent. There is no precedence: the same setting both
as a flag and as a variable is fatal, even when the variable is empty.
"""

from __future__ import annotations

from collections.abc import Mapping

from quorate.cli.flags import variable_of
from quorate.cli.goflag import FlagSet
from quorate.ports import Log
from quorate.runtime.duration import FlagValueError, quote

_CALLER = "flags/flag.go"


class ShadowedVariableError(Exception):
    """A setting is given twice; `variable` names it."""

    def __init__(self, variable: str) -> None:
        super().__init__(
            "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment "
            "variable or disable flag))"
        )
        self.variable = variable


def apply_environment(flags: FlagSet, environment: Mapping[str, str], log: Log) -> FlagValueError | None:
    """Set flags from variables and report on those that are used or unknown.

    Returns the last value that does not parse (etcd goes on and fails afterwards); raises ShadowedVariableError.
    """
    given = {variable_of(name) for name in flags.values}
    used: set[str] = set()
    problem = None
    for name in sorted(flags.definitions):
        variable = variable_of(name)
        value = environment.get(variable, "")
        if variable in given or not value:
            continue
        used.add(variable)
        try:
            flags.set(name, value)
        except FlagValueError as error:
            problem = FlagValueError(f"invalid value {quote(value)} for {variable}: {error}")
            continue
        fields = {"variable-name": variable, "variable-value": value}
        log.info(_CALLER, "recognized and used environment variable", **fields)
    for variable, value in environment.items():
        if variable in used:
            continue
        if variable in given:
            raise ShadowedVariableError(variable)
        if variable.startswith("ETCD_"):
            fields = {"environment-variable": f"{variable}={value}"}
            log.warn(_CALLER, "unrecognized environment variable", **fields)
    return problem
