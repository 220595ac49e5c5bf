"""Every notebook of nbs/ executes from top to bottom, in a fresh process, from the folder a reader opens it in."""
import os
import subprocess
import sys
import pytest
from conftest import CODE, ROOT

NOTEBOOKS = sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
def test_notebook_executes(path):
    done = subprocess.run([f"{sys.prefix}/bin/nbdev-test", str(path)],
                          cwd=ROOT, capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": str(ROOT / ".cache/cells" / CODE)})     # where IPython keeps compiled cells
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
