"""One run is one trace: from the webhook's request to the pull request, over every service."""

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dispatch_common import telemetry
from dispatch_common.settings import Settings
from tests.support.instance import Instance


async def test_one_trace_leads_from_the_webhook_to_the_pull_request(settings: Settings, here: Instance) -> None:
    spans = InMemorySpanExporter()
    telemetry.setup(settings, "test", processor=SimpleSpanProcessor(spans))
    run = await here.run_of(here.item("agent:coder"))
    await here.until(run, "completed", "failed")
    row = await here.db.fetchrow("SELECT traceparent FROM deliveries WHERE run_ids ? $1", run)
    assert row is not None
    trace = int(row["traceparent"].split("-")[1], 16)

    names = {span.name for span in spans.get_finished_spans() if _trace_of(span) == trace}
    assert "webhook received" in names
    takers = {name.partition(" takes ")[0] for name in names if " takes " in name}
    assert takers == {"webhook-receiver", "dispatcher", "policy", "executor", "result-publisher"}, names
    assert any("pull" in name for name in names), names


def _trace_of(span: ReadableSpan) -> int:
    context = span.context
    return context.trace_id if context else 0
