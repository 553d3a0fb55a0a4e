"""Bars on terminals of any width, lines elsewhere, and nothing in the way of what runs."""

import os
import signal
import sys
import time

import pytest
from terminals import HIDE_CURSOR, left_to_see, on_terminal

from mmact_tiny import progress
from mmact_tiny.progress import Bar, per_second, say, track


def three_of_four() -> None:
    bar = Bar("epoch 1/30", 4)
    bar.update(3, facts=["12 videos/s", "loss 0.657", "top-1 75%"], seconds_left=65)
    os._exit(0)  # as it was drawn last


@pytest.mark.parametrize(
    ("columns", "bar", "words"),
    [
        (120, 40, "epoch 1/30  3/4  1:05 left  12 videos/s  loss 0.657  top-1 75%"),
        (80, 17, "epoch 1/30  3/4  1:05 left  12 videos/s  loss 0.657  top-1 75%"),
        (60, 0, "epoch 1/30  3/4  1:05 left  12 videos/s  loss 0.657  top-1 \u2026"),
        (24, 0, "epoch 1/30  3/4  1:05 l\u2026"),
    ],
)
def test_a_narrow_terminal_shows_what_matters_most(columns, bar, words):
    (line,) = left_to_see(on_terminal(three_of_four, columns=columns)[0])
    assert line.lstrip("\u2501\u2578\u257a ") == words
    assert len(line) - len(words) == bar + bool(bar)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (65.9, "1:05"), (600, "10:00"), (3600, "1:00:00"), (36_000, "10:00:00")],
)
def test_the_time_left(seconds, text, capsys):
    Bar("testing", 1, keep=True).update(1, seconds_left=seconds)
    assert capsys.readouterr().err == f"testing: 1/1, {text} left\n"


def test_the_time_left_is_that_at_the_speed_so_far(capsys, monkeypatch):
    say("quiet from here")
    bar = Bar("testing", 10)
    monkeypatch.setattr(progress.time, "monotonic", lambda: bar.started + 60)
    bar.update(3)
    assert capsys.readouterr().err == "testing: 3/10, 2:20 left\n"


def test_a_terminal_that_knows_no_unicode_gets_ascii():
    written, _ = on_terminal(three_of_four, environ={"PYTHONIOENCODING": "ascii"})
    assert written.isascii() and "-----" in written and "epoch 1/30  3/4  1:05" in written


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.123, "0.12 videos/s"), (5.16, "5.2 videos/s"), (52.4, "52 videos/s")]
)
def test_a_rate_has_two_digits(rate, expected):
    assert per_second(rate) == expected


def four_steps() -> None:
    with Bar("checking videos (2 known)", 4, keep=True) as bar:
        for step in range(4):
            say(f"step {step} [bold]{'x' * 100}[/bold] :smile:")
            bar.advance()


def test_a_line_is_printed_above_the_bar_as_it_is():
    """Not wrapped, which would break a path that is copied, and nothing in it is markup."""
    written, status = on_terminal(lambda: four_steps(), columns=60)
    assert (status, HIDE_CURSOR in written) == (0, False)
    *lines, last = left_to_see(written)
    assert lines == [f"step {step} [bold]{'x' * 100}[/bold] :smile:" for step in range(4)]
    assert " checking videos (2 known)  4/4  0:00 left" in last


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_dumb_terminal_gets_lines(term):
    written, _ = on_terminal(lambda: four_steps(), environ={"TERM": term})
    assert "\x1b" not in written and "\r" not in written
    last = written.splitlines()[-1]
    assert last.startswith("checking videos (2 known): 4/4, 0:00 left, ")


def test_elsewhere_a_line_is_printed_now_and_then(capsys, monkeypatch):
    say("quiet from here")
    bar = Bar("epoch 1/2", 10)
    now = time.monotonic()
    for second in range(1, 10):
        monkeypatch.setattr(progress.time, "monotonic", lambda at=now + 10 * second: at)
        bar.update(second, facts=["5 videos/s"], seconds_left=60)
    bar.close()
    out, err = capsys.readouterr()
    assert out == "quiet from here\n"
    assert err.splitlines() == [
        f"epoch 1/2: {done}/10, 1:00 left, 5 videos/s" for done in (3, 6, 9)
    ], "each 30 seconds after what was said last"


def test_a_forked_worker_writes_to_the_terminal_itself():
    """Through the bar's console it would draw the bar a second time."""

    def work() -> None:
        bar = Bar("training", 2)
        bar.update(1)
        pid = os.fork()
        if pid == 0:
            print("from the worker", file=sys.stderr)
            os._exit(0 if progress._bar is None else 9)
        assert os.waitpid(pid, 0)[1] == 0
        bar.close()

    written, status = on_terminal(work)
    assert status == 0
    assert written.count("from the worker") == 1


def test_what_runs_outlives_its_terminal(tmp_path):
    done = tmp_path / "done"

    def work() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        bar = Bar("training", 50)
        for step in range(50):
            bar.update(step + 1)
            time.sleep(0.02)
        bar.close()
        done.write_text("yes")

    _, status = on_terminal(work, hang_up_at="3/50")
    assert (status, done.read_text()) == (0, "yes")


def test_a_bar_within_another_is_not_drawn():
    """Windows of one video have a bar, those of each video of a folder have not."""

    def work() -> None:
        for _ in track([1, 2], "videos", 2):
            assert list(track("abc", "windows", 3, unit="windows")) == ["a", "b", "c"]
        assert list(track("abc", "windows", 3, unit="windows")) == ["a", "b", "c"]

    written, status = on_terminal(work)
    assert (status, left_to_see(written)) == (0, [])
    assert written.index("2/2  0:00 left") < written.index("windows ")
    assert "3/3  0:00 left" in written and " windows/s" in written


def test_a_bar_knows_that_a_file_had_more_than_it_said(capsys):
    with Bar("rendering", 1, unit="frames", keep=True) as bar:
        bar.advance()
        bar.advance()
    assert [line.split(", ")[:2] for line in capsys.readouterr().err.splitlines()] == [
        ["rendering: 1/1", "0:00 left"],
        ["rendering: 2/1", "0:00 left"],
    ]


def test_a_new_bar_takes_the_place_of_one_left_open():
    def work() -> None:
        Bar("first", 2).update(1)
        Bar("second", 2, keep=True).update(2)
        progress.close()

    written, status = on_terminal(work)
    (line,) = left_to_see(written)
    assert status == 0 and " second  2/2" in line
