"use strict";
// Draws /status.json each second. What an event says is only ever set as text: channels are not trusted.
const svgNamespace = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

// el makes an element: el("td.n", "text", child, …). Strings become text nodes.
function el(kind, ...children) {
  const [name, ...classes] = kind.split(".");
  const e = document.createElement(name);
  if (classes.length) e.className = classes.join(" ");
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

function show(id, ...children) { byId(id).replaceChildren(...children); }

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const per = (n) => (n >= 100 ? whole : tenth).format(n);
const compact = (n) => (Math.abs(n) < 10000 ? whole : short).format(n);

// spark draws values (null: a gap) as a curve from left to right, the newest at the right edge.
function spark(values, title, limit) {
  const length = 120, height = 32;
  const top = Math.max(1, limit ? limit * 1.2 : 0, ...values.map((v) => v ?? 0)) * 1.08;
  const at = (v) => (height - (v / top) * height).toFixed(2);
  const start = length - values.length;
  let line = "", area = "", from = null, last = null;
  const close = () => { if (from !== null) area += `L${last} ${height}L${from} ${height}Z`; from = null; };
  values.forEach((v, i) => {
    if (v === null) { close(); return; }
    const point = `${start + i} ${at(v)}`;
    line += (from === null ? "M" : "L") + point;
    area += (from === null ? "M" : "L") + point;
    from ??= start + i;
    last = start + i;
  });
  close();
  const svg = document.createElementNS(svgNamespace, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${length - 1} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", title);
  const path = (kind, d) => {
    const p = document.createElementNS(svgNamespace, "path");
    p.setAttribute("class", kind);
    p.setAttribute("d", d);
    svg.append(p);
  };
  path("area", area);
  if (limit) path("limit", `M0 ${at(limit)}L${length - 1} ${at(limit)}`);
  path("line", line);
  return svg;
}

const rateNames = {
  events_in: ["Events in", "events/s"], decided: ["Decided", "decisions/s"],
  posted: ["Posted to the ledger", "decisions/s"], rows: ["Rows into ClickHouse", "rows/s"],
};

function drawRates(rates) {
  show("rates", ...rates.map((r) => {
    const [name, unit] = rateNames[r.name] ?? [r.name, "/s"];
    const tile = el("div.tile", el("div.name", name));
    if (r.per_second === null) {
      tile.append(el("div.big", "–"), el("div.quiet", "not in this process"), spark([], name));
      return tile;
    }
    tile.append(el("div.big", per(r.per_second), " ", el("small", unit)), el("div.quiet", compact(r.total) + " since the start"),
      spark(r.history, name + ", last two minutes"));
    tile.title = r.by.map((c) => `${c.name}: ${whole.format(c.total)}`).join("\n");
    return tile;
  }));
}

const latencyBudget = 50; // milliseconds at p99

function drawLatency(l) {
  if (l.p50_ms === null) {
    show("latency", el("p.quiet", l.p99_ms_history.length ? "No decision in the last minute." : "This process decides nothing."));
    return;
  }
  const figure = (name, value, above) => {
    const big = el("div.big", (above ? "> " : "") + tenth.format(value), " ", el("small", "ms"));
    if (name === "p99" && value > latencyBudget) big.classList.add("bad");
    return el("div", el("div.quiet", name), big);
  };
  const recent = Math.max(0, ...l.p99_ms_history);
  show("latency", el("div.pair", figure("p50", l.p50_ms, false), figure("p99", l.p99_ms, l.above)),
    spark(l.p99_ms_history, "p99, last two minutes", recent > latencyBudget / 4 ? latencyBudget : 0),
    el("div.quiet", `from Kafka to committed verdict; curve: p99, budget ${latencyBudget} ms`));
}

const asked = ["approve", "review", "decline"];

// drawVerdicts shows the mix among the events that asked for a verdict; the others would hide it.
function drawVerdicts(verdicts) {
  const all = verdicts.reduce((n, v) => n + v.minute, 0), answers = verdicts.filter((v) => asked.includes(v.name));
  const sum = answers.reduce((n, v) => n + v.minute, 0);
  if (!all) { show("verdicts", el("p.quiet", "No decision in the last minute.")); return; }
  const percent = (n, of) => { const p = (100 * n) / (of || 1); return (p >= 10 ? p.toFixed(0) : p.toFixed(2)) + " %"; };
  const bar = el("div.bar"), legend = el("div.legend"), others = el("div.legend.quiet");
  bar.setAttribute("role", "img");
  for (const v of verdicts) {
    const answer = answers.includes(v);
    if (answer && v.minute) {
      const piece = el("i." + verdictClass(v.name));
      piece.style.width = (100 * v.minute) / sum + "%";
      bar.append(piece);
    }
    const entry = el("span", el("i.dot." + verdictClass(v.name)), `${v.name} ${percent(v.minute, answer ? sum : all)}`);
    entry.title = `${whole.format(v.minute)} in the last minute, ${whole.format(v.total)} since the start`;
    (answer ? legend : others).append(entry);
  }
  if (others.children.length) others.append("of all events");
  bar.setAttribute("aria-label", legend.textContent);
  show("verdicts", bar, legend, others);
}

// verdictClass returns the style class of a verdict; an unknown word gets none of its own.
function verdictClass(verdict) {
  return ["observed", "approve", "review", "decline", "duplicate"].includes(verdict) ? verdict : "none";
}

function drawLag(lags) {
  if (!lags.length) { show("lag", el("p.quiet", "No part of this process consumes yet.")); return; }
  const grid = el("div.lag");
  for (const l of lags) {
    const name = el("span", l.part);
    name.title = l.topics.map((t) => `${t.name}: ${whole.format(t.total)}`).join("\n");
    grid.append(name, spark(l.history, l.part + " lag, last two minutes"), el("span.n", compact(l.records)));
  }
  show("lag", grid);
}

function drawCounts(id, counts, none) {
  if (!counts.length) { show(id, el("p.quiet", none)); return; }
  const grid = el("div.rows", el("span.head", ""), el("span.head.n", "last minute"), el("span.head.n", "in all"));
  for (const c of counts.slice(0, 8)) {
    const name = el("span.cut", c.name);
    name.title = c.name;
    grid.append(name, el("span.n", compact(c.minute)), el("span.n", compact(c.total)));
  }
  if (counts.length > 8) grid.append(el("span.quiet", `and ${counts.length - 8} more`));
  show(id, grid);
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

let listed = ""; // ids drawn, so that a table that has not changed keeps its selection
let hovering = false;
const hovers = matchMedia("(hover: hover)").matches;
byId("decisions").addEventListener("pointerenter", () => { hovering = hovers; });
byId("decisions").addEventListener("pointerleave", () => { hovering = false; });

function drawDecisions(list) {
  byId("listed").textContent = hovering ? "held while the pointer is on them" : "those that hit a rule, and a sample of the others";
  if (!list.length) { show("decisions", el("p.quiet", "No payment or loan decided yet.")); return; }
  const ids = list.map((d) => d.id).join();
  if (hovering || ids === listed) return;
  listed = ids;
  const head = el("tr", ...["happened", "customer", "kind"].map((t) => el("th", t)), el("th.n", "amount"), el("th", "verdict"),
    el("th.n", "score"), el("th", "rules hit"), el("th", "decision"));
  show("decisions", el("table", el("thead", head), el("tbody", ...list.map(decisionRow))));
}

// grouped puts a thin space between thousands of a decimal string; it never becomes a number, which could not hold it.
function grouped(amount) {
  const [units, decimals] = amount.split(".");
  return units.replace(/\B(?=(\d{3})+$)/g, "\u202f") + (decimals ? "." + decimals : "");
}

function decisionRow(d) {
  const time = new Date(d.time), old = Math.abs(new Date(d.decided) - time) > 12 * 3600e3;
  const when = el("td.when", (old ? day : clock).format(time));
  when.title = `happened ${d.time}\ndecided ${d.decided}`;
  const customer = el("td.customer", d.customer, d.tier ? el("span.quiet", " " + d.tier) : null);
  const kind = el("td.kind", d.kind);
  kind.title = "channel " + d.channel;
  const hits = el("td.hits", ...d.hits.map((h) => {
    const line = el("div.hit", el("b", h.rule), ` +${h.score} `, el("span", [h.reason, h.say].filter(Boolean).join(": ")));
    return line;
  }));
  const id = el("td.id.mono.quiet", d.id);
  id.title = "decided by ruleset " + (d.ruleset || "none");
  return el("tr", when, customer, kind, el("td.n.amount", d.amount ? `${grouped(d.amount)} ${d.currency}` : ""),
    el("td.verdict", el("span.tag." + verdictClass(d.verdict), d.verdict)), el("td.n.score", String(d.score)), hits, id);
}

let linked = "";

function drawLinks(links) {
  const now = JSON.stringify(links);
  if (now === linked) return;
  linked = now;
  if (!links.length) { show("links", el("p.quiet", "None given.")); return; }
  show("links", el("div.links", ...links.map((l) => {
    const address = l.open ? el("a.mono", l.url) : el("span.mono", l.url);
    if (l.open) { address.href = l.url; address.rel = "noreferrer"; }
    const block = el("div.link", el("h3", l.name, " ", address), l.note ? el("div.quiet", l.note) : null);
    for (const t of l.try) {
      const code = el("code", t.text), copy = el("button", "copy");
      copy.type = "button";
      copy.addEventListener("click", () => copyText(t.text, code, copy));
      block.append(el("div.try", el("span.quiet", t.say), code, copy));
    }
    return block;
  })));
}

async function copyText(text, code, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch { // no clipboard outside localhost and https: mark it for Ctrl-C
    getSelection().selectAllChildren(code);
    button.textContent = "Ctrl-C";
  }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

function drawState(s) {
  document.title = s.title;
  byId("title").textContent = s.title;
  const failed = s.parts.filter((p) => p.failed), waiting = s.parts.filter((p) => !p.ready && !p.failed);
  const state = byId("state");
  state.className = "pill " + (failed.length ? "bad" : waiting.length ? "wait" : "good");
  state.textContent = failed.length ? "failed" : waiting.length ? "starting" : "ready";
  const up = (new Date(s.now) - new Date(s.started)) / 1000;
  const facts = ["up " + span(up)];
  if (s.parts.length) facts.push(s.parts.map((p) => p.name).join(", "));
  if (s.rulesets.length) facts.push("rules " + s.rulesets.join(", "));
  if (s.entities !== null) facts.push(compact(s.entities) + " entities in memory");
  byId("facts").textContent = facts.join(" · ");
  alarm([...failed, ...waiting].map((p) => `${p.name}: ${p.why}`).join("\n"));
}

function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return s + " s";
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function alarm(text) {
  const box = byId("alarm");
  if (box.textContent !== text) box.textContent = text;
  box.hidden = !text;
}

let answered = null;

async function refresh() {
  try {
    const response = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    const s = await response.json();
    answered = new Date();
    drawState(s);
    drawRates(s.rates);
    drawLatency(s.latency);
    drawVerdicts(s.verdicts);
    drawLag(s.lag);
    drawCounts("rules", s.rules, "None fired.");
    drawCounts("rejections", s.rejections, "Nothing refused.");
    drawCounts("dead", s.dead_letters, "None.");
    drawCounts("restarts", s.restarts, "None.");
    drawDecisions(s.decisions);
    drawLinks(s.links);
  } catch (e) {
    byId("state").className = "pill bad";
    byId("state").textContent = "no answer";
    alarm(`The process does not answer${answered ? " since " + clock.format(answered) : ""} (${e.message}). It stopped or cannot be reached; this page asks again each second.`);
  }
}

async function loop() {
  if (!document.hidden) await refresh();
  setTimeout(loop, 1000);
}
loop();
