"""TorchServe's log: how it is written, and how to find in it why a model is not served."""

from __future__ import annotations

import re
from pathlib import Path

from hepdata_serving.torchserve.refusal_line import REFUSED

LOG_FILE = "torchserve.log"

# TorchServe logs several lines a request by default. Here: warnings, and what workers print.
# The size is bounded, because a server runs for long. A client that leaves gets a line, and not
# the exception that TorchServe's handler of requests makes of it.
LOG_CONFIG = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="off">
  <Appenders>
    <RollingFile name="file" fileName="${{env:LOG_LOCATION}}/{LOG_FILE}"
                 filePattern="${{env:LOG_LOCATION}}/{LOG_FILE}.%i">
      <PatternLayout pattern="%d{{ISO8601}} %-5p %c{{1}} - %m%n"/>
      <Policies><SizeBasedTriggeringPolicy size="10 MB"/></Policies>
      <DefaultRolloverStrategy max="1"/>
    </RollingFile>
    <RollingFile name="short" fileName="${{env:LOG_LOCATION}}/{LOG_FILE}"
                 filePattern="${{env:LOG_LOCATION}}/{LOG_FILE}.%i">
      <PatternLayout pattern="%d{{ISO8601}} connection closed - %m%ex{{1}}%n"/>
      <Policies><SizeBasedTriggeringPolicy size="10 MB"/></Policies>
      <DefaultRolloverStrategy max="1"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Logger name="MODEL_LOG" level="info"/>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="io.netty" level="error"/>
    <Logger name="org.pytorch.serve.http.HttpRequestHandler" level="error" additivity="false">
      <AppenderRef ref="short"/>
    </Logger>
    <Logger name="org.apache" level="off"/>
    <Root level="warn"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""

_FAILED = re.compile(
    "Backend worker process died|Backend worker error|Load model failed|Failed to load model"
)


def failure_in(log: Path) -> str | None:
    """Why a model is not served, or None if the log tells of no failure."""
    text = _text(log)
    refused = text.find(REFUSED)
    if refused >= 0:
        return text[refused:].partition("\n")[0]
    if _FAILED.search(text):
        return f"its worker failed:\n{tail(log)}"
    return None


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log; a note if there is none."""
    text = _text(log).rstrip()
    return "\n".join(text.splitlines()[-lines:]) if text else f"({log.name} is empty)"


def _text(log: Path) -> str:
    try:
        return log.read_text(errors="replace")
    except FileNotFoundError:
        return ""
