"""An import contract whose modules may not exist yet, so that the list of them can be complete from the start."""

from typing import Any

from importlinter import ContractCheck
from importlinter.contracts.forbidden import ForbiddenContract

OURS = ("services", "dispatch_common", "agent_runner")


class ForbiddenWherePresent(ForbiddenContract):
    """``forbidden``, over those of our modules that exist."""

    type_name = "forbidden_where_present"

    def check(self, graph: Any, verbose: bool) -> ContractCheck:
        def known(expression: Any) -> bool:
            name = str(expression)
            return name in graph.modules or name.split(".")[0] not in OURS

        self.source_modules: Any = {each for each in self.source_modules if known(each)}
        self.forbidden_modules: Any = {each for each in self.forbidden_modules if known(each)}
        return super().check(graph, verbose)
