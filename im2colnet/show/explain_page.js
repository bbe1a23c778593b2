"use strict";
// The page of an explanation: what is under the pointer, and what belongs to it, is lit everywhere.
// Shapes: K rows of the lowered matrix (channel, kernel row, kernel column), T = KH * KW rows of one channel,
// P positions of the window, row after row of the output.

const facts = JSON.parse(document.getElementById("facts").textContent);
const MOST_TERMS = 64; // a sum of more terms is told by its largest ones
const LARGEST = 12; // how many of those
const MOST_ROWS = 96; // a matrix with more rows is shown for one channel

const scatters = () => state.backward !== turned; // whether numbers are added to pixels, not read from them
const slope = () => (state.backward ? "gradient of " : "");
const theMatrix = () => (state.backward ? "the gradient of the matrix" : "the matrix");

function numbers(name) {
  if (!facts.arrays[name]) return null;
  const { type, data } = facts.arrays[name];
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return type === "int32" ? new Int32Array(bytes.buffer) : new Float32Array(bytes.buffer);
}

const input = numbers("input"); // (channels, H, W)
const dinput = numbers("dinput");
const output = numbers("output"); // (filters, P)
const doutput = numbers("doutput");
const sources = numbers("sources"); // (T, P): the pixel that an entry is read from, or -1
const weight = numbers("weight"); // (filters, K)
const bias = numbers("bias"); // (filters)
const dcolumns = numbers("dcolumns"); // (groups or channels, K, P)
const picked = numbers("picked"); // (channels, P)
const divisors = numbers("divisors"); // (P)
const { kind, channels, filters } = facts;
const [H, W] = facts.size;
const [OH, OW] = facts.out;
const [top0, left0] = facts.origin;
const [outTop, outLeft] = facts.outOrigin;
const [KH, KW] = facts.kernel;
const T = KH * KW, P = OH * OW;
const lowered = sources !== null;
const convolves = weight !== null;
const isLinear = kind === "linear";
// A transposed convolution is the way back of a convolution: forward it adds a matrix to the pixels of its output.
// Below, "input" is what windows read, and "output" has a number for each window, whichever of the two the layer makes.
const turned = kind === "transposed convolution";
const perGroup = facts.channelsPerGroup; // channels that one filter sees
const K = convolves ? T * perGroup : T;

const state = { backward: false, channel: 0, filter: 0, chosen: null };
const $ = (id) => document.getElementById(id);

function say(value, digits = 4) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size === 0) return "0";
  const shown = size >= 1e5 || size < 1e-3 ? size.toExponential(2) : String(Number(size.toPrecision(digits)));
  return (value < 0 ? "−" : "") + shown.replace("e-", "e−").replace("e+", "e");
}

function listed(values, most = 6) {
  const shown = values.slice(0, most).join(", ");
  return values.length > most ? `${shown} and ${values.length - most} more` : shown;
}

function span(values) {
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  const even = distinct.every((value, i) => i === 0 || value === distinct[i - 1] + 1);
  if (distinct.length === 1) return ` ${distinct[0]}`;
  return even ? `s ${distinct[0]} to ${distinct[distinct.length - 1]}` : `s ${listed(distinct, 8)}`;
}

function inCell(value, power) {
  // a number with two places behind the point, in units of 10 to this power
  const scaled = value / 10 ** power;
  const places = Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2;
  const shown = value === 0 ? "0" : Number.isInteger(value) && !power ? String(value) : scaled.toFixed(places);
  return (Number(shown) === 0 ? shown.replace("-", "") : shown).replace("-", "−");
}

// ---------------------------------------------------------------- geometry

const group = () => (convolves ? facts.groupOf[state.filter] : 0);
const firstChannel = () => (convolves ? group() * perGroup : state.channel); // of the channels that are read
const oneChannel = () => convolves && K > MOST_ROWS && perGroup > 1;
const channelInGroup = () => (convolves ? state.channel - firstChannel() : 0);
const firstRow = () => (oneChannel() ? channelInGroup() * T : 0);
const shownRows = () => (oneChannel() ? T : K);

// where the window at position p has its tap t, in pixels of the image that is shown; outside it there is padding
function place(t, p) {
  const source = sources[t * P + p];
  if (facts.geometry) {
    const [sh, sw] = facts.geometry.stride, [ph, pw] = facts.geometry.padding, [dh, dw] = facts.geometry.dilation;
    const r = Math.floor(p / OW) + outTop, c = (p % OW) + outLeft;
    return [r * sh - ph + Math.floor(t / KW) * dh - top0, c * sw - pw + (t % KW) * dw - left0];
  }
  return source < 0 ? null : [Math.floor(source / W), source % W];
}

