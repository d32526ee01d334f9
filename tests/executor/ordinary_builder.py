"""Run as a script, by root too: an ordinary user builds an environment from source; prints what the build's code could see."""

import os
import sys
from pathlib import Path

UID = 12345


def main(place: str, tier: str, requirement: str) -> None:
    from avlab_executor.environments import interpreters
    from avlab_executor.environments.policy import Policy
    from avlab_executor.environments.spec import Spec
    from avlab_executor.environments.store import Store

    from avlab.remote.requirements import normal

    store = Store(Policy("any", folder=place), lambda: tier, print)
    lease = store.lease(Spec(interpreters.own(), normal([requirement]), "any"))
    print((Path(lease.environment.folder) / "site" / f"{requirement}.json").read_text())
    lease.close()
    store.close()


if __name__ == "__main__":
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    main(*sys.argv[1:])
