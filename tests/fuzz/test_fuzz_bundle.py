"""Damaged bundles, unpacked where bundles are: in a locked worker. Refused with avlab's errors, or unpacked exactly."""

from pathlib import Path

import pytest
from avlab_executor.pool import Pool
from mutation import CASES, SEED
from sandbox_host import HERE, Conversation

from avlab.remote.limits import Limits

MIB = 1 << 20
AT_ONCE = 500


def test_damaged_bundles() -> None:
    folders = [HERE, str(Path(__file__).parent)]
    with Pool("namespaces", entry="bundle_worker:main", paths=folders) as pool:
        conversation = Conversation(pool.acquire(Limits(memory="512M", scratch="64M")))
        conversation.worker.socket.settimeout(120)
        counts: dict[str, int] = {}
        try:
            for number in range(0, CASES, AT_ONCE):
                answer = conversation.ask(seed=f"{SEED} {number}", cases=AT_ONCE)
                if answer["wrong"]:
                    pytest.fail("\n".join(answer["wrong"]))
                assert answer["grown"] < 100 * MIB
                counts = {
                    name: counts.get(name, 0) + answer["counts"].get(name, 0) for name in {*counts, *answer["counts"]}
                }
        finally:
            conversation.close()
    assert sum(counts.values()) >= CASES
    assert counts["loaded"] > CASES // 20 and counts["BundleError"] > CASES // 20, counts
