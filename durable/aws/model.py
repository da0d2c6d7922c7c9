"""The part of botocore's data that two operations need, cut out once and shipped as files.

botocore loads 1.3 MB of endpoints and all of Lambda's operations before the first call. What is here is the same
data without what is never asked for. `python -m durable.aws.model` cuts it anew from the installed botocore.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

OPERATIONS: Final = ("CheckpointDurableExecution", "GetDurableExecutionState")
SERVICES: Final = ("lambda", "sts")
"""Services whose endpoints are kept: `sts` for credentials that are got by assuming a role."""

DATA: Final = Path(__file__).parent / "data"
SERVICE_FILE: Final = DATA / "service-2.json"
ENDPOINTS_FILE: Final = DATA / "endpoints.json"


def cut_service(model: dict[str, Any]) -> dict[str, Any]:
    """A service model with two operations and their shapes, without documentation."""
    operations = {name: model["operations"][name] for name in OPERATIONS}
    shapes: dict[str, Any] = {}
    for operation in operations.values():
        for part in (operation["input"], operation["output"], *operation["errors"]):
            _collect(part["shape"], model["shapes"], shapes)
    kept = {"version": model["version"], "metadata": model["metadata"], "operations": operations, "shapes": shapes}
    cut: dict[str, Any] = json.loads(json.dumps(kept), object_hook=_without_documentation)
    return cut


def cut_endpoints(endpoints: dict[str, Any]) -> dict[str, Any]:
    """The endpoints of a few services, in all partitions."""
    partitions = [
        {
            **partition,
            "services": {name: partition["services"][name] for name in SERVICES if name in partition["services"]},
        }
        for partition in endpoints["partitions"]
    ]
    return {"partitions": partitions, "version": endpoints["version"]}


def _collect(name: str, shapes: dict[str, Any], found: dict[str, Any]) -> None:
    if name in found:
        return
    found[name] = shape = shapes[name]
    for member in (*shape.get("members", {}).values(), *filter(None, [shape.get("member")])):
        _collect(member["shape"], shapes, found)


def _without_documentation(fields: dict[str, Any]) -> dict[str, Any]:
    # A structure's own member may be called so: it is a dict, and the text of a documentation is not.
    return {key: value for key, value in fields.items() if key != "documentation" or isinstance(value, dict)}


def main() -> None:
    """Cut the files anew."""
    from .untyped import full_data

    service, endpoints = full_data()
    DATA.mkdir(exist_ok=True)
    for path, data in ((SERVICE_FILE, cut_service(service)), (ENDPOINTS_FILE, cut_endpoints(endpoints))):
        path.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
