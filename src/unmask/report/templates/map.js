"use strict";
// The map: places of images, drawn on one canvas from sprite sheets. No library, nothing from the network.
const data = JSON.parse(document.getElementById("data").textContent);
const sheets = [...document.querySelectorAll("img.sheet")];
const $ = (id) => document.getElementById(id);
const stage = $("stage"), canvas = $("map"), pen = canvas.getContext("2d"), card = $("card");
const count = data.names.length, names = data.names.map((name) => name.toLowerCase());
const order = data.names.map((_, i) => i).sort((a, b) => mixed(a) - mixed(b)); // no class lies on all others
const view = { scale: 1, left: 0, top: 0 }; // screen = place * scale + (left, top), in CSS pixels; places are 0 to 1
let width = 0, height = 0, facet = data.facets[0], hidden = new Set(), found = null, dots = false, under = -1, queued = false;
let slow = false, still = null; // where a frame takes long, images are dots while they move

// Pixels of a thumbnail on the screen: as large as n of them have room on the whole map, and more when zoomed.
function side() {
  const fit = Math.min(width, height) / Math.sqrt(count) / 1.1, zoom = view.scale / home();
  return Math.max(3, Math.min(data.cell * 1.5, fit * Math.pow(zoom, 0.75)));
}
function mixed(i) { return Math.imul(i + 1, 2654435761) >>> 0; }
function home() { return 0.92 * Math.min(width, height); }
function reset() {
  view.scale = home();
  view.left = (width - view.scale) / 2;
  view.top = (height - view.scale) / 2;
}
function sprite(i) { // sheet, left, top, width, height
  const per = data.columns * data.columns, at = i % per;
  return [sheets[Math.floor(i / per)], (at % data.columns) * data.cell, Math.floor(at / data.columns) * data.cell,
    data.sizes[2 * i], data.sizes[2 * i + 1]];
}
const screenX = (i) => data.x[i] * view.scale + view.left;
const screenY = (i) => (1 - data.y[i]) * view.scale + view.top; // upwards, as in the still image
const shown = (i) => !hidden.has(facet.of[i]);
const matches = (i) => found === null || found.has(i);

