"""The benchmarks run to their end and say all they promise to say; how fast is no test."""

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import bench_core, bench_http, bench_server
from benchmarks.durable import Puts
from benchmarks.figures import large_figures, put_figures, small_figures
from benchmarks.heartbeat import Heartbeat, timed
from benchmarks.spread import Spread, percentile
from benchmarks.steps import LoadRun, Step

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BOTH_WAYS = ["put_many", "send", "no-op sync", "fetch", "put, 32 callers"]
SPREAD = {"median", "min", "max"}
STEP_SPREADS = {"seconds", "blobs_per_s", "mb_per_s", "floor_seconds", "ratio", "longest_stall_ms"}
PUT_SPREADS = {"puts", "median_ms", "p99_ms", "commit_ms", "ratio", "longest_stall_ms"}


@pytest.mark.slow
def test_the_server_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_server.main(["--folder", str(tmp_path), "--clients", "2", "--mib", "16"])
    said = capsys.readouterr().out
    assert re.search(
        r"^put 8 MiB: \d+ MB/s\nget 8 MiB: \d+ MB/s\nput 2 kB: \d+ objects/s$", said, re.MULTILINE
    )
    assert re.search(r"^server memory: \d+ MiB idle, \d+ MiB at most$", said, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("backend", "runs"), [("asyncio", 1), ("trio", 2)])
def test_every_step_is_measured_and_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str, runs: int
) -> None:
    path = tmp_path / "figures.json"
    sizes = ["--small", "200", "--large", "2", "--large-mib", "1", "--runs", str(runs)]
    bench_core.main([*sizes, "--backend", backend, "--json", str(path)])
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["format"], found["runs"], found["machine"]["backend"]) == (1, runs, backend)
    assert set(found["machine"]) == {"cores", "platform", "python", "sqlcipher", "backend"}
    assert (found["small"]["blobs"], found["large"]["blobs"]) == (200, 2)
    assert found["large"]["size_bytes"] == 2 << 20
    small, large, puts = found["small"]["steps"], found["large"]["steps"], found["durable_put"]
    assert [step["step"] for step in small] == [*BOTH_WAYS, "join", "fetch after join", "get_many"]
    assert [step["step"] for step in large] == [*BOTH_WAYS, "read into files"]
    assert [put["beside"] for put in puts] == ["nothing", "send", "fetch"]
    for figure, spreads in [(step, STEP_SPREADS) for step in small + large] + [
        (put, PUT_SPREADS) for put in puts
    ]:
        assert set(figure) - spreads - {"step", "beside"} == {"aim", "stall_aim"}
        for spread in spreads:
            assert set(figure[spread]) == SPREAD
            assert 0 <= figure[spread]["min"] <= figure[spread]["median"] <= figure[spread]["max"]
        assert set(figure["stall_aim"]) == {"text", "reached"}
    aimed = ["put_many", "send", "fetch", "put, 32 callers"]
    assert [step["step"] for step in small if step["aim"]] == aimed
    assert [step["step"] for step in large if step["aim"]] == [*aimed, "read into files"]
    assert [put["beside"] for put in puts if put["aim"]] == ["send", "fetch"]
    printed = capsys.readouterr().out
    assert printed.count("| put, 32 callers") == 2
    assert printed.count("| 10,000 blobs/s |") == 2


def test_a_load_that_is_not_asked_for_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    bench_core.main(["--small", "0", "--large", "1", "--large-mib", "1", "--json", str(path)])
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["small"], found["durable_put"], found["large"]["blobs"]) == (None, None, 1)


def test_http_is_measured_with_and_without_a_delay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    bench_http.main(["--small", "50", "--large", "1", "--large-mib", "1", "--json", str(path)])
    found = json.loads(path.read_text(encoding="utf-8"))
    small, large = found["small"]["steps"], found["large"]["steps"]
    ways = ["send", "fetch", "no-op sync"]
    assert [step["step"] for step in small] == ways + [f"{way}, 50 ms added" for way in ways]
    assert [step["step"] for step in large] == ways
    for step in small + large:
        assert 3 < step["requests"] < 20
        assert (step["of_plain"] is None) == step["step"].startswith("no-op")
    assert [step["step"] for step in small if step["aim"]] == ["send", "fetch", "send, 50 ms added"]
    assert [step["aim"]["text"] for step in large if step["aim"]] == ["80% of plain"] * 2
    assert found["small"]["plain_put_seconds"]["min"] > 0
    assert capsys.readouterr().out.count("| 80% of plain |") == 2


def _run(name: str, seconds: float, stall_ms: float = 0) -> LoadRun:
    return LoadRun(1000, 5_000_000, [Step(name, seconds, 0.05, stall_ms)])


def test_an_aim_is_reached_by_the_median_and_a_stall_by_the_worst_run() -> None:
    figures = small_figures([_run("fetch", 0.1, 1), _run("fetch", 0.12, 21), _run("fetch", 9, 2)]).steps[0]
    assert figures.aim is not None
    assert (figures.aim.text, figures.aim.reached) == ("6,000 blobs/s", True)
    assert not figures.stall_aim.reached
    assert (figures.seconds, figures.longest_stall_ms) == (Spread(0.12, 0.1, 9), Spread(2, 1, 21))
    assert figures.mb_per_s.max == pytest.approx(50)
    slow = small_figures([_run("fetch", 0.2, 20)]).steps[0]
    assert slow.aim is not None
    assert (slow.aim.reached, slow.stall_aim.reached) == (False, True)
    assert small_figures([_run("join", 0.2)]).steps[0].aim is None


@pytest.mark.parametrize(("seconds", "reached"), [(0.1, True), (0.11, False)])
def test_large_blobs_are_judged_by_their_ratio(seconds: float, reached: bool) -> None:
    figure = large_figures([_run("send", seconds)]).steps[0]
    assert figure.aim is not None
    assert figure.ratio.median == pytest.approx(seconds / 0.05)
    assert figure.aim.reached == reached


def test_puts_are_judged_by_their_median_beside_single_commits() -> None:
    puts = Puts("send", put_seconds=[0.003] * 98 + [0.05, 0.9], commit_seconds=0.001, stall_ms=4)
    figure = put_figures([[puts]])[0]
    assert figure.aim is not None
    assert figure.ratio.median == pytest.approx(3)
    assert figure.aim.reached
    assert figure.p99_ms.median == pytest.approx(50)
    late = put_figures([[Puts("send", [0.0031], 0.001, 4)]])[0].aim
    assert late is not None
    assert not late.reached


def test_percentiles_of_few_values() -> None:
    assert percentile([5.0], 0.99) == 5
    assert percentile([3.0, 1, 2], 0.5) == 2
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99


def test_the_heartbeat_keeps_the_longest_pause() -> None:
    times = iter([0.0, 0.002, 0.033, 0.034])
    heartbeat = Heartbeat(lambda: next(times))
    for _ in range(3):
        heartbeat.beat()
    assert heartbeat.longest_s == pytest.approx(0.03)


@pytest.mark.anyio
async def test_work_that_never_lets_go_of_the_event_loop_is_seen() -> None:
    now = 0.0

    async def work() -> str:
        nonlocal now
        now += 0.05
        return "done"

    done = await timed(work, clock=lambda: now)
    assert (done.result, done.seconds) == ("done", 0.05)
    assert done.stall_s == pytest.approx(0.049)


def test_the_commands_of_the_document_are_ones_the_benchmark_takes() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    commands = re.findall(r"-m benchmarks\.bench_(?:core|http)\b([^\n`]*)", text)
    assert len(commands) > 3
    for command in commands:
        bench_core.parser().parse_args(shlex.split(command))
