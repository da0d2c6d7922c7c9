"""What a store, or a client of the service, must do: for those who write one."""

from __future__ import annotations

from .client import CLIENT_RULES as CLIENT_RULES
from .client import check_client as check_client
from .rules import ContractError as ContractError
from .rules import ContractReport as ContractReport
from .rules import Rule as Rule
from .store import STORE_RULES as STORE_RULES
from .store import check_store as check_store