function draw() {
  queued = false;
  const ratio = window.devicePixelRatio || 1, size = side(), small = dots || size < 9 || (slow && still !== null);
  const begun = performance.now();
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  for (const pass of found === null ? [true] : [false, true]) { // what was found lies above the rest
    pen.globalAlpha = pass ? 1 : 0.15;
    for (const i of order) {
      if (!shown(i) || matches(i) !== pass) continue;
      const x = screenX(i), y = screenY(i);
      if (x < -size || y < -size || x > width + size || y > height + size) continue;
      pen.fillStyle = facet.colours[facet.of[i]];
      if (small) {
        const r = Math.max(1.5, Math.min(6, size / 2.5));
        pen.fillRect(x - r, y - r, 2 * r, 2 * r);
        continue;
      }
      const [sheet, left, top, w, h] = sprite(i), share = size / Math.max(w, h), edge = Math.max(1, size / 24);
      if (facet.colours.length > 1) pen.fillRect(x - (w * share) / 2 - edge, y - (h * share) / 2 - edge, w * share + 2 * edge, h * share + 2 * edge);
      if (sheet.complete) pen.drawImage(sheet, left, top, w, h, x - (w * share) / 2, y - (h * share) / 2, w * share, h * share);
    }
  }
  pen.globalAlpha = 1;
  if (!small) slow = performance.now() - begun > 40;
  if (under >= 0) {
    pen.strokeStyle = "#000";
    pen.lineWidth = 2;
    const r = Math.max(6, small ? 6 : size / 2 + 2);
    pen.strokeRect(screenX(under) - r, screenY(under) - r, 2 * r, 2 * r);
  }
}
function redraw() {
  if (!queued) { queued = true; requestAnimationFrame(draw); }
}
function move() {
  clearTimeout(still);
  still = setTimeout(() => { still = null; redraw(); }, 150);
  redraw();
}
function resize() {
  const ratio = window.devicePixelRatio || 1, first = !width;
  const centre = first ? null : [(width / 2 - view.left) / view.scale, (height / 2 - view.top) / view.scale];
  width = stage.clientWidth;
  height = stage.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  if (first) reset();
  else { view.left = width / 2 - centre[0] * view.scale; view.top = height / 2 - centre[1] * view.scale; }
  redraw();
}
function zoom(factor, x, y) {
  const scale = Math.max(home() / 2, Math.min(home() * 400, view.scale * factor));
  view.left = x - ((x - view.left) * scale) / view.scale;
  view.top = y - ((y - view.top) * scale) / view.scale;
  view.scale = scale;
  move();
}
function at(x, y) { // the image under the pointer; the last drawn is on top
  const size = side(), reach = dots || size < 9 ? 8 : size / 2;
  let best = -1, least = Infinity;
  for (const i of order) {
    if (!shown(i) || !matches(i)) continue;
    const dx = Math.abs(screenX(i) - x), dy = Math.abs(screenY(i) - y), far = Math.max(dx, dy);
    if (far <= reach && far <= least) { best = i; least = far; }
  }
  return best;
}
function look(i, x, y) {
  if (i !== under) { under = i; redraw(); }
  card.style.display = i < 0 ? "none" : "block";
  if (i < 0) return;
  const [sheet, left, top, w, h] = sprite(i), large = $("large"), ink = large.getContext("2d"), share = 480 / Math.max(w, h);
  ink.clearRect(0, 0, 480, 480);
  ink.imageSmoothingQuality = "high";
  ink.drawImage(sheet, left, top, w, h, (480 - w * share) / 2, (480 - h * share) / 2, w * share, h * share);
  const lines = Object.entries(data.facts).map(([name, texts]) => texts[i] && `${name}: ${texts[i]}`).filter(Boolean);
  $("words").replaceChildren(...[data.names[i], ...lines].map((text, place) => {
    const line = document.createElement(place ? "span" : "b");
    line.textContent = place > 1 ? " · " + text : text;
    return line;
  }));
  card.style.left = Math.max(4, x + 274 > width ? x - 274 : x + 16) + "px";
  card.style.top = Math.max(4, Math.min(y - 60, height - card.offsetHeight - 8)) + "px";
}
function legend() {
  $("legend").replaceChildren(...facet.values.map((value, number) => {
    const line = document.createElement("button"), box = document.createElement("i"), text = document.createElement("span");
    const much = document.createElement("small");
    box.style.background = facet.colours[number];
    text.textContent = value;
    much.textContent = facet.counts[number];
    line.append(box, text, much);
    if (hidden.has(number)) line.className = "off";
    line.onclick = () => { hidden.has(number) ? hidden.delete(number) : hidden.add(number); legend(); redraw(); };
    line.ondblclick = () => {
      hidden = new Set(facet.values.map((_, other) => other).filter((other) => other !== number));
      legend();
      redraw();
    };
    return line;
  }));
}
function find(text) {
  const wanted = text.trim().toLowerCase();
  found = wanted ? new Set(names.flatMap((name, i) => (name.includes(wanted) ? [i] : []))) : null;
  $("count").textContent = found === null ? "" : `${found.size} of ${count}`;
  redraw();
}

data.facets.forEach((one, number) => $("by").append(new Option(one.name, number)));
$("by").onchange = (event) => { facet = data.facets[event.target.value]; hidden = new Set(); legend(); redraw(); };
$("find").oninput = (event) => find(event.target.value);
$("home").onclick = () => { reset(); redraw(); };
$("kind").onclick = () => { dots = !dots; $("kind").textContent = dots ? "Images" : "Dots"; redraw(); };
const fingers = new Map();
canvas.onpointerdown = (event) => { fingers.set(event.pointerId, [event.offsetX, event.offsetY]); canvas.setPointerCapture(event.pointerId); canvas.className = "moving"; look(-1); };
canvas.onpointermove = (event) => {
  const before = fingers.get(event.pointerId), now = [event.offsetX, event.offsetY];
  if (!before) return look(at(...now), ...now);
  if (fingers.size === 2) { // two fingers zoom about the one that stays
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
    zoom(Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1])), ...other);
  } else { view.left += now[0] - before[0]; view.top += now[1] - before[1]; }
  fingers.set(event.pointerId, now);
  move();
};
canvas.onpointerup = canvas.onpointercancel = (event) => { fingers.delete(event.pointerId); canvas.className = ""; };
canvas.onpointerleave = () => look(-1);
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
}, { passive: false });
canvas.onkeydown = (event) => {
  const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
  if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 1.3 : 1 / 1.3, width / 2, height / 2);
  else if (step) { view.left += step[0]; view.top += step[1]; move(); event.preventDefault(); }
};
sheets.forEach((sheet) => { if (!sheet.complete) sheet.onload = redraw; });
addEventListener("resize", resize);
legend();
resize();