const within = (r, c) => r >= 0 && c >= 0 && r < H && c < W; // whether a place is in the image, not in its padding
const ring = { top: 0, left: 0, bottom: H, right: W }; // rows and columns of the image with its padding
const origin = new Map(); // "row,column" of a place in the padding -> the pixel that it repeats, or -1
const reads = Array.from({ length: H * W }, () => []); // pixel -> entries [t, p] that are read from it
if (lowered) {
  for (let t = 0; t < T; t++) {
    for (let p = 0; p < P; p++) {
      const source = sources[t * P + p], at = place(t, p);
      if (source >= 0) reads[source].push([t, p]);
      if (at === null) continue;
      ring.top = Math.min(ring.top, at[0]);
      ring.left = Math.min(ring.left, at[1]);
      ring.bottom = Math.max(ring.bottom, at[0] + 1);
      ring.right = Math.max(ring.right, at[1] + 1);
      if (!within(...at)) origin.set(`${at}`, source);
    }
  }
}

function pixelAt(r, c) {
  // the index of the pixel whose value is at this place, or -1 for zero padding, or null where nothing is read
  if (within(r, c)) return r * W + c < facts.features ? r * W + c : null;
  return origin.get(`${[r, c]}`) ?? null;
}

const atPixel = (values, channel, pixel) => (pixel < 0 ? 0 : values[channel * H * W + pixel]);

function entry(k, p) {
  // one number of the lowered matrix: of its values, or of its gradient
  if (scatters()) {
    const block = convolves ? group() : state.channel;
    return dcolumns[(block * K + k) * P + p];
  }
  return atPixel(input, firstChannel() + Math.floor(k / T), sources[(k % T) * P + p]);
}

const madeNames = turned ? ["output", "input"] : ["input", "output"];
const filterName = turned ? "channel" : "filter";
const outputWords = (p) => {
  const where = isLinear ? `${facts.filters[state.filter]}` : `(${Math.floor(p / OW) + outTop}, ${(p % OW) + outLeft})`;
  return `${madeNames[1]} ${where}`;
};
const columnOf = (p) => (Math.floor(p / OW) + outTop) * facts.fullOut[1] + (p % OW) + outLeft;
const pixelWords = (pixel) =>
  isLinear ? `${pixel}` : `(${Math.floor(pixel / W) + top0}, ${(pixel % W) + left0})`;

// ---------------------------------------------------------------- grids of numbers

const grids = [];

class Grid {
  // a grid of numbers: the numbers are drawn once, what is lit lies on a second canvas above
  constructor(id, name, shape, value, choose, label) {
    Object.assign(this, { id, name, shape, value, choose, label, cursor: [0, 0] });
    this.box = $(id);
    if (!this.box) return;
    this.base = document.createElement("canvas");
    this.over = document.createElement("canvas");
    this.base.setAttribute("aria-hidden", "true");
    this.over.tabIndex = 0;
    this.over.setAttribute("role", "application");
    this.over.setAttribute("aria-roledescription", "grid of numbers");
    this.over.setAttribute("aria-describedby", "keys");
    this.over.dataset.lit = "[]";
    this.over.dataset.near = "[]";
    this.box.append(this.base, this.over);
    this.over.addEventListener("pointermove", (event) => this.pointed(event));
    this.over.addEventListener("pointerdown", (event) => this.pointed(event));
    this.over.addEventListener("keydown", (event) => this.pressed(event));
    this.over.addEventListener("focus", () => {
      if (this.over.matches(":focus-visible")) this.pick(...this.cursor);
    });
    grids.push(this);
  }

  get hidden() {
    return !this.box || this.box.closest("[hidden]") !== null;
  }

  pointed(event) {
    const edge = this.over.getBoundingClientRect();
    const c = Math.floor(((event.clientX - edge.left) / edge.width) * this.columns);
    const r = Math.floor(((event.clientY - edge.top) / edge.height) * this.rows);
    if (r >= 0 && c >= 0 && r < this.rows && c < this.columns) this.pick(r, c);
  }

  pressed(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    let [r, c] = this.cursor;
    if (event.key === "Home") c = 0;
    else if (event.key === "End") c = this.columns - 1;
    else if (steps[event.key]) [r, c] = [r + steps[event.key][0], c + steps[event.key][1]];
    else return;
    event.preventDefault();
    this.pick(Math.min(Math.max(r, 0), this.rows - 1), Math.min(Math.max(c, 0), this.columns - 1));
  }

