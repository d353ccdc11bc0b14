"""Logs (JSON, with run and trace ids), traces and metrics. Configured once per process by ``setup``."""

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import orjson
import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, Histogram

from dispatch_common.settings import Settings

_PROPAGATOR: Final = TraceContextTextMapPropagator()
tracer: Final = trace.get_tracer("agent-dispatch")
log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("dispatch")

FACTS_TAKEN: Final = Counter("dispatch_facts_taken_total", "Facts a service has taken.", ["service", "fact"])
FACTS_SAID: Final = Counter("dispatch_facts_said_total", "Facts a service has published.", ["service"])
BATCH_SIZE: Final = Histogram(
    "dispatch_batch_facts", "Facts per transaction.", ["service"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BATCH_SECONDS: Final = Histogram("dispatch_batch_seconds", "Time from fetch to commit.", ["service"])
FAILED_BATCHES: Final = Counter("dispatch_batches_failed_total", "Batches that did not commit.", ["service"])
DEAD_LETTERS: Final = Counter("dispatch_dead_letters_total", "Messages put aside.", ["service"])
OUTBOX_WAITING: Final = Gauge("dispatch_outbox_waiting_rows", "Facts committed but not published.", ["service"])
SWEEPS_FAILED: Final = Counter("dispatch_sweeps_failed_total", "Sweeps that ended with an error.", ["service", "sweep"])


def setup(settings: Settings, name: str, *, processor: SpanProcessor | None = None) -> None:
    """Configure logging and tracing for this process. ``processor`` receives spans besides (or instead of) OTLP."""
    _logging(settings.log_level)
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider(
        resource=Resource.create({"service.name": name, "service.namespace": "agent-dispatch"}),
        sampler=ParentBased(TraceIdRatioBased(settings.trace_ratio)),
    )
    if settings.otlp_endpoint:
        endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    if processor is not None:
        provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)


def _logging(level: str) -> None:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace_ids,
        structlog.processors.format_exc_info,
    ]
    render = structlog.processors.JSONRenderer(serializer=_json)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=render, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "nats", "uvicorn.access", "faststream"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _json(event: Any, **_options: Any) -> str:
    return orjson.dumps(event, default=str).decode()


def _trace_ids(_logger: object, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = f"{span.trace_id:032x}"
        event["span_id"] = f"{span.span_id:016x}"
    return event


def traceparent() -> str | None:
    """Return the W3C traceparent of the current span, or None outside any."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def taken(name: str, parent: str | None, *, about: str, began: int) -> None:
    """Record, in the trace of ``parent``, that a fact was taken; nothing when that trace is not sampled."""
    if parent is None or not _is_sampled(parent):
        return
    context = _PROPAGATOR.extract({"traceparent": parent})
    attributes = {"dispatch.about": about}
    tracer.start_span(name, context=context, kind=SpanKind.CONSUMER, attributes=attributes, start_time=began).end()


def _is_sampled(parent: str) -> bool:
    """Read the sampled bit of a traceparent's flags, the last two hex digits (W3C Trace Context)."""
    return int(parent[-2:], 16) & 1 == 1


@contextmanager
def span(
    name: str, parent: str | None = None, *, kind: SpanKind = SpanKind.INTERNAL, **attributes: Any
) -> Generator[Span]:
    """Open a span that continues the trace of ``parent`` (a traceparent), or of the current context."""
    context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
    with tracer.start_as_current_span(name, context=context, kind=kind, attributes=attributes) as opened:
        yield opened
