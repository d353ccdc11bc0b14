import { clock, copy, field, listen, put, putState, read, soon, tick } from "/static/shared.js";

const article = document.getElementById("run");
const id = article.dataset.run;
const steps = document.getElementById("steps");
const log = document.getElementById("log");
const quiet = document.getElementById("quiet");
const MOST_LINES = 2000;

function show(name, visible) {
  const element = document.getElementById(name);
  if (element) element.hidden = !visible;
}

function text(name, value) {
  const element = document.getElementById(name);
  if (element.textContent !== value) element.textContent = value;
}

const safe = (url) => (/^https?:\/\//.test(url) || /^\/(?![/\\])/.test(url) ? url : "");

const refresh = soon(async () => {
  const [run, why] = await Promise.all([read(`/v1/runs/${id}`), read(`/v1/runs/${id}/why`)]);
  putState(document.getElementById("state"), run.state);
  text("agent", run.agent || "–");
  text("attempt", String(run.attempt || "–"));
  text("why", why.answer);
  text("next", why.next);
  text("summary", run.summary);
  text("files", String(run.files_changed));
  const waits = run.approvals.some((approval) => approval.state === "pending");
  show("approve", waits);
  show("deny", waits);
  show("cancel", !run.terminal);
  show("result", Boolean(run.pull) || run.files_changed > 0);
  show("pull", Boolean(run.pull));
  if (run.pull) {
    const link = document.getElementById("pull");
    link.href = safe(run.pull.url);
    link.textContent = `Pull request${run.pull.number ? ` #${run.pull.number}` : ""} · ${run.pull.branch}`;
  }
});

function addStep(step) {
  const item = copy("step-item");
  putState(field(item, "state"), step.to_state);
  put(item, "sentence", step.sentence);
  put(item, "next", step.next_action);
  field(item, "at").setAttribute("datetime", step.at);
  item.classList.add("fresh");
  steps.append(item);
  tick(item);
  refresh();
}

// A tool that takes one text is shown with that text; any other input as JSON.
function given(input) {
  const values = Object.values(input);
  return values.length === 1 && typeof values[0] === "string" ? values[0] : JSON.stringify(input, null, 1);
}

const KINDS = new Map(Object.entries({
  thinking: (event) => ["thinking", "", event.text],
  text: (event) => ["text", "", event.text],
  toolCall: (event) => ["call", event.tool, "", given(event.input ?? {})],
  toolResult: (event) => [event.ok ? "good" : "bad", event.ok ? "ok" : "failed", "", event.output || ""],
  usage: (event) => ["usage", "tokens", `${event.input_tokens} in, ${event.output_tokens} out`],
  question: (event) => ["question", "asks", event.text],
  error: (event) => ["bad", "error", event.text],
  sandboxViolation: (event) => ["bad", "sandbox", `${event.what}: ${event.text}`],
  done: (event) => [event.ok ? "good" : "bad", event.ok ? "done" : "gave up", event.summary || ""],
}));

function element(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content) made.textContent = content;
  return made;
}

function addEvent(line) {
  const [style, kind, words, block] = (KINDS.get(line.event.kind) ?? (() => ["", line.event.kind, ""]))(line.event);
  const item = element("li", style);
  const at = element("time", "", clock(line.at));
  const body = element("div", "body");
  if (kind) body.append(element("span", "kind", kind));
  if (words) body.append(words);
  if (block && block !== "{}") body.append(element("pre", "", block));
  item.append(at, body);
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
  log.append(item);
  while (log.children.length > MOST_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  quiet.hidden = true;
}

tick();
setInterval(tick, 1000);
listen(`/v1/runs/${id}/events?last_event_id=${article.dataset.lastStep}.-.0-0`, {
  step: addStep,
  agent: addEvent,
  reset: refresh,
  end: refresh,
});
