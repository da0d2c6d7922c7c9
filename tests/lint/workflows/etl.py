"""Extract, transform, load: files listed in a step, taken side by side, sums put together at the end."""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TypedDict

from durable import Completion, DurableContext, durable_execution


class Job(TypedDict):
    source: str
    parts: int


class Totals(TypedDict):
    part: str
    rows: int
    by_country: dict[str, float]


def list_parts(source: str, parts: int) -> list[str]:
    directory = Path(tempfile.mkdtemp())
    names = []
    for number in range(parts):
        path = directory / f"{source}-{number}.csv"
        path.write_text("country,amount\nAT,10.5\nCH,4.0\nAT,1.5\n")
        names.append(str(path))
    return sorted(names)


def extract(part: str) -> list[dict[str, str]]:
    with Path(part).open(encoding="utf-8") as file:
        return list(csv.DictReader(io.StringIO(file.read())))


def transform(part: str, rows: list[dict[str, str]]) -> Totals:
    by_country: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        by_country[row["country"]] += float(row["amount"])
    return {"part": part, "rows": len(rows), "by_country": dict(by_country)}


async def process(ctx: DurableContext, part: str) -> Totals:
    rows = await ctx.step(extract, part)
    totals = transform(part, rows)  # pure: it may run again
    ctx.log("%s has %d rows", part, totals["rows"])
    return totals


async def load(totals: dict[str, float]) -> int:
    return len(totals)


@durable_execution
async def run_job(job: Job, ctx: DurableContext) -> dict[str, float]:
    parts = await ctx.step(list_parts, job["source"], job["parts"])
    done = await ctx.map(process, parts, max_concurrency=2, completion=Completion(tolerated_failures=1))
    result: Counter[str] = Counter()
    countries = {country for totals in done.results() for country in totals["by_country"]}
    for totals in done.results():
        for country, amount in totals["by_country"].items():
            result[country] += amount  # type: ignore[assignment]  # a Counter of amounts
    assert countries == set(result)
    async with ctx.batch():
        for country in sorted(countries):
            await ctx.step(load, {country: float(result[country])})
    return {country: float(result[country]) for country in sorted(countries)}