  pick(r, c) {
    this.cursor = [r, c];
    const found = this.choose(r, c);
    if (found && JSON.stringify(found) !== JSON.stringify(state.chosen)) {
      state.chosen = found;
      light(this);
    }
  }

  measure() {
    [this.rows, this.columns] = this.shape();
    Object.assign(this.over.dataset, { rows: this.rows, columns: this.columns });
    this.cursor = [Math.min(this.cursor[0], this.rows - 1), Math.min(this.cursor[1], this.columns - 1)];
    this.side = this.size();
    const [high, wide] = [this.rows * this.side, this.columns * this.side];
    // browsers refuse larger canvases
    this.scale = Math.min(window.devicePixelRatio || 1, 16384 / Math.max(high, wide), Math.sqrt(16e6 / (high * wide)));
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(this.columns * this.side * this.scale);
      canvas.height = Math.round(this.rows * this.side * this.scale);
      canvas.style.width = `${this.columns * this.side}px`;
      canvas.style.height = `${this.rows * this.side}px`;
    }
    this.over.setAttribute("aria-label", `${this.label()}, ${this.rows} rows, ${this.columns} columns`);
  }

  size() {
    const [most, least, room] = { image: [34, 6, 330], kernel: [40, 14, 200], output: [34, 6, 330] }[this.name] || [
      34, 11, 0,
    ];
    const fits = Math.floor(Math.min(room, page()) / Math.max(this.rows, this.columns));
    return room ? Math.min(most, Math.max(least, fits)) : cellOfMatrix();
  }

  draw(ink) {
    if (this.hidden) return;
    this.measure();
    const values = [];
    for (let r = 0; r < this.rows; r++) for (let c = 0; c < this.columns; c++) values.push(this.value(r, c));
    const known = values.filter((value) => typeof value === "number");
    const largest = Math.max(1e-12, known.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    const signed = known.some((value) => value < 0);
    const power = Math.floor(Math.log10(largest));
    this.power = power < -1 || power > 3 ? power : 0;
    const unit = ["strip", "row"].includes(this.name) ? null : this.box.closest("section").querySelector(".unit");
    const told = this.power && this.side >= 28 && largest > 1e-12;
    if (unit) unit.textContent = told ? `, in units of ${say(10 ** this.power)}` : "";
    const pen = this.base.getContext("2d");
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    pen.clearRect(0, 0, this.columns * this.side, this.rows * this.side);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    values.forEach((value, i) => {
      this.cell(pen, ink, value, Math.floor(i / this.columns), i % this.columns, largest, signed);
    });
  }

  cell(pen, ink, value, r, c, largest, signed) {
    const s = this.side, x = c * s, y = r * s, gap = s > 8 ? 1 : 0;
    if (value === null) return;
    if (value === "padding") {
      pen.fillStyle = ink.pad;
      pen.fillRect(x, y, s - gap, s - gap);
      pen.strokeStyle = ink.line;
      pen.beginPath();
      pen.moveTo(x, y + s - gap);
      pen.lineTo(x + s - gap, y);
      pen.stroke();
      return;
    }
    const part = Math.min(1, Math.abs(value) / largest);
    const end = !signed ? ink.white : value < 0 ? ink.negative : ink.positive;
    const start = signed ? ink.zero : ink.black;
    const colour = start.map((from, i) => Math.round(from + (end[i] - from) * part));
    pen.fillStyle = `rgb(${colour})`;
    pen.fillRect(x, y, s - gap, s - gap);
    if (s >= 28) {
      const light = colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 140;
      pen.fillStyle = light ? "#000000" : "#ffffff";
      pen.font = `${Math.min(11, Math.floor(s / 3.3))}px system-ui, sans-serif`;
      const alone = this.power && ["strip", "row"].includes(this.name); // no heading tells their unit
      pen.fillText(alone ? say(value, 1) : inCell(value, this.power), x + s / 2 - 0.5, y + s / 2);
    }
  }

  mark(ink, lit, near) {
    if (this.hidden) return;
    const pen = this.over.getContext("2d"), s = this.side;
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    pen.clearRect(0, 0, this.columns * s, this.rows * s);
    const [r0, c0] = this.first ? this.first() : [0, 0];
    pen.strokeStyle = ink.lit;
    pen.lineWidth = 1;
    for (const [r, c] of near) pen.strokeRect((c - c0) * s + 0.5, (r - r0) * s + 0.5, s - 2, s - 2);
    pen.lineWidth = Math.max(2, Math.min(3, s / 8));
    const half = pen.lineWidth / 2;
    for (const [r, c] of lit) {
      const x = (c - c0) * s, y = (r - r0) * s;
      pen.globalAlpha = s < 28 ? 0.45 : 0.2;
      pen.fillStyle = ink.lit;
      pen.fillRect(x, y, s - 1, s - 1);
      pen.globalAlpha = 1;
      pen.strokeRect(x + half, y + half, s - 1 - 2 * half, s - 1 - 2 * half);
    }
    const shift = this.shift ? this.shift() : [0, 0];
    const told = (cells) => JSON.stringify(cells.map(([r, c]) => [r + shift[0], c + shift[1]]));
    this.over.dataset.lit = told(lit);
    this.over.dataset.near = told(near);
    if (lit.length) this.cursor = [lit[0][0] - r0, lit[0][1] - c0];
  }
}

