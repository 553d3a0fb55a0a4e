"""Jobs whose processes are killed at random moments end as if nothing had happened."""

import pytest

from benchmarks.scale import kill_and_compare


def test_three_kills(tmp_path):
    found = kill_and_compare(tmp_path, 3, count=40, seed=1)
    assert (found["other_jobs"], found["parts"]) == (0, 3) and found["kills"] >= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills(tmp_path):
    found = kill_and_compare(tmp_path, 20, count=48, seed=2)
    assert found["other_jobs"] == 0 and found["kills"] >= 20
