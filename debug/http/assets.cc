// The style sheet and the script of the pages, as they are sent.
#include "absl/strings/string_view.h"
#include "debug/http/page.h"

namespace weft::debug::internal {

const absl::string_view kStyle = R"css(:root {
  color-scheme: light dark;
  --back: #fbfbfa; --card: #fff; --text: #1d2126; --dim: #5d6670; --line: #d9dde1;
  --accent: #1a5fb4; --bar: #9bbde6; --warn: #a33b00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #15181c; --card: #1d2227; --text: #e4e7ea; --dim: #98a2ac; --line: #343b42;
    --accent: #8ab8f0; --bar: #35557c; --warn: #ffab7a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
a { color: var(--accent); }
nav {
  display: flex; flex-wrap: wrap; gap: 0 4px; padding: 4px 12px;
  background: var(--card); border-bottom: 1px solid var(--line);
}
nav a { padding: 8px; text-decoration: none; border-radius: 6px; }
nav a.home { font-weight: 600; color: var(--text); }
nav a[aria-current] { background: var(--bar); color: var(--text); }
main { max-width: 1100px; margin: 0 auto; padding: 12px 16px 40px; }
h1 { font-size: 22px; margin: 8px 0; }
h2 { font-size: 17px; margin: 24px 0 8px; }
p { margin: 8px 0; }
.dim { color: var(--dim); }
code, pre, .mono { font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
pre {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px;
  overflow-x: auto; overflow-wrap: normal; margin: 8px 0;
}
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; margin: 8px 0; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 5px 10px; text-align: left; border-top: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal; }
thead th { border-top: 0; color: var(--dim); font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 400; }
td.mono { overflow-wrap: anywhere; min-width: 140px; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
form { display: flex; flex-wrap: wrap; gap: 8px; margin: 10px 0; }
input, select, button {
  font: inherit; color: var(--text); background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; padding: 7px 10px;
}
input[type=search] { flex: 1 1 200px; min-width: 0; }
button { cursor: pointer; }
details {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; margin: 8px 0;
}
summary { padding: 9px 12px; cursor: pointer; }
summary b { font-variant-numeric: tabular-nums; }
.state { display: inline-block; padding: 0 8px; border-radius: 9px; background: var(--bar); }
.minutes { color: var(--warn); }
.stack { margin: 0; padding: 4px 12px 10px 12px; list-style: none; }
.stack li { padding: 2px 0; }
.place { display: block; color: var(--dim); font-size: 12px; padding-left: 16px; }
.ids { padding: 0 12px 10px; margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr));
  gap: 10px; margin: 10px 0; }
.chart { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 8px 10px; }
.chart h3 { margin: 0; font-size: 13px; font-weight: 500; color: var(--dim); }
.chart .now { font-size: 22px; font-variant-numeric: tabular-nums; }
.chart svg { display: block; width: 100%; height: 54px; }
.chart .range { float: right; font-size: 12px; color: var(--dim); padding-top: 10px; }
polyline { fill: none; stroke: var(--accent); stroke-width: 1.5; }
polygon { fill: var(--bar); opacity: 0.5; stroke: none; }
meter { width: 100%; min-width: 60px; height: 12px; }
#lines { height: 240px; overflow-y: auto; }
)css";

// It asks for a sample each second and draws the last 120; it writes text alone into the page,
// never markup.
const absl::string_view kScript = R"js('use strict';
(() => {
  const charts = document.getElementById('charts');
  if (!charts) return;
  const kept = 120;
  const button = document.getElementById('pause');
  const lines = document.getElementById('lines');
  const status = document.getElementById('status');
  const series = new Map();
  for (const chart of charts.querySelectorAll('.chart')) {
    series.set(chart.dataset.name, {chart, values: []});
  }
  let paused = false;
  button.hidden = false;
  button.addEventListener('click', () => {
    paused = !paused;
    button.textContent = paused ? 'Go on' : 'Pause';
  });

  function draw({chart, values}) {
    const most = Math.max(1, ...values);
    const points = values.map((value, i) =>
        (300 * (kept - values.length + i) / (kept - 1)).toFixed(1) + ',' +
        (52 - 48 * value / most).toFixed(1));
    const left = (300 * (kept - values.length) / (kept - 1)).toFixed(1);
    chart.querySelector('polyline').setAttribute('points', points.join(' '));
    chart.querySelector('polygon').setAttribute(
        'points', left + ',54 ' + points.join(' ') + ' 300,54');
    chart.querySelector('.now').textContent = values[values.length - 1];
    chart.querySelector('.range').textContent = 'max ' + Math.max(...values);
  }

  function fill(body, rows) {
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((row, i) => {
      const line = body.rows[i] || body.insertRow();
      row.forEach((text, j) => {
        const cell = line.cells[j] || line.insertCell();
        cell.className = 'number';
        if (cell.textContent !== String(text)) cell.textContent = text;
      });
    });
  }

  const states = ['idle', 'running', 'blocking', 'stopped'];
  async function sample() {
    if (paused || document.hidden) return;
    try {
      const answer = await fetch('/debug/sched.json', {cache: 'no-store'});
      if (!answer.ok) throw new Error('status ' + answer.status);
      const data = await answer.json();
      for (const [name, one] of series) {
        one.values.push(data[name]);
        if (one.values.length > kept) one.values.shift();
        draw(one);
      }
      fill(document.getElementById('procs'), data.procs.map((p) => [
        p.id, states[p.status] || p.status, p.m < 0 ? '' : p.m, p.runqsize, p.schedtick,
        p.syscalltick, p.timers]));
      const text = (lines.textContent + data.line).split('\n').slice(-kept - 1).join('\n');
      const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 20;
      lines.textContent = text;
      if (atEnd) lines.scrollTop = lines.scrollHeight;
      status.textContent = '';
    } catch (error) {
      status.textContent = 'The program does not answer (' + error.message + ').';
    }
  }
  async function follow() {
    await sample();
    setTimeout(follow, 1000);
  }
  follow();
})();
)js";

}  // namespace weft::debug::internal
