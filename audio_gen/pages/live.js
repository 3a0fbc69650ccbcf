// The page around player.js: what is asked for, what is heard, and what it looks like.
"use strict";

const $ = (id) => document.getElementById(id);
const LEAD = 0.12, AHEAD = 3; // seconds: between asking and hearing, and that an endless take is made ahead
const model = JSON.parse($("header").textContent);
const rate = model.sampleRate;
let audio, worker, take = null, number = 0;

/* ---- What is asked for ---- */

for (const [name, values] of Object.entries(model.labels)) {
  const select = Object.assign(document.createElement("select"), { name });
  select.append(new Option("any", ""), ...values.map((value) => new Option(value, value, false, value === values[0])));
  const label = document.createElement("label");
  label.append(name, select);
  $("labels").append(label);
}
$("temperature").value = model.draw.temperature;
$("seconds").value = model.seconds ?? "";
showWarmth();

function showWarmth() {
  $("warmth").value = Number($("temperature").value).toFixed(2);
}

function asked() {
  return Object.fromEntries([...$("labels").querySelectorAll("select")].filter((each) => each.value).map((each) => [each.name, each.value]));
}

function shares(labels) {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [
    name, [0, ...model.labels[name].map((each) => Number(each === value))],
  ]));
}

function draw() {
  return { ...model.draw, temperature: Number($("temperature").value) };
}

$("labels").addEventListener("change", () => turned({ labels: shares(asked()) }));
$("temperature").addEventListener("input", () => { showWarmth(); turned({ draw: draw() }); });

/** Something was changed: what plays follows, and is no longer what its seed alone makes. */
function turned(what) {
  if (!take || take.done) return;
  take.turned = true;
  worker.postMessage(what);
}

/* ---- What is heard ---- */

$("desk").addEventListener("submit", (event) => { event.preventDefault(); begin(); });
$("another").addEventListener("click", () => { $("seed").value = (Number($("seed").value) + 1) % 2 ** 32; begin(); });
$("stop").addEventListener("click", () => finish("Stopped"));

function begin() {
  finish();
  audio ??= new AudioContext({ sampleRate: rate });
  audio.resume();
  const seconds = Number($("seconds").value), labels = asked(), seed = Math.max(0, Math.floor(Number($("seed").value) || 0));
  const samples = seconds > 0 ? Math.max(1, Math.round(seconds * rate)) : Infinity;
  take = {
    number: ++number, samples, labels, seed, draw: draw(), pieces: [], made: 0, work: 0, at: 0, sources: [], done: false, turned: false,
  };
  clear();
  worker.postMessage({ begin: { number, labels: shares(labels), seed, stream: 0, ...take.draw } });
  more();
  $("stop").disabled = false;
  $("status").textContent = "Beginning …";
}

/** Let the worker go on: to the end of a clip, but not too far ahead of what is heard of an endless one. */
function more() {
  const ahead = take.at ? Math.max(0, take.at - audio.currentTime) : 0;
  const until = Math.min(take.samples, take.made + Math.max(0, Math.round((AHEAD - ahead) * rate)));
  worker.postMessage({ number: take.number, until: take.samples === Infinity ? until : take.samples });
}

function heard({ number, waveform, milliseconds }) {
  if (!take || number !== take.number || take.done) return;
  take.pieces.push(waveform);
  take.made += waveform.length;
  take.work += milliseconds / 1000;
  spectrum(waveform);
  const speed = take.made / rate / take.work, whole = take.made >= take.samples;
  // Slower than real time: wait until the rest can be made in time; of an endless take there is no such moment.
  const rest = Number.isFinite(take.samples) ? (take.samples - take.made) / rate : 60;
  if (take.at || whole || speed > 1.05 || take.made / rate > rest * (1 / speed - 1)) sound();
  $("status").textContent = `${(take.made / rate).toFixed(1)} s made, ${speed.toFixed(1)} times as fast as real time, ${model.precision}`;
  if (whole) finish("Made");
  else if (take.samples === Infinity) more();
}

