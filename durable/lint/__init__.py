"""What in the code of durable functions makes a replay differ, or loses work: found without running it."""

from __future__ import annotations

from .check import Finding as Finding
from .check import check_source as check_source
from .check import check_tree as check_tree
from .check import is_chosen as is_chosen
from .rules import EXAMPLES_BEGIN as EXAMPLES_BEGIN
from .rules import RULES as RULES
from .rules import Rule as Rule
