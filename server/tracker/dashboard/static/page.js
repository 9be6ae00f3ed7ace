// Updates the dashboard: polls for a snapshot every two seconds while the page is visible. The tracker renders and
// escapes all HTML; this script only replaces what has changed.
"use strict";
(() => {
  const POLL_INTERVAL = 2000;
  const SPANS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const parts = document.querySelectorAll("[data-part]");
  const pulse = document.getElementById("pulse");
  const search = document.getElementById("match");
  const singleCopy = new URLSearchParams(location.search).get("only") === "single-copy";
  const tags = new Map();
  let etag = "";
  let clock = null;
  let timer = 0;
  let polls = 0;
  let highlighted = null;

  const duration = (seconds) => {
    const [length, unit] = SPANS.find(([length]) => seconds >= length) || [1, "s"];
    return `${Math.max(0, Math.floor(seconds / length))} ${unit}`;
  };

  // The tracker's clock at the last response, plus the time since; the browser's own clock may be wrong.
  const now = () => clock.server + (performance.now() - clock.at) / 1000;

  const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  const showAges = (root) => {
    if (!clock) return;
    const time = now();
    for (const each of root.querySelectorAll("time[data-at]")) {
      const seconds = time - Number(each.dataset.at);
      setText(each, seconds < 2 ? "now" : `${duration(seconds)} ago`);
    }
    for (const each of root.querySelectorAll("time[data-since]")) setText(each, duration(time - Number(each.dataset.since)));
  };

  const showState = (kind, text) => {
    pulse.className = `pulse ${kind}`;
    setText(pulse.firstElementChild, text);
  };

  // Makes `old` equal to `fresh` and changes only the differences, so that focus, selection and scrolling stay.
  const morph = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
    if (old.nodeType !== Node.ELEMENT_NODE) { old.nodeValue = fresh.nodeValue; return; }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    morphChildren(old, fresh);
  };

  const morphChildren = (old, fresh) => {
    const known = new Map();
    for (const child of old.children) if (child.dataset.key) known.set(child.dataset.key, child);
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const key = child.nodeType === Node.ELEMENT_NODE ? child.dataset.key : undefined;
      const same = key ? known.get(key) : place && !(place.dataset && place.dataset.key) && place.nodeName === child.nodeName ? place : null;
      if (!same) {
        if (key && known.size && child.nodeName !== "path") child.classList.add("fresh-row");
        old.insertBefore(child, place);
        continue;
      }
      if (same === place) place = place.nextSibling; else old.insertBefore(same, place);
      morph(same, child);
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  };

  const show = (part, html) => {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    showAges(fresh.content);
    morphChildren(part, fresh.content);
  };

  const poll = async () => {
    clearTimeout(timer);
    const turn = ++polls;
    const query = new URLSearchParams({ match: search.value.trim(), have: [...tags.values()].join(",") });
    if (singleCopy) query.set("only", "single-copy");
    try {
      const headers = etag ? { "If-None-Match": etag } : {};
      const response = await fetch(`page/snapshot?${query}`, { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (turn !== polls) return;
      if (response.status === 401) { location.reload(); return; }
      if (response.status !== 200 && response.status !== 304) throw new Error(String(response.status));
      const body = response.status === 200 ? await response.json() : null;
      if (turn !== polls) return;
      clock = { server: Number(response.headers.get("Server-Time")), at: performance.now() };
      if (body) {
        etag = response.headers.get("ETag");
        for (const part of parts) {
          const { tag, html } = body.parts[part.dataset.part];
          if (html === undefined) continue;
          tags.set(part.dataset.part, tag);
          show(part, html);
        }
        highlight();
      }
      showState("live", "live");
    } catch (error) {
      if (turn !== polls) return;
      showState("lost", "tracker unreachable; retrying");
    }
    if (!document.hidden) timer = setTimeout(poll, POLL_INTERVAL);
  };

  // Highlights in the graph what the pointer is on: the holders of a file, or a peer with its transfers.
  const highlight = () => {
    const ring = document.querySelector(".ring");
    if (!ring) return;
    const row = highlighted && highlighted.isConnected ? highlighted : null;
    const holders = row && row.dataset.holders !== undefined ? new Set(row.dataset.holders.split(",")) : null;
    const url = row && row.dataset.url;
    ring.classList.toggle("highlighted", Boolean(row));
    const near = new Set([url]);
    for (const arrow of ring.querySelectorAll(".arrow")) {
      const mine = Boolean(url) && (arrow.dataset.from === url || arrow.dataset.to === url);
      if (mine) near.add(arrow.dataset.from).add(arrow.dataset.to);
      arrow.classList.toggle("lit", mine);
    }
    for (const dot of ring.querySelectorAll(".dot")) {
      dot.classList.toggle("lit", Boolean(row) && (holders ? holders.has(dot.dataset.at) : near.has(dot.dataset.url)));
    }
  };

  document.addEventListener("pointerover", (event) => {
    const row = event.target.closest ? event.target.closest("tbody tr, .dot") : null;
    if (row !== highlighted) { highlighted = row; highlight(); }
  });

  let searchTimer = 0;
  search.addEventListener("input", () => {
    clearTimeout(searchTimer);
    searchTimer = setTimeout(() => {
      const query = new URLSearchParams(location.search);
      if (search.value.trim()) query.set("match", search.value.trim()); else query.delete("match");
      history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
      for (const link of document.querySelectorAll("nav a")) {
        const where = new URL(link.href);
        where.searchParams.set("match", search.value.trim());
        link.href = where.href;
      }
      poll();
    }, 120);
  });
  search.form.addEventListener("submit", (event) => { event.preventDefault(); poll(); });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(timer); showState("", "paused"); } else poll();
  });
  setInterval(() => { if (!document.hidden) showAges(document); }, 1000);
  poll();
})();
