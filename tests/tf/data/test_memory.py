"""What TensorFlow does to the memory of a process that reads, and what is done about it."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest
import uproot

# how many of some large blocks are mappings of their own, which go back to the system when they
# are freed: glibc marks them in front. A new process has no freed memory that could be taken
SCRIPT = """
import ctypes, sys
import numpy as np, tensorflow as tf
from hepdata_adapters.tf import root_dataset

library, word = ctypes.CDLL(None), ctypes.sizeof(ctypes.c_size_t)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]

def mapped_blocks():
    blocks = [library.malloc(24 * 2**20) for _ in range(8)]
    sizes = [ctypes.c_size_t.from_address(block - word).value for block in blocks]
    for block in blocks:
        library.free(block)
    return sum(bool(size & 2) for size in sizes)

spec = tf.TensorSpec((1,), tf.float64)
list(tf.data.Dataset.from_generator(lambda: iter([np.zeros(1)]), output_signature=spec))
before = mapped_blocks()
inside = [mapped_blocks() for _ in root_dataset(sys.argv[1], batch_size=50, progress=False)]
print(before, *inside)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_pass_uses_freed_memory_again_though_tensorflow_forbids_it(tmp_path):
    """Each array was new memory: tf.data took twice the time of the same batches for torch."""
    path = tmp_path / "met.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"MET": np.arange(100.0)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    before, *inside = map(int, done.stdout.split())
    assert before == 8, "TensorFlow no longer forbids it: keep_freed_memory can go"
    assert inside == [0, 0]
