"""`fusionwatch-monitor compare`: files in, a score out, and a clear word where they are no good."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from monitor.cli import app
from tests.support.synthetic import pairs


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    np.save(folder / "one.npy", rng.normal(size=(200, 4)))
    np.save(folder / "other.npy", rng.normal(1, 1, (200, 4)))
    for name in ("pairs", "more_pairs"):
        image, text = pairs(200, rng)
        np.savez(folder / f"{name}.npz", image=image, text=text)
    np.savez(folder / "half.npz", image=image)
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)
    (folder / "text.npy").write_text("no array")
    return folder


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    paths = [str(folder / each) if each.endswith((".npy", ".npz")) else each for each in arguments]
    result = CliRunner().invoke(app, ["compare", *paths])
    return result.exit_code, result.stdout, result.stderr


def test_json_holds_the_whole_score(files: Path) -> None:
    code, out, _ = run(files, "one.npy", "other.npy", "--detector", "embedding_mmd", "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["detector"], told["verdict"], told["n_current"]) == ("embedding_mmd", "drift", 200)
    assert {"value", "p_value", "effect", "interval", "n_reference", "explanation"} <= set(told)


def test_a_table_for_people(files: Path) -> None:
    code, out, _ = run(files, "pairs.npz", "more_pairs.npz", "--detector", "pairing")
    assert code == 0
    assert "verdict" in out
    assert "belong together" in out


def test_options_reach_the_detector(files: Path) -> None:
    given = ("--option", "alpha=0.001", "--option", "permutations=99", "--json")
    told = json.loads(run(files, "one.npy", "other.npy", *given)[1])
    assert (told["p_value"], told["verdict"]) == (0.01, "ok")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("one.npy", "nowhere.npy"), "nowhere.npy cannot be read"),
        (("one.npy", "text.npy"), "text.npy"),
        (("one.npy", "objects.npy"), "Object arrays cannot be loaded"),
        (("half.npz", "pairs.npz", "--detector", "pairing"), "lacks text"),
        (("one.npy", "other.npy", "--detector", "pairing"), "pair of arrays"),
        (("one.npy", "other.npy", "--detector", "no_such"), "known are"),
        (("one.npy", "other.npy", "--option", "alpha"), "key=value"),
        (("one.npy", "other.npy", "--option", "alpha=low"), "must be a number"),
        (("one.npy", "other.npy", "--option", "level=0.9"), "known are"),
    ],
)
def test_bad_input_is_told_and_exits_with_2(files: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, out, err = run(files, *arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert "Traceback" not in err