const page = () => document.querySelector("main").clientWidth - 8;

function cellOfMatrix() {
  const most = shownRows() > 2 * LARGEST ? 18 : 34;
  return Math.min(most, Math.max(11, Math.floor((page() - 60) / (P + 2))));
}

function inks() {
  const style = getComputedStyle(document.documentElement);
  const plain = (name) => style.getPropertyValue(name).trim();
  const parts = (name) => [1, 3, 5].map((i) => parseInt(plain(name).slice(i, i + 2), 16));
  return {
    lit: plain("--lit"),
    line: plain("--line"),
    pad: plain("--pad"),
    zero: parts("--zero"),
    negative: parts("--negative"),
    positive: parts("--positive"),
    black: parts("--black"),
    white: parts("--white"),
  };
}

const image = new Grid(
  "image", "image",
  () => [ring.bottom - ring.top, ring.right - ring.left],
  (r, c) => {
    const [h, w] = [r + ring.top, c + ring.left], pixel = pixelAt(h, w);
    if (pixel === null) return null;
    if (pixel < 0 || (scatters() && !within(h, w))) return "padding";
    return atPixel(scatters() ? dinput : input, state.channel, pixel);
  },
  (r, c) => (pixelAt(r + ring.top, c + ring.left) === null ? null : ["pixel", r + ring.top, c + ring.left]),
  () => $("imageName").textContent,
);
image.first = () => [ring.top, ring.left];
image.shift = () => [top0, left0];

const kernel = new Grid(
  "kernel", "kernel",
  () => [KH, KW],
  (r, c) => weight[state.filter * K + channelInGroup() * T + r * KW + c],
  (r, c) => ["tap", channelInGroup() * T + r * KW + c],
  () => $("kernelName").textContent,
);

const strip = new Grid(
  "strip", "strip",
  () => [shownRows(), 1],
  (r) => weight[state.filter * K + firstRow() + r],
  (r) => ["tap", firstRow() + r],
  () => "the filter's row of the weight, written downwards",
);
strip.first = () => [firstRow(), 0];

const matrix = new Grid(
  "matrix", "matrix",
  () => [shownRows(), P],
  (r, c) => {
    const k = firstRow() + r;
    return sources[(k % T) * P + c] < 0 ? "padding" : entry(k, c);
  },
  (r, c) => ["entry", firstRow() + r, c],
  () => $("matrixName").textContent,
);
matrix.first = () => [firstRow(), 0];

const told = () => (scatters() ? doutput : output);
const across = () => (isLinear ? filters.length : P);

const row = new Grid(
  "row", "row",
  () => [1, P],
  (r, c) => told()[(convolves ? state.filter : state.channel) * P + c],
  (r, c) => ["output", c],
  () => "the output's row below the matrix",
);

const map = new Grid(
  "map", "output",
  () => (isLinear ? [Math.ceil(across() / 10), Math.min(10, across())] : [OH, OW]),
  (r, c) => {
    if (isLinear) return r * 10 + c < across() ? told()[r * 10 + c] : null;
    if (facts.flatOutput && r * OW + c >= facts.flatOutput) return null;
    return told()[(convolves ? state.filter : outChannel()) * P + r * OW + c];
  },
  (r, c) => {
    if (facts.flatOutput && r * OW + c >= facts.flatOutput) return null;
    if (!isLinear) return ["output", r * OW + c];
    return r * 10 + c < across() ? ["output", 0, r * 10 + c] : null;
  },
  () => $("mapName").textContent,
);
map.shift = () => (isLinear ? [0, 0] : [outTop, outLeft]);
const outChannel = () => (facts.toOutput ? facts.toOutput[state.channel] : Math.min(state.channel, filters.length - 1));

// ---------------------------------------------------------------- what belongs to what is chosen

// The lists of cells that each of these functions returns: lit strongly, or near it, in each of the grids.

