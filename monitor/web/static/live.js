// Keeps the page as it would be if it were loaded now: asks for it again and takes over the parts that changed.
"use strict";

(() => {
  const EVERY = 4000;
  const main = document.getElementById("main");
  const fresh = document.getElementById("fresh");
  const words = JSON.parse(document.getElementById("words").textContent);
  let serverAhead = Date.parse(main.dataset.now) - Date.now();
  let timer = 0;

  const serverNow = () => Date.now() + serverAhead;
  const place = document.getElementById("charts");

  function ago(from) {
    const seconds = Math.max(0, Math.floor((serverNow() - from) / 1000));
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
      if (seconds >= 2 * size || (seconds >= size && unit !== "d")) return `${Math.floor(seconds / size)} ${unit} ago`;
    }
    return `${seconds} s ago`;
  }

  function tellTimes() {
    for (const each of document.querySelectorAll("time[data-ago]")) {
      const text = ago(Date.parse(each.dateTime));
      if (each.textContent !== text) each.textContent = text;
    }
  }

  function state(name, text) {
    fresh.dataset.state = name;
    document.getElementById("fresh-text").textContent = text;
  }

  // Only what differs is replaced, so that focus, selection, open details and a screen reader's place stay as they are.
  function takeOver(page) {
    const text = (node) => node.innerHTML.replace(/(<time[^>]*data-ago[^>]*>)[^<]*/g, "$1");
    for (const old of document.querySelectorAll("[data-live]")) {
      const now = page.getElementById(old.id);
      if (!now) continue;
      for (const each of now.querySelectorAll("details[id]")) {
        each.open = document.getElementById(each.id)?.open ?? each.open;
      }
      if (text(now) === text(old)) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      old.replaceChildren(...now.childNodes);
      if (focused) old.querySelector(`a[href="${focused.replaceAll('"', "")}"]`)?.focus();
    }
    const hero = document.getElementById("hero");
    if (hero) hero.className = page.getElementById("hero").className;
    document.title = page.title;
    main.dataset.now = page.getElementById("main").dataset.now;
    serverAhead = Date.parse(main.dataset.now) - Date.now();
  }

  async function get(path) {
    const response = await fetch(path, { headers: { Accept: path.startsWith("/series") ? "application/json" : "text/html" }, signal: AbortSignal.timeout(10000) });
    if (!response.ok) throw new Error(`${path} answered ${response.status}`);
    return response;
  }

  async function drawCharts() {
    if (!place) return;
    const { series, minutes, until } = place.dataset;
    const ending = until ? `&until=${encodeURIComponent(until)}` : "";
    const found = await (await get(`${series}&minutes=${minutes}${ending}`)).json();
    charts.show(found, words, minutes, until ? Date.parse(until) / 1000 : serverNow() / 1000);
  }

  async function refresh() {
    clearTimeout(timer);
    if (document.hidden) { state("paused", "paused"); return; }
    try {
      const answer = await get(location.pathname + location.search);
      if (answer.redirected) { location.reload(); return; }  // the session is over: sign in again
      const html = await answer.text();
      takeOver(new DOMParser().parseFromString(html, "text/html"));
      await drawCharts();
      tellTimes();
      state("live", "live");
    } catch (error) {
      const seen = new Date(Date.parse(main.dataset.now));
      state("lost", `no connection; this is of ${seen.toISOString().slice(11, 19)} UTC`);
    }
    timer = setTimeout(refresh, EVERY);
  }

  // On a phone the tabs scroll: the one that is open must be seen.
  for (const each of document.querySelectorAll("nav [aria-current]")) {
    each.parentElement.scrollLeft = each.offsetLeft - (each.parentElement.clientWidth - each.offsetWidth) / 2;
  }
  document.addEventListener("visibilitychange", refresh);
  setInterval(tellTimes, 1000);
  drawCharts().catch(() => state("lost", "no connection")).finally(() => { timer = setTimeout(refresh, EVERY); });
})();