/** Schedule what has not been scheduled yet. */
function sound() {
  take.next ??= 0;
  for (; take.next < take.pieces.length; take.next++) {
    const piece = take.pieces[take.next], buffer = audio.createBuffer(1, piece.length, rate), source = audio.createBufferSource();
    buffer.copyToChannel(piece, 0);
    source.buffer = buffer;
    source.connect(audio.destination);
    if (take.at < audio.currentTime + 0.01) take.at = audio.currentTime + LEAD;
    source.start(take.at);
    take.sources.push(source);
    take.at += piece.length / rate;
  }
}

/** A take is over: keep it. */
function finish(why) {
  if (!take || take.done) { if (why === "Stopped") hush(); return; }
  take.done = true;
  worker.postMessage({ stop: true });
  if (why !== "Made") hush();
  if (take.made) keep(take);
  if (why === "Stopped") $("status").textContent += ", stopped";
}

function hush() {
  for (const source of take?.sources ?? []) source.stop();
  $("stop").disabled = true;
}

setInterval(() => { // an endless take goes on as it is heard
  if (take && !take.done && take.samples === Infinity && take.at) more();
}, 200);

/* ---- Takes ---- */

function keep(one) {
  const row = document.createElement("li"), words = Object.entries(one.labels).map(([name, value]) => `${name} ${value}`).join(", ");
  const title = document.createElement("b"), link = document.createElement("a"), again = document.createElement("audio"), made = document.createElement("code");
  title.textContent = `${words || model.name}, seed ${one.seed}`;
  link.href = again.src = URL.createObjectURL(wave(one));
  link.download = `${[model.name, ...Object.values(one.labels), `seed${one.seed}`].join("-").replace(/[^\w.+-]/g, "_")}.wav`;
  link.textContent = "WAV";
  again.controls = true;
  made.textContent = one.turned ? "turned while it played" : command(one);
  row.append(title, again, link, made);
  $("takes").prepend(row);
}

/** What makes the same take anywhere else. */
function command(one) {
  const labels = Object.entries(one.labels).map(([name, value]) => ` --label ${name}=${value}`).join("");
  return `audio-gen generate ${model.name}${labels} --seed ${one.seed} --temperature ${one.draw.temperature} `
    + `--seconds ${one.made / rate} --precision ${model.precision}`;
}

/** A WAV file of so many bits, rounded as the command line does. */
function wave(one) {
  const bytes = model.bits / 8, size = one.made * bytes, file = new DataView(new ArrayBuffer(44 + size + (size % 2)));
  const text = (at, word) => [...word].forEach((letter, place) => file.setUint8(at + place, letter.charCodeAt(0)));
  text(0, "RIFF"); file.setUint32(4, file.byteLength - 8, true); text(8, "WAVEfmt "); file.setUint32(16, 16, true);
  file.setUint16(20, 1, true); file.setUint16(22, 1, true); file.setUint32(24, rate, true); file.setUint32(28, rate * bytes, true);
  file.setUint16(32, bytes, true); file.setUint16(34, model.bits, true); text(36, "data"); file.setUint32(40, size, true);
  const full = 2 ** (model.bits - 1);
  let at = 44;
  for (const piece of one.pieces) {
    for (const sample of piece) {
      const exact = sample * full, floor = Math.floor(exact), even = floor + (floor % 2 === 0 ? 0 : 1);
      const rounded = exact - floor === 0.5 ? even : Math.round(exact);
      const value = Math.max(-full, Math.min(full - 1, rounded));
      file.setUint8(at, value & 255);
      for (let byte = 1; byte < bytes; byte++) file.setUint8(at + byte, (value >> (8 * byte)) & 255);
      at += bytes;
    }
  }
  return new Blob([file], { type: "audio/wav" });
}

/* ---- What it looks like ---- */

