"""Jobs whose processes are killed at random moments end as if nothing had happened."""

import pytest

from benchmarks.scale import kill_and_compare
from benchmarks.simulate import simulate, simulate_ray


def test_three_kills(tmp_path):
    found = kill_and_compare(tmp_path, 3, count=40, seed=1)
    assert (found["other_jobs"], found["parts"]) == (0, 3) and found["kills"] >= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills(tmp_path):
    found = kill_and_compare(tmp_path, 20, count=48, seed=2)
    assert found["other_jobs"] == 0 and found["kills"] >= 20


def test_twenty_workers_that_wait_do_each_part_once(tmp_path):
    """It checks that itself; two of them die."""
    found = simulate(tmp_path, 20, count=6400, seconds=2, seed=0)
    assert (found["parts"], found["died"]) == (100, 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_does_each_part_once_where_workers_wait_and_die(tmp_path):
    pytest.importorskip("ray")
    found = simulate_ray(tmp_path, 10, seconds=20, seed=0)
    assert (found["readers"], found["actors"]) == (8, 2) and found["died"] == 1
