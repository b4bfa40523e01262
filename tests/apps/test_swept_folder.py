"""A finished sweep in the app: the reference and each variant are folders of predictions in Compare."""

from __future__ import annotations

import httpx
import pytest

from tests.apps.conftest import HERE, started
from workbench.evaluation import SweepRules, sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory, painted, data_file):
    """Three epochs, swept with the flip test besides; the address of the app and the report."""
    from apps.server.settings import Settings

    root = tmp_path_factory.mktemp("swept") / "root"
    for epoch, shift in ((1, 6), (2, 2), (10, 0)):
        painted.write_checkpoint(root / "run" / f"epoch_{epoch}.pth", epoch, shift)
    rules = SweepRules(ablations=("flip",), opening={"adapter": str(HERE / "painted.py")})
    report = sweep(root / "run", data_file, root / "run" / "sweep", rules=rules)
    cache = tmp_path_factory.mktemp("cache")
    where, _, stop = started(
        Settings(root=root, data=(data_file,), port=0, cache=cache, adapter=HERE / "painted.py")
    )
    yield where, report
    stop()


def asked(address, path, **query):
    return httpx.get(f"{address}workbench/api/{path}", params=query, timeout=60)


def test_the_reference_and_each_variant_are_listed_with_their_epochs_and_data(swept):
    address, report = swept
    runs = {one["id"]: one for one in asked(address, "runs").json()}
    places = {name for name in runs if name.startswith("predictions:run/sweep")}
    assert len(places) == len(report.variants) > 1
    for name in places:
        assert [epoch["epoch"] for epoch in runs[name]["epochs"]] == [1, 2, 10]
        assert [epoch["label"] for epoch in runs[name]["epochs"]] == ["epoch 1", "epoch 2", "epoch 10"]
        assert runs[name]["data"][0] == "painted.json"


def test_compare_gives_the_ap_of_the_table(swept):
    from tests.waiting import when

    address, report = swept
    query = {"run": "predictions:run/sweep", "data": "painted.json"}

    def figures():
        answer = httpx.post(f"{address}workbench/api/compare", params=query, timeout=60).json()
        return [(epoch.get("figures") or {}).get("AP") for epoch in answer["epochs"]]

    found = when(figures, lambda aps: None not in aps)
    assert found == [row["AP"] for row in report.of("reference")]
