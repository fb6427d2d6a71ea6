"""What TensorFlow does to the memory of a process that reads, and what is done about it."""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import pytest
import tensorflow as tf
import uproot

from hepdata_adapters.tf import root_dataset

LARGE = 24 * 2**20
MAPPED = 2  # the bit of a block's size that glibc sets where the block is a mapping of its own


def mapped_blocks() -> int:
    """How many of some large blocks are mappings, which go back to the system when freed."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    blocks = [library.malloc(LARGE) for _ in range(8)]
    sizes = [ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value
             for block in blocks]  # fmt: skip
    for block in blocks:
        library.free(block)
    return sum(bool(size & MAPPED) for size in sizes)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_pass_uses_freed_memory_again_though_tensorflow_forbids_it(tmp_path):
    """Each array was new memory: tf.data took twice the time of the same batches for torch."""
    plain = tf.data.Dataset.from_generator(
        lambda: iter([np.zeros(1)]), output_signature=tf.TensorSpec((1,), tf.float64)
    )
    list(plain)
    assert mapped_blocks(), "TensorFlow no longer forbids it: keep_freed_memory can go"
    with uproot.recreate(tmp_path / "met.root") as file:
        file["Events"] = {"MET": np.arange(100.0)}
    for _ in root_dataset(str(tmp_path / "met.root"), batch_size=50, progress=False):
        assert not mapped_blocks()
