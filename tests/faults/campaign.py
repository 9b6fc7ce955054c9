"""Reads damaged inputs of every kind, and counts how that ends.

    python -m tests.faults.campaign --inputs 1500 --seed 0 --table docs/faults.md

Input i of a seed is always the same. Each is read in a process that was forked from one with the
package imported, with limits on processor time and memory. What has been read is kept in `--state`,
so that a repeated command goes on, and several seeds share a table. `--show` prints the inputs that
ended badly.
"""

import argparse
import datetime
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for regression_run

from tests.faults.bombs import BOMBS
from tests.faults.damage import damage_of
from tests.faults.judge import Ending, run_all
from tests.faults.kinds import KINDS, Kind, prepare_process
from tests.faults.sound import write_weights

ENDINGS = {
    "0": "read",
    "1": "reported",
    "2": "one line",
    "noise": "noise",
    "traceback": "traceback",
    "hang": "hang",
    "memory": "over 2 GB",
    "crash": "crash",
    "wrong": "silently wrong",
}
BAD = ("noise", "traceback", "hang", "memory", "crash", "wrong")
AT_ONCE = 10


class Bench:
    """Sound inputs and what is read of them, made once for a kind and variant."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._sound: dict[tuple[str, int], tuple[Path, Ending]] = {}

    def sound(self, name: str, variant: int) -> tuple[Path, Ending]:
        """The folder of a sound input, and how reading a copy of it ends: well."""
        if (name, variant) not in self._sound:
            kind, folder = KINDS[name], self._place / f"{name}-{variant}"

            def write(folder: Path) -> tuple[int, None]:
                folder.mkdir()
                return 0, kind.write(folder, variant)

            (ending,) = run_all(write, [folder], allowed=600)
            assert ending.how != "traceback", (name, variant, ending)
            if name == "bombs":  # nothing about them is sound, nor quick
                self._sound[name, variant] = folder, Ending("2")
                return folder, Ending("2")
            copy = shutil.copytree(folder, self._copy(folder, "sound"))
            (ending,) = run_all(kind.act, [copy], allowed=600)
            assert ending.how in ("0", "1"), (name, variant, ending)
            self._sound[name, variant] = folder, ending
        return self._sound[name, variant]

    def _copy(self, folder: Path, label: str) -> Path:
        return folder.with_name(f"{folder.name}-{label}")

    def damaged(self, name: str, seed: int, index: int) -> tuple[Path, str]:
        """A damaged input's folder, and what was done to which file."""
        kind, rng = KINDS[name], np.random.default_rng([seed, crc32(name.encode()), index])
        before, _ = self.sound(name, index % kind.variants)
        copy = self._copy(before, f"{seed}-{index}")
        folder = Path(shutil.copytree(before, copy, symlinks=True))
        if name == "bombs":
            return folder, list(BOMBS)[index % kind.variants]
        files = sorted(path for path in folder.glob(kind.files) if path.is_file())
        file = files[rng.integers(len(files))]
        what, data = damage_of(file.name)(rng, file.read_bytes())
        file.write_bytes(data)
        return folder, f"{file.relative_to(folder)}: {what}"


def verdict(kind: Kind, what: str, ending: Ending, right: Ending) -> str:
    """How reading a damaged input ended, where the sound one is known."""
    noticed = "any" in kind.noticed or what.rpartition(": ")[2] in kind.noticed
    if ending.how == "0" and right.how == "0" and noticed:
        return "0" if kind.agrees(ending.value, right.value) else "wrong"
    if kind.act.__name__.startswith("predict") and ending.how in ("0", "1"):
        return ending.how if ending.value == right.value else "wrong"
    return ending.how