const countTo = (n) => Array.from({ length: n }, (_, i) => i);
const total = (terms) => terms.reduce((all, term) => all + term.value, 0);
const allRows = () => countTo(shownRows()).map((i) => firstRow() + i);
const placesOf = (p) => countTo(T).map((t) => place(t, p)).filter((at) => at !== null);
const filterWords = () => `${filterName} ${filters[state.filter]}`;
const columnWords = (p) => `column ${columnOf(p)} of ${theMatrix()}`;
const tapWords = (t) => `kernel row ${Math.floor(t / KW)}, kernel column ${t % KW}`;

function sum(name, terms, rest, whole) {
  // a sum: its terms in words and as numbers; of many terms only the largest
  let shown = terms, other = null;
  if (terms.length > MOST_TERMS) {
    shown = [...terms].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, LARGEST);
    other = total(terms) - total(shown);
  }
  return { name, shown, other, count: terms.length - shown.length, rest, whole };
}

function shortSum(found) {
  const parts = found.shown.slice(0, 9).map((term) => term.short);
  const more = found.shown.length + found.count - parts.length;
  if (more > 0) parts.push(`${more} more terms`);
  for (const [name, value] of found.rest) parts.push(`${name} ${say(value)}`);
  const signed = (part) => (part[0] === "−" ? ` − ${part.slice(1)}` : ` + ${part}`);
  return parts.length ? parts[0] + parts.slice(1).map(signed).join("") : "0";
}

function windowWords(p) {
  if (isLinear) return "all inputs";
  const places = placesOf(p), outside = countTo(T).filter((t) => sources[t * P + p] < 0).length;
  const rows = span(places.map((at) => at[0] + top0)), columns = span(places.map((at) => at[1] + left0));
  return `window row${rows}, column${columns}${outside ? ` (${outside} of ${T} in the padding)` : ""}`;
}

function addedAt(p, value) {
  // a number whose column is added to the pixels of its window
  const all = turned ? "the numbers of all input channels here" : "the gradients of all filters here";
  const column = convolves ? `the weight, transposed, times ${all}` : "the gradient that each number of the window gets";
  const terms = allRows()
    .filter((k) => sources[(k % T) * P + p] >= 0)
    .map((k) => {
      const to = pixelWords(sources[(k % T) * P + p]);
      return { short: "", words: `row ${k}, to pixel ${to}`, value: entry(k, p) };
    });
  const name = `${slope()}${outputWords(p)}${turned ? ` of ${filterWords()}` : ""}`;
  return {
    words: `${name}: ${say(value)}; ${columnWords(p)} is ${column}; it is added to ${windowWords(p)}`,
    found: sum("Numbers that are added to the pixels", terms, [], null),
  };
}

function productAt(p, value) {
  // a number that is a row of the weight times a column
  const terms = countTo(K).map((k) => {
    const w = weight[state.filter * K + k];
    const x = atPixel(input, firstChannel() + Math.floor(k / T), sources[(k % T) * P + p]);
    return { short: `${say(w, 3)}·${say(x, 3)}`, words: `row ${k}: ${say(w)} · ${say(x)}`, value: w * x };
  });
  const row = `${filters[state.filter]} of the weight`;
  const rest = bias && !turned ? [["bias", bias[state.filter]]] : [];
  const found = sum(`Row ${row} times column ${columnOf(p)}`, terms, rest, value);
  const where = isLinear
    ? `${outputWords(p)}: row ${row}`
    : `${slope()}${outputWords(p)} of ${filterWords()}: ${windowWords(p)}; ${columnWords(p)}`;
  return { words: `${where}; value ${say(value)} = ${shortSum(found)}`, found };
}

function pooledAt(p, value) {
  // the maximum of a column, or its mean, or another number that is made of it
  const where = `${outputWords(p)} of channel ${channels[state.channel]}: ${windowWords(p)}; ${columnWords(p)}`;
  const inside = countTo(T).filter((t) => sources[t * P + p] >= 0);
  if (picked) {
    const best = picked[state.channel * P + p];
    const note = (t) => (t === best ? ", the maximum" : "");
    const terms = inside.map((t) => ({ short: "", words: `row ${t}${note(t)}`, value: entry(t, p) }));
    return {
      words: `${where}; the maximum ${say(value)} is in row ${best}, pixel ${pixelWords(sources[best * P + p])}`,
      found: sum(`The maximum of column ${columnOf(p)}`, terms, [], null),
    };
  }
  if (!inside.length) return { words: `${where}; the value is ${say(value)}`, found: null };
  if (!divisors) return { words: `${where}; the output is ${say(value)}`, found: null };
  const divisor = say(divisors[p]);
  const terms = inside.map((t) => {
    const x = entry(t, p);
    return { short: say(x, 3), words: `row ${t}: ${say(x)} / ${divisor}`, value: x / divisors[p] };
  });
  const found = sum(`The mean of column ${columnOf(p)}`, terms, [], value);
  return { words: `${where}; value ${say(value)} = (${shortSum(found)}) / ${divisor}`, found };
}

