"""Ends TorchServe when the process that started it is gone, however that one ended.

A program of its own, run beside Java with the standard library alone: a killed process can end
nothing. Its argument is the folder to remove; its input says the process group to end, and ends
when its parent does.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time


def main(folder: str) -> None:
    parent = os.getppid()
    group = b""
    while os.getppid() == parent:  # a fork of the parent may hold our input open
        if select.select([0], [], [], 0.5)[0]:
            read = os.read(0, 64)
            if not read:
                break
            group += read
    for _ in range(50):  # a worker may be writing into the folder while it is removed
        if group.strip():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(group), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1])
