"""A cluster of Ray on this machine, whose processes can be found, and killed."""

import os
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
# Of a machine of a test cluster: a core, and bytes for what its processes hand over.
SIZE = dict(num_cpus=1, object_store_memory=100_000_000)
WORKERS = dict(reader="ray::Map(read_batch)", actor="ray::MapWorker")  # what they call themselves


class Cluster:
    """A Ray cluster of two machines with a core each, or of one: raylets of this one, with workers.

    The first stays; the second can be killed, and another is put in its place.

    Args:
        **resources: What one machine says it has; by default there are two.
    """

    def __init__(self, **resources: float) -> None:
        from ray.cluster_utils import Cluster as Raylets

        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=path)  # workers inherit both
        # A machine that is silent counts as lost after 5 s, not 30, so that a job is short.
        noticed = dict(health_check_period_ms=1000, health_check_initial_delay_ms=1000)
        head = dict(include_dashboard=False, _system_config=noticed)
        head |= resources or SIZE
        self._cluster = Raylets(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        self._second = None if resources else self._cluster.add_node(**SIZE)

    def start_again(self) -> None:
        """Puts a machine in the place of a second one that was killed."""
        if not self.find("node"):
            self._cluster.remove_node(self._second, allow_graceful=False)
            self._second = self._cluster.add_node(**SIZE)

    def find(self, what: str) -> list[psutil.Process]:
        """Returns the processes: the second raylet, or workers that decode or have a model."""
        raylets = [
            psutil.Process(each.process.pid)
            for node in self._cluster.list_all_nodes()
            for each in node.all_processes["raylet"]
            if each.process.poll() is None
        ]
        if what == "node":
            second = self._second.all_processes["raylet"][0].process.pid
            return [raylet for raylet in raylets if raylet.pid == second]
        return [worker for raylet in raylets for worker in self.at_work(raylet, WORKERS[what])]

    def at_work(self, raylet: psutil.Process, name: str = "ray::Map") -> list[psutil.Process]:
        """Returns the workers of a machine that decode or have a model."""
        found = []
        for worker in raylet.children():
            with suppress(psutil.Error):
                if " ".join(worker.cmdline()).startswith(name):
                    found.append(worker)
        return found

    def close(self) -> None:
        """Ends all of it."""
        self._cluster.shutdown()