function forOutput(p) {
  const value = told()[(convolves ? state.filter : state.channel) * P + p];
  const tell = scatters() ? addedAt : convolves ? productAt : pooledAt;
  const best = picked ? picked[state.channel * P + p] : null;
  const column = allRows().map((k) => [k, p]);
  const places = isLinear ? [] : placesOf(p); // of a linear layer they are all inputs
  return {
    image: best === null ? places : [place(best, p)],
    imageNear: places,
    matrix: best === null ? column : [[best, p]],
    matrixNear: column,
    outputs: [p],
    taps: convolves ? allRows() : [],
    ...tell(p, value),
  };
}

function entriesAt(r, c) {
  // rows and columns of the matrix that lie at a place of the image or its padding, of the channel that is shown
  const inside = within(r, c), found = inside ? reads[r * W + c] : [];
  if (!inside)
    for (let t = 0; t < T; t++)
      for (let p = 0; p < P; p++) if (`${place(t, p)}` === `${[r, c]}`) found.push([t, p]);
  const first = convolves ? channelInGroup() * T : 0;
  return found.map(([t, p]) => [first + t, p]);
}

function forPixel(r, c) {
  const pixel = pixelAt(r, c), inside = within(r, c);
  const cells = entriesAt(r, c), often = cells.length === 1 ? "once" : `${cells.length} times`;
  const noun = inside ? (turned ? "output" : "pixel") : "padding";
  const at = `(${r + top0}, ${c + left0}) of channel ${channels[state.channel]}`;
  const name = isLinear ? `input ${pixel}` : `${noun} ${at}`;
  const crop = facts.cropped ? " in the part that is shown" : "";
  let words, found = null;
  if (!scatters()) {
    const value = pixel < 0 ? 0 : atPixel(input, state.channel, pixel);
    const seen = listed(cells.map(([k, p]) => `(row ${k}, column ${columnOf(p)})`));
    const read = `read ${cells.length ? often : "by no window"}${crop}`;
    words = `${slope()}${name}, value ${say(value)}: ${read}${cells.length ? `: ${seen}` : ""}`;
  } else if (!inside) {
    words = `${name}: what arrives here is dropped`;
  } else {
    const value = atPixel(dinput, state.channel, pixel), added = turned && bias ? bias[state.channel] : 0;
    const terms = cells.map(([k, p]) => {
      const x = entry(k, p);
      return { short: say(x, 3), words: `row ${k}, column ${columnOf(p)}`, value: x };
    });
    const rest = turned && bias ? [["bias", added]] : [];
    if (facts.cropped) rest.push(["windows that are not shown", value - total(terms) - added]);
    found = sum(`The ${slope()}${name}`, terms, rest, value);
    const equals = cells.length ? ` = ${shortSum(found)}` : "";
    words = `${slope()}${name}: ${say(value)}${equals}; the sum of ${cells.length} entries of ${theMatrix()}${crop}`;
  }
  return {
    image: [[r, c]],
    imageNear: [],
    matrix: cells,
    matrixNear: [],
    outputs: [...new Set(cells.map(([, p]) => p))],
    taps: convolves ? [...new Set(cells.map(([k]) => k))] : [],
    words,
    found,
  };
}

function transposedAt(k, p) {
  // a number of the matrix that is a column of the weight times the numbers of all filters of the group
  const value = entry(k, p);
  const terms = [];
  filters.forEach((name, f) => {
    if (facts.groupOf[f] !== group()) return;
    const w = weight[f * K + k], y = doutput[f * P + p];
    const words = `${filterName} ${name}: ${say(w)} · ${say(y)}`;
    terms.push({ short: `${say(w, 3)}·${say(y, 3)}`, words, value: w * y });
  });
  const missing = terms.length < facts.filtersPerGroup;
  const rest = missing ? [[`${filterName}s that are not shown`, value - total(terms)]] : [];
  const what = `column ${k} of the weight times the ${turned ? "numbers" : "gradients"} here`;
  return sum(`Row ${k}, column ${columnOf(p)}: ${what}`, terms, rest, value);
}

