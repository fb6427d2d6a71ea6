"""TorchServe's entry point: raw events in, predictions out.

This file is copied into each archive together with the modules it needs, and runs there.
TorchServe wants exactly one class here and no function called ``handle``.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

_CODE = Path(__file__).resolve().parent / "code"
if _CODE.is_dir():
    # in an archive: the transform that serves must be the copy that came with the model,
    # not a version that happens to be installed beside it
    sys.path.insert(0, str(_CODE))

import torch  # noqa: E402

from hepdata_adapters.common.core import errors  # noqa: E402
from hepdata_adapters.common.transform.pipeline import ScoreFunction, Transform  # noqa: E402
from hepdata_serving.answers import answer_batch, predict_events  # noqa: E402
from hepdata_serving.errors import ArchiveError, BodyError  # noqa: E402
from hepdata_serving.golden import check_golden  # noqa: E402
from hepdata_serving.integrity import check_folder, parse_json  # noqa: E402
from hepdata_serving.torchserve.program import load_program  # noqa: E402
from hepdata_serving.torchserve.refusal_line import REFUSED  # noqa: E402
from hepdata_serving.torchserve.request_body import body_of  # noqa: E402


class RawEventHandler:
    """Scores requests of raw events; loads only a model that gives its golden predictions."""

    def __init__(self) -> None:
        self.transform: Transform | None = None
        self.score: ScoreFunction | None = None

    def initialize(self, context: Any) -> None:
        """Load the model of ``context.system_properties["model_dir"]`` and prove it.

        Raises ArchiveError when a file is missing or corrupt, or a golden event gets another
        prediction than it had when the model was exported.
        """
        try:
            self._load(Path(context.system_properties["model_dir"]))
        except errors.HepDataError as error:
            logging.error("%s %s", REFUSED, error)
            raise

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One JSON body a request, in order; a bad request gets its own status.

        data: one dict a request with its body under ``body`` (or ``data`` for form data); the
        headers, which say whether it is compressed, are in the context.
        """
        if self.transform is None or self.score is None:
            raise ArchiveError("the handler was not initialized")
        bodies = [
            _body(row, context.get_all_request_header(index)) for index, row in enumerate(data)
        ]
        answers = answer_batch(bodies, self.transform, self.score)
        for index, answer in enumerate(answers):
            context.set_response_content_type(index, "application/json")
            if answer.status != 200:
                context.set_response_status(answer.status.value, answer.status.phrase, index)
        return [answer.body for answer in answers]

    def _load(self, directory: Path) -> None:
        if _CODE.is_dir() and not Path(errors.__file__).resolve().is_relative_to(_CODE):
            raise ArchiveError(
                f"hepdata_adapters was imported from {errors.__file__}, not from the archive; "
                "remove what imports it at Python's start"
            )
        # requests are parallel over workers; more threads only fight with them and with Java
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        try:
            check_folder(directory)
            text = (directory / "transform.json").read_bytes()
            parse_json(text, "transform.json")
            transform = Transform.model_validate_json(text)
            golden = parse_json((directory / "golden.json").read_bytes(), "golden.json")
            events, expected = golden["events"], golden["predictions"]
            program = (directory / "model.pt2").read_bytes()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"the archive is corrupt: {error}") from error
        score = load_program(program)
        check_golden(events, expected, lambda given: predict_events(given, transform, score))
        self.transform, self.score = transform, score
        # TorchServe's worker logs several lines a batch, which Java would parse and store
        logging.getLogger().setLevel(logging.WARNING)


def _body(row: dict[str, Any], headers: dict[str, Any]) -> object:
    """A body, or why it cannot be read: a fault of one request, not of its batch."""
    try:
        return body_of(row, headers)
    except BodyError as error:
        return error
