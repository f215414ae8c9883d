#!/usr/bin/env python3
"""Holds dashboards against Grafana's published schema.

usage: check-grafana.py DASHBOARD...

In: dashboards as JSON. The schema is the types of Grafana's own SDK, which are made from it.
Out: `ok NAME` or `FAILED NAME: WHY`, a line for each check; exit code 1 if any failed. Needs the package
`grafana-foundation-sdk`.
"""

import enum
import inspect
import json
import pathlib
import sys
import typing

from grafana_foundation_sdk.cog import plugins, runtime
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

FAILED = []
# What Grafana itself writes and reads, and its schema leaves open: the data source's part of an annotation.
OPEN = {".annotations.list[].titleFormat", ".annotations.list[].textFormat"}


def check(name, wrong):
    print(f"FAILED {name}: {'; '.join(wrong[:5])}" if wrong else f"ok {name}")
    if wrong:
        FAILED.append(name)


def misfits(value, hint, where):
    """What does not have the type that the schema gives it."""
    origin = typing.get_origin(hint)
    if origin is typing.Union:
        branches = [list(misfits(value, one, where)) for one in typing.get_args(hint)]
        # Of several objects the one it is: all others complain about the object itself.
        yield from min(branches, key=lambda b: (bool(b) and b[0].startswith(f"{where} "), len(b)))
    elif origin is typing.Literal:
        if value not in typing.get_args(hint):
            yield f"{where} is {value!r}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for item in value:
            yield from misfits(item, typing.get_args(hint)[0], f"{where}[]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{where} is no object"
    elif inspect.isclass(hint) and issubclass(hint, enum.Enum):
        if value not in list(hint):
            yield f"{where} is {value!r}"
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"{where} is {value!r}, no number"
    elif hint is type(None) or hint in (str, int, bool):
        # True is an int to Python; the schema's own defaults are enums that are strings.
        if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
            yield f"{where} is {value!r}, not of type {hint.__name__}"
    elif hint is object or hint is typing.Any:
        yield from inside(value, where)
    elif inspect.isclass(hint):
        # Some objects the SDK leaves as they are.
        if isinstance(value, dict) and hasattr(hint, "from_json"):
            given, value = value, hint.from_json(value)
            yield from differences(given, plain(value), where)
        if not isinstance(value, hint):
            yield f"{where} is {type(value).__name__}, no {hint.__name__}"
            return
        yield from inside(value, where)


def inside(value, where):
    """Of an object of the schema, or of what holds some."""
    if isinstance(value, list):
        for item in value:
            yield from inside(item, f"{where}[]")
    elif hasattr(value, "to_json") and not isinstance(value, (enum.Enum, runtime.UnknownDataquery)):
        hints = typing.get_type_hints(type(value))
        for name, hint in hints.items():
            if hasattr(value, name):
                yield from misfits(getattr(value, name), hint, f"{where}.{name}")


def differences(given, known, where=""):
    """What the schema does not know; defaults that it adds are no difference."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key in given.keys() - known.keys():
            if f"{where}.{key}" not in OPEN:
                yield f"{where}.{key} is not in the schema"
        for key in given.keys() & known.keys():
            yield from differences(given[key], known[key], f"{where}.{key}")
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        for one, other in zip(given, known):
            yield from differences(one, other, f"{where}[]")
    elif given != known:
        yield f"{where} is read as {known!r}"


def plain(value):
    return json.loads(json.dumps(value, cls=JSONEncoder))


def against_schema(given):
    try:
        dashboard = Dashboard.from_json(given)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        yield f"it cannot be read: {error!r}"
        return
    yield from sorted({*inside(dashboard, ""), *differences(given, plain(dashboard)), *unknown_plugins(given)})


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def layout(given):
    """What overlaps, or leaves the grid of 24 columns."""
    taken = {}
    for panel in panels(given):
        at = panel["gridPos"]
        if at["x"] + at["w"] > 24:
            yield f"{panel['title']} is too wide"
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if cell in taken:
                yield f"{panel['title']} lies on {taken[cell]}"
                break
            taken[cell] = panel["title"]


def care(given):
    """What a reader would miss."""
    for panel in panels(given):
        name = panel.get("title") or f"panel {panel['id']}"
        if panel["type"] in ("row", "text"):
            continue
        if not panel.get("description"):
            yield f"{name} has no description"
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] in ("stat", "timeseries") and not defaults.get("unit"):
            yield f"{name} has no unit"
        if panel["type"] == "heatmap" and not panel["options"]["yAxis"].get("unit"):
            yield f"{name} has no unit"
        if any("${datasource}" != target["datasource"]["uid"] for target in panel["targets"]):
            yield f"{name} has a data source of its own"


def unknown_plugins(given):
    for panel in panels(given):
        if panel["type"] != "row" and runtime.panelcfg_config(panel["type"]) is None:
            yield f"{panel['type']} is no panel of Grafana"


def main():
    plugins.register_default_plugins()
    uids = {}
    for path in map(pathlib.Path, sys.argv[1:]):
        name = path.stem
        given = json.loads(path.read_text())
        wrong = list(against_schema(given))
        check(f"dashboard {name} has Grafana's schema", wrong)
        if wrong:
            continue
        ids = [panel["id"] for panel in panels(given)]
        twice = [f"panel {i} is there twice" for i in set(ids) if ids.count(i) > 1]
        if given["uid"] in uids:
            twice.append(f"{uids[given['uid']]} has the same uid")
        uids[given["uid"]] = name
        check(f"dashboard {name} is laid out", [*layout(given), *twice])
        check(f"dashboard {name} explains itself", list(care(given)))
    return 1 if FAILED else 0


sys.exit(main())