function forEntry(k, p) {
  const t = k % T, at = place(t, p), source = sources[t * P + p], value = entry(k, p);
  const channel = convolves ? firstChannel() + Math.floor(k / T) : state.channel;
  const where = source < 0 ? "it lies in the padding" : `pixel ${pixelWords(source)}`;
  const from = isLinear ? `input ${source}` : `channel ${channels[channel]}, ${tapWords(t)}; ${where}`;
  const found = scatters() && convolves ? transposedAt(k, p) : null;
  let words = `row ${k}, ${columnWords(p)}: ${say(value)}`;
  if (scatters()) {
    words += `${found ? ` = ${shortSum(found)}` : ""}; ${source < 0 ? "" : "added to "}${from}`;
  } else if (convolves) {
    const w = weight[state.filter * K + k];
    const goal = `the ${slope()}${outputWords(p)}`;
    words += `, ${from}; times the weight ${say(w)} it adds ${say(w * value)} to ${goal}`;
  } else {
    words += `, ${from}; a number of the window of ${outputWords(p)}`;
  }
  return {
    image: at === null || channel !== state.channel ? [] : [at],
    imageNear: isLinear ? [] : placesOf(p),
    matrix: [[k, p]],
    matrixNear: allRows().map((each) => [each, p]),
    outputs: [p],
    taps: convolves ? [k] : [],
    words,
    found,
  };
}

function forTap(k) {
  const t = k % T, channel = firstChannel() + Math.floor(k / T), w = weight[state.filter * K + k];
  const places = countTo(P).map((p) => place(t, p)).filter((at) => at !== null);
  const name = isLinear ? `input ${t}` : `channel ${channels[channel]}, ${tapWords(t)}`;
  const use = `it multiplies row ${k} of the matrix, a number for each of ${P} outputs`;
  return {
    image: channel === state.channel ? places : [],
    imageNear: [],
    matrix: countTo(P).map((p) => [k, p]),
    matrixNear: [],
    outputs: [],
    taps: [k],
    words: `weight ${say(w)} of ${name}, ${filterWords()}: ${use}`,
    found: null,
  };
}

function forPlain(r, c, isOutput) {
  // a layer without a window: where the shapes are the same, a number of the output belongs to one of the input
  const same = H === OH && W === OW && (facts.toOutput || channels.length === filters.length);
  const wide = isOutput ? OW : W;
  const told = (left) => {
    const made = left === "output", channel = made ? outChannel() : state.channel;
    const values = made ? (scatters() ? doutput : output) : scatters() ? dinput : input;
    const value = say(values[channel * (made ? P : H * W) + r * wide + c]);
    if (made ? facts.flatOutput : facts.flatInput) return `${slope()}${left} ${r * wide + c}: ${value}`;
    return `${slope()}${left} (${r}, ${c}) of channel ${made ? filters[channel] : channels[channel]}: ${value}`;
  };
  const sides = isOutput ? ["output", "input"] : ["input", "output"];
  return {
    image: !isOutput || same ? [[r, c]] : [],
    imageNear: [],
    matrix: [],
    matrixNear: [],
    outputs: isOutput || same ? [r * OW + c] : [],
    taps: [],
    words: sides.slice(0, same ? 2 : 1).map(told).join("; "),
    found: null,
  };
}

function light(by) {
  if (!state.chosen) return;
  const [what, a, b] = state.chosen;
  if (what === "output" && b !== undefined && b !== state.filter) {
    state.filter = b;
    $("filter").value = String(b);
    return show(by);
  }
  const ink = inks();
  let found;
  if (!lowered && what === "pixel") found = forPlain(a, b, false);
  else if (!lowered) found = forPlain(Math.floor(a / OW), a % OW, true);
  else if (what === "pixel") found = forPixel(a, b);
  else if (what === "output") found = forOutput(a);
  else if (what === "entry") found = forEntry(a, b);
  else found = forTap(a);
  const shown = new Set(allRows());
  const rows = (cells) => cells.filter(([k]) => shown.has(k));
  image.mark(ink, found.image, found.imageNear);
  matrix.mark(ink, rows(found.matrix), rows(found.matrixNear));
  strip.mark(ink, found.taps.filter((k) => shown.has(k)).map((k) => [k, 0]), []);
  row.mark(ink, found.outputs.map((p) => [0, p]), []);
  const inMap = isLinear
    ? found.outputs.map(() => [Math.floor(state.filter / 10), state.filter % 10])
    : found.outputs.map((p) => [Math.floor(p / OW), p % OW]);
  map.mark(ink, inMap, []);
  const first = channelInGroup() * T;
  const taps = found.taps.map((k) => k - first).filter((t) => t >= 0 && t < T);
  kernel.mark(ink, taps.map((t) => [Math.floor(t / KW), t % KW]), []);
  $("said").textContent = found.words;
  write(found.found);
  const scroll = $("scroll");
  if (scroll && by !== matrix && by !== row && found.matrix.length) {
    const at = found.matrix[0][1] * matrix.side;
    if (at < scroll.scrollLeft || at + 3 * matrix.side > scroll.scrollLeft + scroll.clientWidth - 60)
      scroll.scrollLeft = Math.max(0, at - scroll.clientWidth / 2);
  }
}

