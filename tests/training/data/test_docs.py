import re
import shlex
import shutil
from pathlib import Path

import pytest

from training import train
from training.data import EXPRESSIONS, LAYOUTS, inspect, read
from training.faces import export

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def as_prepared(arguments: list[str]) -> int:
    """The folder that `prepare`, which has tests of its own, would make of photos of the rendered people."""
    assert arguments == ["photos", "faces"]
    for number, record in enumerate(read("rendered", "oulu-casia").records):
        folder = Path("faces") / str(record.identity) / record.expression
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(record.path, folder / f"{number}{record.path.suffix}")
    return 0


COMMANDS = {
    "training.faces.export": export.main,
    "training.data.inspect": inspect.main,
    "training.data.prepare": as_prepared,
    "training.train": train.main,
}
FRAMES = {
    ("still", "peak"): "all", ("last", "peak"): "last 3", ("last", "neutral+peak"): "first, last 3",
    ("middle", "peak"): "middle 3", ("throughout", "peak"): "3 of all",
}  # fmt: skip


def row(layout) -> str:
    """The row of the page's table that a layout should have."""
    missing = [name for name in EXPRESSIONS if name not in layout.labels.values()]
    labels = f"{len(EXPRESSIONS) - len(missing)}, without {', '.join(missing)}" if missing else "all eight"
    people = "yes" if layout.identities or layout.name == "csv" else "no"
    frames = FRAMES[layout.apex, layout.protocol]
    cells = (f"`{layout.name}`", layout.title, f"`{layout.example}`", labels, people, frames, layout.licence)
    return f"| {' | '.join(cells)} |"


def note(layout) -> str:
    """What the page should say of where a layout's description comes from."""
    return f"- **{layout.title}**: {layout.note}"


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_page_has_every_layout_as_it_is(name):
    assert row(LAYOUTS[name]) + "\n" in PAGE
    assert note(LAYOUTS[name]) + "\n" in PAGE


def test_the_commands_and_the_snippet_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sources: list = []
    monkeypatch.setattr(train, "fit", lambda config: sources.extend(train.load_data(config)))
    lines = [line for line in PAGE.splitlines() if line.startswith("python -m ")]
    assert len(lines) == 7
    for line in lines:
        module, *arguments = shlex.split(line, comments=True)[2:]
        assert COMMANDS[module](arguments) == 0, line
    assert [len(source.people) for source in sources] == [9, 1, 9, 1]
    assert (tmp_path / "rendered" / "grid.png").exists()
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict = {}
    exec(snippet, namespace)
    assert namespace["face"].shape == (3, 48, 48)
    assert len(namespace["train"]) == 9 * 6 * 3


def test_the_error_on_the_page_is_the_one_that_is_raised(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "labels"):
        (tmp_path / "ck" / name).mkdir(parents=True)
    assert inspect.main(["ck", "--layout", "ck+"]) == 2
    message = capsys.readouterr().err.strip().removeprefix("error [data_layout]: ")
    assert f"> {message}\n" in PAGE
