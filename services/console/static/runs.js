import { copy, field, listen, put, putState, read, soon, tick } from "/static/shared.js";

const body = document.getElementById("runs");
const empty = document.getElementById("empty");
const agents = document.getElementById("agents");
const query = body.dataset.show === "live" ? "/v1/runs?limit=50&live=true" : "/v1/runs?limit=50";

function fill(row, run) {
  const before = row.dataset.run ? field(row, "state").dataset.state : null;
  row.dataset.run = run.id;
  putState(field(row, "state"), run.state);
  field(row, "link").href = `/runs/${run.id}`;
  put(row, "key", run.task.key);
  put(row, "title", run.task.title);
  put(row, "sentence", run.sentence);
  put(row, "agent", run.agent || run.role);
  put(row, "repository", run.repository || "");
  put(row, "short", run.short);
  field(row, "created").setAttribute("datetime", run.created_at);
  if (before !== run.state) {
    row.classList.remove("fresh");
    requestAnimationFrame(() => row.classList.add("fresh"));
  }
}

function showRuns(runs) {
  const rows = new Map([...body.children].map((row) => [row.dataset.run, row]));
  runs.forEach((run, index) => {
    const row = rows.get(run.id) || copy("run-row");
    rows.delete(run.id);
    fill(row, run);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] || null);
  });
  for (const row of rows.values()) row.remove();
  empty.hidden = runs.length > 0;
  tick(body);
}

function showAgents(list) {
  agents.replaceChildren(...list.map((agent) => {
    const card = copy("agent-card");
    card.dataset.agent = agent.name;
    put(card, "name", agent.display_name || agent.name);
    put(card, "role", agent.role);
    put(card, "slots", `${agent.in_use}/${agent.slots}`);
    put(card, "status", agent.status === "active" ? "" : agent.status);
    return card;
  }));
}

const refresh = soon(async () => {
  const [runs, list] = await Promise.all([read(query), read("/v1/agents")]);
  showRuns(runs.items);
  showAgents(list.items);
});

tick();
setInterval(tick, 1000);
listen("/v1/events", { fact: refresh, reset: refresh });
// What a fact leads to is written a moment after it was said; a slow look keeps the page true.
setInterval(refresh, 5000);
