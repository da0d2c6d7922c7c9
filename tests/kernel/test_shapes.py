"""What the kernel hands around."""

from __future__ import annotations

import importlib
import pkgutil

import msgspec

from durable import _kernel


def test_what_the_kernel_hands_around_does_not_change():
    """Decisions, records, policies: whoever has one may keep it. Two are made for one encoding, and thrown away."""
    found = {
        shape
        for module in pkgutil.iter_modules(_kernel.__path__)
        for shape in vars(importlib.import_module(f"durable._kernel.{module.name}")).values()
        if isinstance(shape, type)
        and issubclass(shape, msgspec.Struct)
        and shape.__module__.startswith("durable._kernel")
    }
    assert len(found) > 10
    assert {shape.__name__ for shape in found if not shape.__struct_config__.frozen} == {"_ItemRecord", "ErrorData"}
