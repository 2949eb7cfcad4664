// Draws /api/v1/status and the latest deliveries, once a second while the page is looked at.
// Everything from outside goes in as text, never as markup.
"use strict";

const at = (id) => document.getElementById(id);

function cell(row, text, kind = "", tag = "td") {
  const made = document.createElement(tag);
  made.textContent = text ?? "";
  made.className = kind;
  row.append(made);
  return made;
}

function table(id, heads, rows, empty) {
  const head = document.createElement("tr");
  for (const [text, kind] of heads) cell(head, text, kind, "th");
  const body = rows.map((cells) => {
    const row = document.createElement("tr");
    for (const [text, kind] of cells) cell(row, text, kind);
    return row;
  });
  if (!rows.length) {
    const row = document.createElement("tr");
    cell(row, empty, "quiet").colSpan = heads.length;
    body.push(row);
  }
  at(id).replaceChildren(head, ...body);
}

const clock = (text) => (text ? new Date(text).toLocaleTimeString([], { hour12: false }) : "");

function span(from, to) {
  if (!from || !to) return "";
  const seconds = (new Date(to) - new Date(from)) / 1000;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

function drawStatus(status) {
  at("instance").textContent = `${status.instance} · ${status.version}`;
  at("ready").textContent = status.ready ? "ready" : "not ready";
  at("ready").className = status.ready ? "good" : "bad";
  const reasons = Object.entries(status.reasons);
  at("reasons").hidden = !reasons.length;
  at("reasons").replaceChildren(
    ...reasons.map(([part, why]) => {
      const line = document.createElement("li");
      line.textContent = `${part}: ${why}`;
      return line;
    }),
  );
  table(
    "sources",
    [["source"], ["kind"], ["state"], ["accepted", "number"], ["last error"]],
    Object.entries(status.sources).map(([name, source]) => [
      [name],
      [source.kind],
      [
        source.again_at ? `${source.state}, again at ${clock(source.again_at * 1000)}` : source.state,
        source.state === "connected" ? "good" : "bad",
      ],
      [source.accepted, "number"],
      [source.error || source.last_error, source.error ? "bad" : "quiet"],
    ]),
    "no source is configured",
  );
  const paused = status.journal.paused;
  const states = ["queued", "submitting", "running", "succeeded", "dead"];
  table(
    "routes",
    [["route"], ["runs"], ["state"], ...states.map((state) => [state, "number"])],
    Object.entries(status.routes).map(([name, route]) => [
      [name],
      [route.run],
      name in paused
        ? [`paused since ${new Date(paused[name] * 1000).toLocaleString([], { hour12: false })}`, "bad"]
        : route.fallback && route.fallback.fallen_back_for !== null
          ? [`falls back to ${route.fallback.run}`, "bad"]
          : route.waits
            ? [route.waits, "bad"]
            : ["going", "good"],
      ...states.map((state) => [
        ((status.journal.deliveries[name] ?? {})[state] ?? 0) +
          (state === "running" && route.suspended ? ` (${route.suspended} suspended)` : ""),
        state === "dead" && (status.journal.deliveries[name] ?? {}).dead ? "number bad" : "number",
      ]),
    ]),
    "no route is configured",
  );
  const meter = document.createElement("meter");
  meter.max = status.limits.max_events;
  meter.high = status.limits.max_events * status.limits.resume_at;
  meter.value = status.journal.events;
  at("journal").replaceChildren(
    meter,
    ` ${status.journal.events.toLocaleString()} of ${status.limits.max_events.toLocaleString()} events, ` +
      `${(status.journal.bytes / 1048576).toFixed(1)} of ${(status.limits.max_bytes / 1048576).toFixed(0)} MiB, ` +
      `${status.journal.duplicates} seen again and left out, log ${(status.journal.log_bytes / 1048576).toFixed(0)} MiB`,
  );
}

function drawDeliveries(deliveries) {
  table(
    "deliveries",
    [["accepted"], ["route"], ["subject"], ["state"], ["queue", "number"], ["run", "number"], ["why"]],
    deliveries.map((item) => [
      [clock(item.accepted), "time"],
      [item.route],
      [item.subject],
      [
        item.attempt > 1 ? `${item.state} (attempt ${item.attempt})` : item.state,
        { succeeded: "good", dead: "bad" }[item.state] ?? "",
      ],
      [span(item.accepted, item.submitted), "number"],
      [span(item.outcome?.started ?? item.submitted, item.outcome?.ended ?? item.settled), "number"],
      [[item.note, item.outcome?.reason, item.outcome?.message].filter(Boolean).join(" · ")],
    ]),
    "nothing yet",
  );
}

async function draw() {
  try {
    const [status, list] = await Promise.all(
      ["/api/v1/status", "/api/v1/deliveries?limit=25"].map(async (path) => (await fetch(path)).json()),
    );
    drawStatus(status);
    drawDeliveries(list.deliveries);
  } catch {
    at("ready").textContent = "the daemon does not answer";
    at("ready").className = "bad";
  }
}

async function keepDrawing() {
  if (!document.hidden) await draw();
  setTimeout(keepDrawing, 1000);
}
keepDrawing();
