"""The first notebooks, as people meet them: on the home page, in their home, executed in their server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from majlis.access import DECIDING_SCOPES
from tests.support.people import Person
from tests.support.workbench import ROOT, Workbench, without_settings

pytestmark = pytest.mark.timeout(600)
KERNEL_SECONDS = 400.0
API = "/services/majlis/api/v1"
NAMES = ("01_first_model", "02_your_data", "03_review_a_model")
PLACE = ROOT / "notebooks" / "start"
WIDGET = "application/vnd.jupyter.widget-view+json"

People = dict[str, Person]

EXECUTE = """
import json, tempfile
from pathlib import Path
import papermill

executed = papermill.execute_notebook(
    {source!r}, str(Path(tempfile.mkdtemp()) / "executed.ipynb"), {parameters!r},
    cwd={cwd!r}, kernel_name="python3", progress_bar=False,
)
outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
text = [
    str(output.get("text") or output.get("data", {{}}).get("text/plain", ""))
    for output in outputs
    if output.get("name") != "stderr"
]
kinds = sorted({{kind for output in outputs for kind in output.get("data", {{}})}})
html = "\\n".join(str(output.get("data", {{}}).get("text/html", "")) for output in outputs)
print("executed", json.dumps({{"text": "\\n".join(text), "html": html, "kinds": kinds}}))
"""

WAITING = """
import numpy as np, polars as pl, majlis
from sklearn.linear_model import LogisticRegression
from majlis.training.models import log_classifier

wb, rng = majlis.connect(), np.random.default_rng(11)
x = rng.normal(size=(3000, 2))
yes = (x[:, 0] + rng.normal(size=3000) > 0).astype(int)
split = np.where(np.arange(3000) < 2000, "train", "test")
frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "yes": yes, "split": split})
table = wb.lake.write(frame, "gold.start_review", mode="overwrite")
rows = frame.select("a", "b").to_pandas()
with wb.track("start-review", tables=[table]) as run:
    model = LogisticRegression().fit(rows[:2000], yes[:2000])
    uri = log_classifier(run, model, rows.head(3))
version = wb.register(
    uri, "start-review", run_id=run.id,
    evaluation={"table": table.name, "version": table.version, "target": "yes", "where": {"split": "test"}},
    facts={"purpose": "Wait for people to decide", "personal_data": True, "affected_people": "customers",
           "autonomy": "assists"},
    lineage={"tables": [{"name": table.name, "version": table.version}]},
).wait()
print(version.state, version.version)
"""


def executed(person: Person, name: str, **parameters: Any) -> dict[str, Any]:
    """What the notebook in the person's home shows when it runs in their server: as text, as HTML."""
    code = EXECUTE.format(source=f"start/{name}.ipynb", parameters=parameters, cwd="start")
    return told(person.run(code, KERNEL_SECONDS))


def told(printed: str) -> dict[str, Any]:
    """What the line that tells the outputs says."""
    (line,) = [line for line in printed.splitlines() if line.startswith("executed ")]
    found: dict[str, Any] = json.loads(line.removeprefix("executed "))
    return found


@pytest.fixture(scope="module")
def first_model(people: People) -> dict[str, Any]:
    """The first notebook, run by the scientist: what it showed."""
    return executed(people["scientist"], "01_first_model")


@pytest.fixture(scope="module")
def waiting(people: People) -> int:
    """A version of the scientist's that waits for people: its number."""
    state, _, number = people["scientist"].run(WAITING, KERNEL_SECONDS).splitlines()[-1].rpartition(" ")
    assert state == "in review"
    return int(number)


@pytest.mark.parametrize("name", ["scientist", "compliance"])
def test_the_home_page_leads_to_each(people: People, name: str) -> None:
    page = people[name].page("/hub/home").text
    for notebook in NAMES:
        assert f'href="/hub/user-redirect/lab/tree/start/{notebook}.ipynb"' in page


def test_a_home_has_them_at_its_top_and_only_there(people: People) -> None:
    code = (
        "import os, json; print(json.dumps([sorted(os.listdir('start')), sorted(os.listdir('notebooks'))]))"
    )
    start, notebooks = json.loads(people["scientist"].run(code))
    assert {f"{name}.ipynb" for name in NAMES} <= set(start)
    assert "start" not in notebooks and "flight_delay" in notebooks
    can_write = f"import os; print(all(os.access(f'start/{{n}}.ipynb', os.W_OK) for n in {NAMES!r}))"
    assert people["scientist"].run(can_write).strip() == "True"


