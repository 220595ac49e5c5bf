"Explorers without a browser: thin pages, what a slider does to a figure, scenarios and opinions that survive, a saved scenario as a job."
import ast, json
from dataclasses import asdict
import numpy as np
import pytest
from conftest import ROOT
from emp_nb.core import DataError
from emp_nb.data.catalog import load
from emp_nb.jobs import runner
from emp_nb.jobs.artefacts import save_result
from emp_nb.jobs.desk import regime_explorer, stress_explorer, traded
from emp_nb.live.cases import opine, opinions, precision, save_scenario, scenario_named, sighting
from emp_nb.live.store import Store
from emp_nb.risk.stress import run
from emp_nb.risk.whatif import WhatIf, book_from_weights, recoloured, whatif_shock
from emp_nb.sensory.reading import events_array

APPS = sorted((ROOT / "nbs/apps").glob("*.ipynb"))


def opened(page):
    "The page as a person has it: built and drawn."
    assert page.view.children
    return page


def column(pane, name, renderer=0): return np.asarray(pane.figure.renderers[renderer].data_source.data[name])


# -- the pages -----------------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", APPS, ids=[p.stem for p in APPS])
def test_a_page_holds_no_logic_hides_its_code_and_asks_nobody(path):
    book = json.loads(path.read_text())
    assert book["metadata"]["voila"] == {"template": "emp"}
    for cell in book["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        source = "".join(cell["source"])
        assert "http" not in source
        if cell["cell_type"] != "code": continue
        assert cell["metadata"] == {"jupyter": {"source_hidden": True}}
        assert all(isinstance(n, (ast.ImportFrom, ast.Expr)) for n in ast.parse(source).body) and len(source.splitlines()) <= 3


def test_there_is_a_page_for_each_explorer_and_the_launcher_names_them_all():
    launcher = "".join("".join(c["source"]) for c in json.loads((ROOT / "nbs/apps/launcher.ipynb").read_text())["cells"])
    assert {p.stem for p in APPS} == {"launcher", "stress", "cortex", "evolution", "regime"}
    for path in APPS: assert path.stem == "launcher" or f"({path.name})" in launcher


# -- stress --------------------------------------------------------------------------------------------------------------------------------------

def test_pages_open_on_a_fresh_machine_and_say_what_they_stand_on(home):
    page, seen = opened(stress_explorer()), opened(regime_explorer())
    assert "no risk run yet" in page.origin and "packaged stocks" in page.origin and "packaged spx" in seen.origin
    assert "packaged stocks" in page.view.children[0].value


def test_a_slider_moves_the_figures_that_depend_on_it_and_no_others(home):
    page = opened(stress_explorer())
    drawn = [pane.inputs for pane in page.figures]
    before = column(page.figures[0], "value")[-1]
    page.market.value = -.4
    assert column(page.figures[0], "value")[-1] == pytest.approx(2 * before)
    assert [a != b for a, b in zip(drawn, (pane.inputs for pane in page.figures))] == [True, False, False, False, False]
    page.size.value = .5
    assert column(page.figures[0], "value")[-1] == pytest.approx(before)
    assert all(a != b for a, b in zip(drawn, (pane.inputs for pane in page.figures)))


def test_sliders_of_volatility_and_correlation_fatten_the_tail(home):
    page = opened(stress_explorer())
    page.volatility.value, page.correlation.value = 1., 0.
    calm = page.seen.var
    page.volatility.value = 3.
    assert page.seen.var == pytest.approx(3 * calm, rel=.1)
    page.correlation.value = 1.
    assert page.seen.var > 3.3 * calm


def test_the_bars_of_the_explorer_are_what_the_risk_engine_says(home):
    page = opened(stress_explorer())
    page.sector.value, page.further.value = page.sector.options[2], -.15
    shock = whatif_shock(page.scenario, page.panel.symbols, page.betas, page.panel.groups)
    table = run(book_from_weights(page.weights, page.panel), [shock])
    assert -column(page.figures[0], "value")[-1] == pytest.approx(table.loss.iloc[0], abs=1e-12)


@pytest.mark.parametrize("low", [20., 19.])
def test_thresholds_that_cross_are_refused_in_a_sentence(home, low):
    page = opened(regime_explorer())
    page.high.value = 20.
    kept = column(page.figures[0], "y", -1)
    page.low.value = low
    assert "correct the thresholds" in page.said.value
    np.testing.assert_array_equal(column(page.figures[0], "y", -1), kept)


# -- what is kept --------------------------------------------------------------------------------------------------------------------------------

def test_a_saved_scenario_never_changes_its_numbers(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/s.sqlite")
    body = {"scenario": asdict(WhatIf("oil", market=-.1, sectors={"energy": -.3})), "weights": {"XOM": 1.}}
    save_scenario(store, "oil", body)
    with pytest.raises(DataError, match="stands for other numbers"): save_scenario(store, "oil", {**body, "weights": {"XOM": .5}})
    store.close()
    again = Store(f"sqlite:///{tmp_path}/s.sqlite")
    assert scenario_named(again, "oil") == body and WhatIf(**scenario_named(again, "oil")["scenario"]).sectors == {"energy": -.3}
    assert again.audit_problem() == ""


def test_the_last_opinion_counts_whoever_gave_it_and_every_one_stays(tmp_path):
    store, time = Store(f"sqlite:///{tmp_path}/s.sqlite"), np.arange(10, dtype=np.int64) * 10 ** 9
    events = events_array(["spike"] * 4, range(4), range(4), [1., 2., 3., np.nan])
    about = [sighting("X", "anomaly", time, e) for e in events]
    for who, s, confirmed in (("ana", about[0], True), ("ben", about[0], False), ("ana", about[1], True), ("ben", about[3], True)): opine(store, s, confirmed, who=who)
    assert [(o.who, o.confirmed) for o in opinions(store).values()] == [("ben", False), ("ana", True), ("ben", True)]
    row, = precision(opinions(store))
    assert (row["confirmed"], row["rejected"]) == (2, 1) and row["low"] < 2 / 3 < row["high"]
    assert len(store.entries(kind="opinion")) == 4


@pytest.mark.parametrize("v, c", [(1., 0.), (2., 0.), (1., 1.)])
def test_recoloured_days_have_the_volatility_and_correlation_asked_for(v, c):
    rng = np.random.default_rng(5)
    x = .01 * rng.standard_normal((4000, 6)) @ np.linalg.cholesky(.3 + .7 * np.eye(6)).T
    y = recoloured(x, volatility=v, correlation=c)
    assert y.std(axis=0) / x.std(axis=0) == pytest.approx(np.full(6, v), rel=.05)
    off = np.corrcoef(y.T)[np.triu_indices(6, 1)]
    assert off.mean() == pytest.approx(.3 if c == 0 else 1., abs=.05)


@pytest.mark.jit
@pytest.mark.process
def test_a_scenario_saved_in_the_explorer_runs_as_a_job_and_loses_what_the_page_said(home):
    page = opened(stress_explorer())
    page.name.value, page.market.value, page.size.value = "banks first", -.3, .8
    page.sector.value, page.further.value = "financials", -.2
    page.save()
    assert "emp run stress" in page.said.value
    said = -column(page.figures[0], "value")[-1]
    store = page.store
    held, mine = store.claim("risk", "by the test", "by the test", parameters={})
    folder = runner.runs_dir() / "risk" / held.id
    folder.mkdir(parents=True)
    even = dict.fromkeys(traded(), 1 / len(traded()))
    save_result(folder / "risk.npz", {"book": book_from_weights(even, load("stocks"))})
    store.finish(held, "done", artefacts={"folder": f"risk/{held.id}", "notebook": "", "files": runner.file_digests(folder)})
    assert mine
    for dataset, more in (("stocks", {"symbols": ",".join(traded())}), ("spx_close", {})): assert runner.run("ingest", {"dataset": dataset, **more}, progress=False).status == "done"
    done = runner.run("stress", {"scenario": "banks first"}, progress=False)
    assert done.status == "done", done.error
    assert done.verdict == f"banks first loses {said:.1%}"
    assert any("set by hand: index -30.0% through betas, financials -20.0% further" in line for line in runner.summary_of(done))
    wrong = runner.run("stress", {"scenario": "nobody saved this"}, progress=False)
    assert wrong.status == "failed" and "saved are banks first" in wrong.error