function write(found) {
  const list = $("terms");
  list.replaceChildren();
  $("sumName").textContent = found ? found.name : "";
  $("sum").hidden = !found || !found.shown.length;
  if (!found) return;
  const line = (words, value, kind) => {
    const tr = document.createElement("tr");
    tr.className = kind || "";
    const name = document.createElement("td"), number = document.createElement("td");
    name.textContent = words;
    number.textContent = say(value);
    number.className = "right";
    tr.append(name, number);
    list.append(tr);
  };
  for (const term of found.shown) line(term.words, term.value);
  if (found.other !== null) line(`the ${found.count} other terms together`, found.other);
  for (const [name, value] of found.rest) line(name, value);
  if (found.whole !== null) line("sum", found.whole, "last");
}

// ---------------------------------------------------------------- names, choices, themes

function names() {
  const channel = `channel ${channels[state.channel]}`, way = state.backward ? "Gradient of the" : "The";
  const read = isLinear || facts.flatInput ? "input" : `${madeNames[0]}, ${channel}`;
  let made = "output";
  if (turned) made = `input, ${filterWords()}`;
  else if (convolves && !isLinear) made = `output of ${filterWords()}`;
  else if (!isLinear && !facts.flatOutput) made = `output, channel ${filters[outChannel()]}`;
  $("imageName").textContent = `${way} ${read}`;
  $("mapName").textContent = `${way} ${made}`;
  const kernelWords = turned ? `Kernel from ${filterWords()} to ${channel}` : `Kernel of ${filterWords()}, ${channel}`;
  if (convolves && !isLinear) $("kernelName").textContent = kernelWords;
  if (lowered) {
    const rows = oneChannel() ? `rows ${firstRow()} to ${firstRow() + T - 1} of ${K}: ${channel}` : `${K} rows`;
    const part = facts.groups > 1 && convolves ? `, group ${group() + facts.firstGroup}` : "";
    const name = isLinear ? "input as a column" : "lowered matrix";
    $("matrixName").textContent =
      `The ${state.backward ? "gradient of the " : ""}${name}${part}: ${rows}, ${P} column${P === 1 ? "" : "s"}`;
    $("how").textContent = facts.how[state.backward ? 1 : 0];
  }
}

function show(by) {
  // the channel that is shown is one that the filter reads
  if (convolves && (state.channel < firstChannel() || state.channel >= firstChannel() + perGroup)) {
    state.channel = firstChannel();
    $("channel").value = String(state.channel);
  }
  names();
  const ink = inks();
  for (const grid of grids) grid.draw(ink);
  light(by);
}

function fill(id, values, name) {
  const select = $(id);
  if (!select) return;
  values.forEach((value, i) => select.add(new Option(`${name} ${value}`, String(i))));
  select.addEventListener("change", () => {
    state[id] = Number(select.value);
    if (id === "channel" && convolves && facts.groups > 1) {
      const wanted = Math.floor(state.channel / perGroup);
      if (group() !== wanted) {
        state.filter = Math.max(0, facts.groupOf.indexOf(wanted));
        $("filter").value = String(state.filter);
      }
    }
    show();
  });
}

fill("channel", channels, "channel");
if (convolves) fill("filter", filters, isLinear ? "output" : filterName);
for (const button of document.querySelectorAll("input[name=way]"))
  button.addEventListener("change", () => {
    state.backward = $("backward").checked;
    document.body.classList.toggle("scatters", scatters());
    show();
  });
state.filter = facts.start.filter;
if (convolves) $("filter").value = String(state.filter);
else state.channel = Math.min(facts.start.filter, channels.length - 1);
if (facts.start.channel) state.channel = facts.start.channel;
if ($("channel")) $("channel").value = String(state.channel);
state.chosen = ["output", facts.start.position];
document.body.classList.toggle("scatters", scatters());
let waiting = 0;
const again = () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => show());
};
window.addEventListener("resize", again);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
show();
