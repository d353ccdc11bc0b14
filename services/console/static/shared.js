// What both pages share. Text from outside goes through textContent only.
const words = (state) => state.replaceAll("_", " ");

export function age(iso) {
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function clock(iso) {
  return new Date(iso).toLocaleTimeString([], { hour12: false });
}

export function tick(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const iso = time.getAttribute("datetime");
    const text = "clock" in time.dataset ? clock(iso) : age(iso);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = new Date(iso).toString();
  }
}

export function field(root, name) {
  return root.querySelector(`[data-f="${name}"]`);
}

export function put(root, name, text) {
  const element = field(root, name);
  if (element && element.textContent !== text) element.textContent = text;
}

export function putState(element, state) {
  element.dataset.state = state;
  if (element.textContent !== words(state)) element.textContent = words(state);
}

export function copy(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function live(state, text) {
  const element = document.getElementById("live");
  element.dataset.live = state;
  if (element.textContent !== text) element.textContent = text;
}

export async function read(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (answer.status === 401) location.assign(`/login?back=${encodeURIComponent(location.pathname)}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// Calls work soon after the last of several wishes, and never twice at once.
export function soon(work, delay = 120) {
  let timer = null;
  let busy = false;
  let again = false;
  async function run() {
    timer = null;
    if (busy) { again = true; return; }
    busy = true;
    try { await work(); } catch (error) { console.warn(error); }
    busy = false;
    if (again) { again = false; wish(); }
  }
  function wish() { if (timer === null) timer = setTimeout(run, delay); }
  return wish;
}

// EventSource gives up when an answer is an error (a restart behind a proxy, too many viewers); this does not.
export function listen(address, handlers) {
  let source = null;
  let last = null;
  let done = false;
  function open() {
    const target = new URL(address, location.href);
    if (last) target.searchParams.set("last_event_id", last);
    source = new EventSource(target);
    source.onopen = () => live("on", "live");
    source.onerror = () => {
      live("lost", "reconnecting");
      if (!done && source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) last = event.lastEventId;
        handle(JSON.parse(event.data));
        if (name === "end") { done = true; source.close(); live("off", "ended"); }
      });
    }
  }
  open();
}
