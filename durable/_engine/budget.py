"""How many operations an execution has, where their number is limited: its sagas must still be able to roll back.

What is counted is what is known: the operations that the service gives, those that have begun since, and those
inside of finished fan-outs, which say how many they had. The operations inside of child contexts that ended in an
earlier invocation are not given any more and not counted: a saga over many of those should leave room for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exceptions import OperationBudgetError

if TYPE_CHECKING:
    from .current import EnclosingSaga

_MARGIN = 3
"""What the next operation may add to what is needed: itself, and a compensation in two operations."""


class Budget:
    """The operations of one execution, as far as one invocation knows them.

    Args:
        limit: How many there may be; `None` if there is no limit.
        used: How many there are when the invocation begins.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int | None, used: int) -> None:
        self.limit = limit
        self.used = used

    def take(self, saga: EnclosingSaga | None) -> None:
        """Count an operation that is about to begin.

        Args:
            saga: The saga that it is in; `None` outside, and for what undoes.

        Raises:
            OperationBudgetError: After it the saga, and those around it, might not be able to roll back.
        """
        if saga is not None and self.limit is not None:
            needed = saga.operations_to_undo()
            if needed and self.used + needed + _MARGIN > self.limit:
                raise OperationBudgetError(self.used, needed, self.limit)
        self.used += 1
