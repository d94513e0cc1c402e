// One small plot for each check and modality: value, threshold, and a shape on each window that is not ok.
"use strict";

const charts = (() => {
  const HEIGHT = 132;
  const ORDER = ["image", "text", "audio", "video", "tabular", "fused"];
  const place = document.getElementById("charts");
  const drawn = new Map();

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const two = (n) => String(n).padStart(2, "0");

  function clock(seconds, withSeconds) {
    const at = new Date(seconds * 1000);
    const text = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
    return withSeconds ? `${text}:${two(at.getUTCSeconds())}` : text;
  }

  function tick(seconds, step) {
    const at = new Date(seconds * 1000);
    const midnight = at.getUTCHours() === 0 && at.getUTCMinutes() === 0;
    if (step >= 86400 || midnight) return `${at.getUTCDate()} ${at.toLocaleString("en", { month: "short", timeZone: "UTC" })}`;
    return clock(seconds, step < 60);
  }

  function figure(value, words) {
    if (value === null || value === undefined) return "—";
    if (words.style === "share") {
      if (value === 0 || value === 1) return `${value * 100}%`;
      return `${Math.min(99.9, Math.max(0.1, value * 100)).toFixed(1)}%`;
    }
    return Math.abs(value) >= 1000 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
  }

  // A shape and a word as well as a colour.
  function marks(plot, verdicts) {
    const { ctx } = plot;
    const size = 3.6 * devicePixelRatio;
    ctx.save();
    ctx.setLineDash([]);
    ctx.lineWidth = 1.4 * devicePixelRatio;
    let ringed = -Infinity;
    verdicts.forEach((verdict, i) => {
      if (verdict === "ok") return;
      const value = plot.data[1][i];
      const x = plot.valToPos(plot.data[0][i], "x", true);
      // without a value it lies on the ground
      const y = value === null ? plot.bbox.top + plot.bbox.height - size : plot.valToPos(value, "y", true);
      if (verdict !== "drift" && x - ringed < size * 2.4) return;  // rings need room to be seen as rings
      if (verdict !== "drift") ringed = x;
      ctx.beginPath();
      if (verdict === "drift") {
        ctx.fillStyle = style("--bad");
        ctx.moveTo(x, y - size * 1.25); ctx.lineTo(x + size * 1.25, y); ctx.lineTo(x, y + size * 1.25); ctx.lineTo(x - size * 1.25, y);
        ctx.fill();
      } else {
        ctx.strokeStyle = style("--unsure");
        ctx.fillStyle = style("--ground");
        ctx.arc(x, y, size * 0.8, 0, 2 * Math.PI);
        ctx.fill(); ctx.stroke();
      }
    });
    ctx.restore();
  }

  // Some air around the values; none below nought, nor above 100%.
  function range(low, high, words) {
    if (low === null) return [0, 1];
    const span = high - low || Math.abs(high) || 1;
    const top = high + span * 0.18;
    return [low >= 0 ? Math.max(0, low - span * 0.15) : low - span * 0.15, words.style === "share" && high <= 1 ? Math.min(1.001, top) : top];
  }

  function ticks(values, words) {
    if (words.style !== "share") return values.map((value) => figure(value, words));
    const step = values.length > 1 ? values[1] - values[0] : 1;
    return values.map((value) => `${(value * 100).toFixed(step >= 0.0099 ? 0 : 1)}%`);
  }

  function options(one) {
    const axis = { stroke: style("--faint"), font: "11px system-ui, sans-serif", grid: { stroke: style("--grid"), width: 1 }, ticks: { show: false } };
    return {
      width: one.node.querySelector(".plot").clientWidth, height: HEIGHT, legend: { show: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      scales: { x: { time: true, range: () => one.span }, y: { range: (_p, low, high) => range(low, high, one.words) } },
      axes: [
        { ...axis, size: 24, space: 56, grid: { show: false }, values: (_p, at, _i, _s, step) => at.map((each) => tick(each, step)) },
        { ...axis, size: 46, space: 34, values: (_p, values) => ticks(values, one.words) },
      ],
      series: [
        {},
        { stroke: style("--line"), width: 1.8, points: { show: false }, spanGaps: false },
        { stroke: style("--faint"), width: 1.2, dash: [5, 4], points: { show: false }, spanGaps: true },
      ],
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 }, sync: { key: "drift", setSeries: false } },
      hooks: { draw: [(plot) => marks(plot, one.verdicts)], setCursor: [(plot) => describe(one, plot.cursor.idx)] },
    };
  }

  // What is under the pointer, or else the newest window, in words.
  function describe(one, index) {
    const points = one.points;
    const at = index === null || index === undefined ? points.length - 1 : index;
    const point = points[at];
    const when = index === null || index === undefined ? "" : ` at ${clock(one.data[0][at], true)}`;
    const limit = point.threshold === null ? "" : `, threshold ${figure(point.threshold, one.words)}`;
    const verdict = index === null || index === undefined ? "" : `: ${one.sign(point.verdict).word}`;
    one.node.querySelector(".now").textContent = `${figure(point.value, one.words)}${limit}${when}${verdict}`;
  }

  function node(series) {
    const made = document.createElement("article");
    made.className = "chart";
    made.innerHTML = '<header><h3><a></a></h3><span class="sign"><svg class="shape" aria-hidden="true"><use></use></svg><span></span></span></header><p class="now"></p><div class="plot" role="img"></div>';
    made.dataset.key = `${series.detector} ${series.modality}`;
    return made;
  }

  function update(one, series, words, span) {
    const stale = one.words && one.points.length ? one.points[one.points.length - 1].at : null;
    one.points = series.points;
    one.words = words.detectors[series.detector] || { name: series.detector.replaceAll("_", " "), unit: "", style: "number" };
    one.sign = (verdict) => words.verdicts[`${verdict}:${series.detector}`] || words.verdicts[verdict];
    one.verdicts = series.points.map((point) => point.verdict);
    one.span = span;
    one.data = [series.points.map((p) => Date.parse(p.at) / 1000), series.points.map((p) => p.value), series.points.map((p) => p.threshold)];
    const last = series.points[series.points.length - 1];
    const sign = one.sign(last.verdict);
    const name = one.node.querySelector("h3 a");
    name.textContent = `${one.title}: ${one.words.name.toLowerCase()}`;
    name.title = one.words.unit;
    name.href = `/findings/${last.finding_id}`;
    one.node.querySelector(".sign").className = `sign ${sign.tone}`;
    one.node.querySelector("use").setAttribute("href", `#${sign.shape}`);
    one.node.querySelector(".sign span").textContent = sign.word;
    const bad = one.verdicts.filter((verdict) => verdict === "drift").length;
    one.node.querySelector(".plot").setAttribute("aria-label",
      `${one.words.name} of ${series.modality}, ${one.words.unit}: newest ${figure(last.value, one.words)}, ${sign.word}; ${bad} of ${series.points.length} windows out of bounds`);
    if (one.plot && stale !== last.at) one.plot.setData(one.data);
    else if (one.plot) one.plot.redraw(true, false);
    if (!one.plot || one.plot.cursor.idx === null || one.plot.cursor.idx === undefined) describe(one, null);
  }

  function rank(modality) {
    const at = ORDER.indexOf(modality);
    return at < 0 ? ORDER.length : at;
  }

  function lay(all, words) {
    for (const one of drawn.values()) one.plot?.destroy();
    drawn.clear();
    place.replaceChildren();
    const names = [...new Set(all.map((series) => series.modality))].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
    for (const name of names) {
      for (const series of all.filter((each) => each.modality === name)) {
        const one = { node: node(series), points: [], title: words.modalities[name] || name.charAt(0).toUpperCase() + name.slice(1) };
        place.append(one.node);
        drawn.set(one.node.dataset.key, one);
      }
    }
  }

  // A click leads to the finding under the pointer; by keyboard the tables of windows lead there.
  function plotted(one) {
    const plot = new uPlot(options(one), one.data, one.node.querySelector(".plot"));
    plot.over.addEventListener("click", () => {
      const point = one.points[plot.cursor.idx];
      if (point) location.href = `/findings/${point.finding_id}`;
    });
    return plot;
  }

  function redraw(all, words, span) {
    for (const series of all) {
      const one = drawn.get(`${series.detector} ${series.modality}`);
      update(one, series, words, span);
      if (!one.plot) one.plot = plotted(one);
    }
  }

  // Draw all series, over the minutes that end at `now` (seconds).
  function show(series, words, minutes, now) {
    const all = series.filter((each) => each.points.some((point) => point.value !== null));
    const keys = all.map((each) => `${each.detector} ${each.modality}`);
    place.removeAttribute("aria-busy");
    if (!all.length) {
      lay([], words);
      place.append(document.getElementById("charts-empty").content.cloneNode(true));
      return;
    }
    if (keys.length !== drawn.size || keys.some((key) => !drawn.has(key))) lay(all, words);
    redraw(all, words, [now - minutes * 60, now]);
  }

  function resize() {
    for (const one of drawn.values()) one.plot?.setSize({ width: one.node.querySelector(".plot").clientWidth, height: HEIGHT });
  }

  // Colours are read when a plot is made: make them anew.
  function repaint() {
    for (const one of drawn.values()) {
      one.plot?.destroy();
      one.plot = plotted(one);
    }
  }

  let waiting = 0;
  addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(resize); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  return { show };
})();
