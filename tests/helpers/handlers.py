"""What the tests of archives for TorchServe, and of the handler in them, share."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hepdata_serving.torchserve.handler import RawEventHandler
from tests.helpers.folders import once
from tests.helpers.torchserve_example import export_example


def exported_archive(factory: pytest.TempPathFactory) -> Path:
    """The archive of the model ``example``; not to be changed."""
    folder = once(factory, "archive", lambda folder: export_example(folder, "example"))
    return folder / "model_store" / "example-1.0.mar"


def python_path(*more: Path) -> str:
    """This process's import path, for another process in another folder."""
    return os.pathsep.join([*map(os.path.abspath, filter(None, sys.path)), *map(str, more)])


class FakeContext:
    """As much of TorchServe's context as the handler uses."""

    def __init__(self, model_dir: Path) -> None:
        self.system_properties = {"model_dir": str(model_dir)}
        self.status: dict[int, tuple[int, str]] = {}
        self.content_types: dict[int, str] = {}

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        return {}

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.status[idx] = (code, phrase)

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.content_types[idx] = value


def ask(handler: RawEventHandler, *bodies: object) -> list[tuple[int, dict[str, Any]]]:
    context = FakeContext(Path())
    results = handler.handle([{"body": body} for body in bodies], context)
    assert len(results) == len(bodies)
    assert set(context.content_types.values()) <= {"application/json"}
    statuses = [context.status.get(index, (200, ""))[0] for index in range(len(bodies))]
    return list(zip(statuses, map(strict_json, results), strict=True))


def strict_json(data: bytes) -> dict[str, Any]:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    answer = json.loads(data, parse_constant=refuse)
    assert isinstance(answer, dict)
    return answer


def body(*events: object) -> bytes:
    return json.dumps({"instances": events}).encode()
