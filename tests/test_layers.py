"""The one-way street of DESIGN.md, held as data and checked on the syntax tree."""
import ast, json, re
from functools import cache
from fnmatch import fnmatch
import pytest
from conftest import ROOT

PACKAGE = ROOT / "emp_nb"
NUMERIC = ["core", "measures", "data.bars", "data.orderflow", "data.scenarios", "data.quality", "sensory.*", "evolution.*", "risk.*"]
BASE = ["core", "data.bars"]
MODEL = [*BASE, "data.scenarios", "measures", "sensory.reading"]
SENSE = [*BASE, "data.orderflow", "measures", "sensory.reading"]
# parts of a sense: rooms that one sense alone imports, because its question outgrew one notebook
PARTS = {"sensory.why": ["sensory.lexicon", "sensory.macro", "sensory.statements"], "sensory.statements": ["sensory.lexicon"], "sensory.how": ["sensory.profile", "sensory.structure"], "sensory.what": ["sensory.candles", "sensory.fractals", "sensory.harmonics", "sensory.motifs"],
         "sensory.when": ["sensory.calendars", "sensory.season"], "sensory.anomaly": ["sensory.accounts", "sensory.episodes", "sensory.tape"], "sensory.episodes": ["sensory.accounts"],
         "sensory.chaos": ["sensory.breaks", "sensory.bubble", "sensory.harvest", "sensory.jumps", "sensory.ranks", "sensory.switching", "sensory.tails"]}
# room: what it may import; the first pattern that fits decides
MAY_IMPORT = {
    **{sense: [*SENSE, *parts] for sense, parts in PARTS.items()},
    "core": [], "measures": ["core"],
    "data.bars": ["core"], "data.orderflow": BASE, "data.scenarios": [*BASE, "data.orderflow"], "data.quality": [*BASE, "data.orderflow", "data.scenarios"],
    "data.*": ["core", "data.*"],
    "sensory.reading": BASE, "sensory.cortex": ["core", "sensory.reading"], "sensory.*": SENSE,
    "evolution.*": [*MODEL, "evolution.*"], "risk.*": [*MODEL, "risk.*"],
    "live.*": [*BASE, "sensory.reading", "live.*"],
    "charts": NUMERIC, "layers": [*NUMERIC, "charts"], "dials": [*NUMERIC, "charts"],
    "views.*": [*NUMERIC, "charts", "layers", "dials", "live.*", "views.frame"], "explorers": ["views.*"],
    "jobs.*": ["*"], "cli": ["*"],
}
OUTSIDE = {"os", "sys", "io", "pathlib", "socket", "ssl", "subprocess", "shutil", "tempfile", "logging", "time", "urllib", "http", "sqlite3", "requests",
           "httpx", "sqlalchemy", "threading", "asyncio", "prometheus_client", "structlog"}
NO_OUTSIDE = [room for room in NUMERIC if room != "core"]         # core reads settings.ini
REPEATED_DOORS = {"read", "stream", "run", "classify"}            # doors that DESIGN.md gives to several rooms


def fits(room, patterns): return any(fnmatch(room, p) for p in patterns)


@cache
def modules():
    "Every exported module as {dotted name: syntax tree}."
    files = [p for p in sorted(PACKAGE.rglob("*.py")) if not p.name.startswith("_")]
    return {".".join(p.relative_to(PACKAGE).with_suffix("").parts): ast.parse(p.read_text()) for p in files}


def imports(tree, room=""):
    """(ours, others): dotted names below emp_nb, and top-level names of the rest, wherever in the module they are imported.

    The export turns `from emp_nb.core` into `from ..core`; `room` resolves the dots."""
    ours, others = set(), set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            home = ".".join(["emp_nb", *room.split(".")][:-node.level] + ([node.module] if node.module else [])) if node.level else node.module
            names = [home] + [f"{home}.{a.name}" for a in node.names]
        for name in names:
            if name.startswith("emp_nb."): ours.add(name.removeprefix("emp_nb."))
            else: others.add(name.split(".")[0])
    return {n for n in ours if n in modules()}, others


@cache
def reading_order():
    "The place of each module's notebook: by number, rooms of one number by name."
    found = {}
    for place, path in enumerate(sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))):
        first = "".join(json.loads(path.read_text())["cells"][0]["source"])
        found[re.match(r"#\| default_exp (\S+)", first)[1]] = place
    return found


@pytest.mark.parametrize("room", modules())
def test_room_imports_only_what_the_table_allows(room):
    allowed = next((may for pattern, may in MAY_IMPORT.items() if fnmatch(room, pattern)), None)
    assert allowed is not None, f"{room} has no row in the table"
    wrong = [name for name in imports(modules()[room], room)[0] if not fits(name, allowed)]
    assert not wrong, f"{room} must not import {wrong}"


@pytest.mark.parametrize("room", modules())
def test_earlier_notebooks_never_import_later_ones(room):
    for name in imports(modules()[room], room)[0]: assert reading_order()[name] < reading_order()[room], f"{room} imports {name}"


@pytest.mark.parametrize("room", [m for m in modules() if fits(m, NO_OUTSIDE)])
def test_numeric_rooms_do_no_io(room):
    wrong = imports(modules()[room], room)[1] & OUTSIDE
    calls = {n.func.id for n in ast.walk(modules()[room]) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    clocks = {n.attr for n in ast.walk(modules()[room]) if isinstance(n, ast.Attribute)} & {"now", "utcnow", "today"}
    assert not wrong and not calls & {"open", "print", "input", "settings"} and not clocks, (wrong, calls, clocks)


def test_every_module_is_reached_from_a_job_an_explorer_or_the_command_line():
    reached, todo = set(), ["cli"]
    for path in sorted([*(ROOT / "pipelines").glob("*.ipynb"), *(ROOT / "nbs/apps").glob("*.ipynb")]):
        code = "\n".join("".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code")
        todo += imports(ast.parse(code))[0]
    while todo:
        room = todo.pop()
        if room not in reached: reached.add(room); todo += imports(modules()[room], room)[0]
    assert set(modules()) == reached, f"nobody imports {sorted(set(modules()) - reached)}"


def test_no_public_name_is_defined_twice():
    seen, twice = {}, []
    for room, tree in modules().items():
        for node in tree.body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"): continue
            if node.name in seen and node.name not in REPEATED_DOORS: twice.append((node.name, seen[node.name], room))
            seen[node.name] = room
    assert not twice


def test_every_notebook_has_its_module_and_every_module_its_notebook():
    assert set(reading_order()) == set(modules())