def test_they_are_no_pipeline(people: People) -> None:
    scientist = people["scientist"]
    server = scientist.start_server()
    with scientist.api() as client:
        found = client.get(f"{server}majlis/pipelines")
    assert found.status_code == 200, found.text
    names = {each["name"] for each in found.json()}
    assert "flight_delay" in names and "start" not in names


@pytest.mark.parametrize("name", NAMES)
def test_they_are_stored_without_outputs(name: str) -> None:
    notebook = json.loads((PLACE / f"{name}.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert [cell["metadata"] for cell in code if cell["metadata"]] == [{"tags": ["parameters"]}]


def test_the_first_model_is_released_and_served(people: People, first_model: dict[str, Any]) -> None:
    assert "largest difference" in first_model["text"]
    assert WIDGET in first_model["kinds"]
    with people["engineer"].api() as client:
        version = client.get(f"{API}/models/first-model-scientist/versions/1").json()
        deployment = client.get(f"{API}/deployments/first-model-scientist").json()
    assert (version["state"], version["tier"], version["owner"]) == ("released", "low", "scientist")
    assert {check["verdict"] for check in version["checks"]} <= {"passed", "skipped"}
    assert deployment["ready"] and deployment["model"] == "first-model-scientist"


def test_a_second_person_has_a_first_model_too(people: People, first_model: dict[str, Any]) -> None:
    shown = executed(people["engineer"], "01_first_model", iterations=20)
    assert "engineer makes first-model-engineer" in shown["text"]
    assert "largest difference" in shown["text"]


def test_own_data_reach_the_lake_and_the_faults_the_quarantine(people: People) -> None:
    shown = executed(people["scientist"], "02_your_data", table="start_members", members=30)
    assert "city is not in the list of cities, joined: is not written YYYY-MM-DD" in shown["text"]
    assert "30 rows as silver.start_members@0, 5 rows as silver.start_members_quarantine@0" in shown["text"]
    look = """
import json, majlis
wb = majlis.connect()
reasons = {one for row in wb.lake.read("silver.start_members_quarantine")["reasons"] for one in row}
print(json.dumps([wb.lake.read("silver.start_members").height, sorted(reasons)]))
"""
    height, reasons = json.loads(people["scientist"].run(look))
    assert height == 31
    assert reasons == [
        "city is not in the list of cities",
        "email: is no e-mail address",
        "full_name is missing",
        "joined: is not written YYYY-MM-DD",
        "paid without a visit",
        "the same member_id came before",
    ]


@pytest.mark.parametrize("name", ["scientist", "compliance"])
def test_a_review_is_read_by_everybody_and_decided_by_no_kernel(
    people: People, workbench: Workbench, waiting: int, name: str
) -> None:
    outputs = executed(people[name], "03_review_a_model", model="start-review", number=waiting)
    shown, (card,) = outputs["text"], re.findall(r'<iframe sandbox .*srcdoc="([^"]+)"', outputs["html"])
    assert "start-review" in card and "Wait for people to decide" in card
    assert f"{name}, here as {name}" in shown
    assert "none: whoever can change a cell" in shown and not any(each in shown for each in DECIDING_SCOPES)
    assert f"{workbench.decisions_url}/services/majlis/models/start-review/versions/{waiting}" in shown
    assert shown.count("is waited for") == 3
    assert "review.requested" in shown and "unbroken" in shown


def test_where_something_waits_the_review_notebook_finds_it(people: People, waiting: int) -> None:
    inbox = people["compliance"].api().get(f"{API}/reviews").json()
    first = min(inbox, key=lambda each: each["due"])
    shown = executed(people["compliance"], "03_review_a_model")["text"]
    assert f"{first['model']} version {first['version']}, in review" in shown


def test_a_version_that_waits_for_nobody_is_shown(people: People, first_model: dict[str, Any]) -> None:
    shown = executed(people["compliance"], "03_review_a_model", model="first-model-scientist")["text"]
    assert "first-model-scientist version 1, released" in shown
    assert "is waited for" not in shown


def test_an_empty_workbench_is_said_to_be_empty(tmp_path: Path) -> None:
    code = EXECUTE.format(source=str(PLACE / "03_review_a_model.ipynb"), parameters={}, cwd=str(tmp_path))
    environment = without_settings(os.environ) | {"MAJLIS_WORKBENCH_HOME": str(tmp_path / "var")}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "There is no model yet" in told(ended.stdout)["text"]