const SIZE = 512, STEP = 128, PIXELS = 2; // samples of a window and between two, and the width of one
const window_ = Float64Array.from({ length: SIZE }, (_, at) => 0.5 - 0.5 * Math.cos((2 * Math.PI * at) / SIZE));
const picture = $("picture").getContext("2d", { willReadFrequently: false });
let tail = new Float32Array(0), column = 0;

function clear() {
  tail = new Float32Array(SIZE - STEP);
  column = 0;
  picture.fillStyle = "#000";
  picture.fillRect(0, 0, picture.canvas.width, picture.canvas.height);
}

/** Draw what is new; a full picture scrolls. */
function spectrum(waveform) {
  const all = new Float32Array(tail.length + waveform.length);
  all.set(tail); all.set(waveform, tail.length);
  const { width, height } = picture.canvas;
  let at = 0;
  for (; at + SIZE <= all.length; at += STEP) {
    if ((column + 1) * PIXELS > width) {
      picture.drawImage(picture.canvas, -width / 4, 0);
      column -= Math.floor(width / 4 / PIXELS);
      picture.fillStyle = "#000";
      picture.fillRect(column * PIXELS, 0, width, height);
    }
    const power = transform(all.subarray(at, at + SIZE));
    for (let y = 0; y < height; y++) {
      const level = 10 * Math.log10(power[Math.floor(((height - 1 - y) / height) * (SIZE / 2))] + 1e-12);
      picture.fillStyle = COLOURS[Math.max(0, Math.min(COLOURS.length - 1, Math.round(((level + 95) / 90) * (COLOURS.length - 1))))];
      picture.fillRect(column * PIXELS, y, PIXELS, 1);
    }
    column++;
  }
  tail = all.slice(at);
}

/** Power of the frequencies from 0 to half the rate; a sine of amplitude 1 has about 1. */
function transform(samples) {
  const real = Float64Array.from(samples, (sample, at) => sample * window_[at]), imaginary = new Float64Array(SIZE);
  for (let at = 1, mirrored = 0; at < SIZE; at++) {
    let bit = SIZE >> 1;
    for (; mirrored & bit; bit >>= 1) mirrored ^= bit;
    mirrored ^= bit;
    if (at < mirrored) [real[at], real[mirrored]] = [real[mirrored], real[at]];
  }
  for (let half = 1; half < SIZE; half *= 2) {
    for (let place = 0; place < half; place++) {
      const angle = (-Math.PI * place) / half, c = Math.cos(angle), s = Math.sin(angle);
      for (let a = place; a < SIZE; a += 2 * half) {
        const b = a + half, x = real[b] * c - imaginary[b] * s, y = real[b] * s + imaginary[b] * c;
        real[b] = real[a] - x; imaginary[b] = imaginary[a] - y;
        real[a] += x; imaginary[a] += y;
      }
    }
  }
  return Float64Array.from({ length: SIZE / 2 }, (_, at) => (real[at] ** 2 + imaginary[at] ** 2) * (4 / SIZE) ** 2);
}

/* Black, violet, rose, yellow, white: brighter all the way. */
const COLOURS = Array.from({ length: 128 }, (_, at) => {
  const stops = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
  const place = (at / 127) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(place));
  return `rgb(${stops[low].map((one, each) => Math.round(one + (place - low) * (stops[low + 1][each] - one))).join(" ")})`;
});

/* ---- The beginning ---- */

function bytesOf(id) {
  const text = atob($(id).textContent), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes.buffer;
}

worker = new Worker(URL.createObjectURL(new Blob([$("player").textContent], { type: "text/javascript" })));
worker.onmessage = ({ data }) => {
  if (data.error) { $("status").textContent = `This does not work here: ${data.error}`; return; }
  if (data.ready) {
    $("play").disabled = $("another").disabled = false;
    $("status").textContent = "Ready.";
    return;
  }
  heard(data);
};
worker.onerror = (event) => { $("status").textContent = `This does not work here: ${event.message}`; };
clear();
const [bytes, engine] = [bytesOf("model"), bytesOf("engine")];
worker.postMessage({ load: { text: $("header").textContent, bytes, engine } }, [bytes, engine]);