def run(
    bench: Bench, name: str, seed: int, indices: list[int]
) -> Iterator[tuple[int, str, str, Ending]]:
    """Read damaged inputs of a kind; gives index, damage, verdict and ending of each."""
    kind = KINDS[name]
    for index in indices:
        bench.sound(name, index % kind.variants)
    made = [bench.damaged(name, seed, index) for index in indices]
    allowed = (
        100.0
        if name == "bombs"
        else max(bench.sound(name, index % kind.variants)[1].seconds for index in indices)
    )
    endings = run_all(kind.act, [folder for folder, _ in made], allowed)
    for index, (folder, what), ending in zip(indices, made, endings, strict=True):
        right = bench.sound(name, index % kind.variants)[1]
        result = verdict(kind, what, ending, right)
        for path in folder.parent.glob(f"{folder.name}*"):
            if result not in BAD:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield index, what, result, ending


def plan(inputs: int, kinds: list[str]) -> dict[str, int]:
    """How many inputs of each kind."""
    total = sum(KINDS[name].share for name in kinds)
    return {name: max(1, round(inputs * KINDS[name].share / total)) for name in kinds}


def table(rows: list[dict], seeds: list[int]) -> str:
    """The counts as Markdown."""
    counts = Counter((row["kind"], row["verdict"]) for row in rows)
    names = [name for name in KINDS if any(row["kind"] == name for row in rows)]
    lines = [
        f"{len(rows)} damaged inputs, seeds {', '.join(map(str, sorted(seeds)))}; "
        f"{datetime.date.today()}.",
        "",
        f"| kind | tried | {' | '.join(ENDINGS.values())} | most memory | most seconds |",
        "|---" * (len(ENDINGS) + 4) + "|",
    ]
    for name in [*names, "all"]:
        mine = [row for row in rows if name in ("all", row["kind"])]
        found = [sum(counts[k, v] for k in names if name in ("all", k)) for v in ENDINGS]
        most = f"{max(row['peak'] for row in mine) / 1e6:.0f} MB"
        slow = f"{max(row['seconds'] for row in mine):.1f}"
        lines.append(f"| {name} | {len(mine)} | {' | '.join(map(str, found))} | {most} | {slow} |")
    return "\n".join(lines) + "\n"


def put_table(page: Path, name: str, text: str) -> None:
    """Put a table between the page's comments `<!-- NAME -->` and `<!-- end -->`."""
    before, comment, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    page.write_text(f"{before}{comment}{text}{end}{after}")


def main() -> int:
    """Run the campaign; the exit status is 1 if any input ended badly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--inputs", type=int, default=1500)
    add("--seed", type=int, default=0)
    add("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    add("--state", type=Path, default=Path(tempfile.gettempdir()) / "faults.jsonl")
    add("--table", type=Path)
    add("--show", action="store_true")
    options = parser.parse_args()
    rows = []
    if options.state.exists():
        rows = [json.loads(line) for line in options.state.read_text().splitlines()]
    done = {(row["kind"], row["seed"], row["index"]) for row in rows}
    with tempfile.TemporaryDirectory() as place, options.state.open("a") as state:
        os.environ["XDG_CACHE_HOME"] = str(Path(place, "cache"))
        prepare_process()
        (Path(place) / "weights").mkdir()
        run_all(lambda folder: (0, write_weights(folder)), [Path(place) / "weights"], 600)
        bench = Bench(Path(place))
        for name, count in plan(options.inputs, options.kinds).items():
            left = [i for i in range(count) if (name, options.seed, i) not in done]
            for at in range(0, len(left), AT_ONCE):
                part = left[at : at + AT_ONCE]
                for index, what, result, ending in run(bench, name, options.seed, part):
                    row = {"kind": name, "seed": options.seed, "index": index, "damage": what}
                    row |= {"verdict": result, "seconds": ending.seconds, "peak": ending.peak}
                    row |= {"text": ending.text} if result in BAD else {}
                    rows.append(row)
                    print(json.dumps(row), file=state, flush=True)
                    if result in BAD:
                        print(f"{name} {index}: {result} ({what})", file=sys.stderr)
    bad = [row for row in rows if row["verdict"] in BAD]
    for row in bad if options.show else []:
        print(
            f"\n== {row['kind']} {row['index']}, {row['damage']}: {row['verdict']}\n{row['text']}"
        )
    if options.table:
        put_table(options.table, "inputs", table(rows, sorted({row["seed"] for row in rows})))
    print(table(rows, sorted({row["seed"] for row in rows})))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
