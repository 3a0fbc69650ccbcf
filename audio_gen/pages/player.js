// A model, played by the compiled engine in WebAssembly: the same tokens as everywhere, from the same seed.
//
// `model` is what live.py writes: each network's shape, packed weights and embeddings. Needs neither a page nor a worker.
"use strict";

const MASK = (1n << 64n) - 1n;

/** Philox4x64-10 (Salmon et al. 2011): a coin in (0, 1) for every position, whatever was asked for before. */
class Coins {
  constructor(seed, stream, lane) {
    this.key = [BigInt(seed), BigInt(stream)];
    this.lane = BigInt(lane);
    this.block = -1n;
    this.words = null;
  }

  at(position) {
    const block = BigInt(Math.floor(position / 4));
    if (block !== this.block) {
      this.block = block;
      this.words = this.philox([block + 1n, 0n, 0n, this.lane]);
    }
    return Math.fround((Number(this.words[position % 4] >> 41n) + 0.5) * 2 ** -23);
  }

  philox([a, b, c, d]) {
    let [k, l] = this.key;
    for (let round = 0; round < 10; round++) {
      const one = a * 0xd2e7470ee14c6c93n, other = c * 0xca5a826395121157n;
      [a, b, c, d] = [(other >> 64n) ^ b ^ k, other & MASK, (one >> 64n) ^ d ^ l, one & MASK];
      k = (k + 0x9e3779b97f4a7c15n) & MASK;
      l = (l + 0xbb67ae8584caa73bn) & MASK;
    }
    return [a, b, c, d];
  }
}

/** The engine's functions and its memory. */
class Engine {
  constructor(module) {
    const { exports } = new WebAssembly.Instance(module);
    exports._initialize();
    this.memory = exports.memory;
    for (const name of ["room", "voices", "rewind", "ask", "turn", "next"]) {
      const verb = exports[`audio_gen_${name}`];
      // Addresses are unsigned; a null is memory that there is not.
      this[name] = name === "room" || name === "voices" || name === "ask" ? (...given) => need(verb(...given) >>> 0) : verb;
    }
  }

  /** The address of a copy of `bytes`, kept for good. */
  keep(bytes) {
    const address = this.room(bytes.byteLength);
    new Uint8Array(this.memory.buffer, address, bytes.byteLength).set(bytes);
    return address;
  }

  view(type, address, count) {
    return new type(this.memory.buffer, address, count);
  }
}

function need(address) {
  if (!address) throw new Error("this browser has too little memory for the model");
  return address;
}

/** One network with its streams, which hear and are told the same; the second of a pair is asked for nothing. */
class Network {
  static STEPS = 2048; // samples of one call, at most

  constructor(engine, about, paired) {
    this.engine = engine;
    this.about = about; // hop, around, offsets, channels (of the curves), amplitudes, labels, curveBias, ...
    this.paired = paired;
    this.streams = paired ? 2 : 1;
    this.voices = engine.voices(engine.keep(about.shape), engine.keep(about.weights), about.precision, this.streams);
    this.coins = engine.room(4 * this.streams * Network.STEPS);
    this.drawn = engine.room(2 * this.streams * Network.STEPS);
    this.frames = Math.floor(Network.STEPS / about.hop) + 2;
    this.curves = about.channels ? engine.room(4 * this.streams * this.frames * about.offsets.length * about.channels) : 0;
  }

  /** Back to the beginning, with other coins. */
  begin(seed, stream, lane) {
    this.engine.rewind(this.voices);
    this.toss = new Coins(seed, stream, lane);
    this.position = 0;
    this.before = 0;
  }

  /** Ask for shares of each label's values, {label: [share of none, of each value]}; those left out are open. */
  ask(shares) {
    const width = this.about.conditionChannels, padded = Math.ceil(width / 32) * 32;
    if (!width) return;
    const condition = this.engine.view(Float32Array, this.engine.ask(this.voices), this.streams * padded);
    for (let stream = 0; stream < this.streams; stream++) {
      const row = condition.subarray(stream * padded, (stream + 1) * padded).fill(0);
      for (const { name, rows, embedding, fixed } of this.about.labels) {
        const nothing = Array.from({ length: rows }, (_, value) => Number(value === 0));
        const asked = fixed ?? (stream === 0 ? shares[name] : null) ?? nothing;
        for (let channel = 0; channel < width; channel++) {
          let sum = 0;
          for (let value = 0; value < rows; value++) {
            if (asked[value]) sum += asked[value] * embedding[value * width + channel];
          }
          row[channel] = row[channel] + Math.fround(sum);
        }
      }
      if (this.about.curveBias) for (let channel = 0; channel < width; channel++) row[channel] += this.about.curveBias[channel];
    }
  }

  /** `coin`: what every toss comes to, where nothing is left to chance. */
  turn({ temperature, topK = 0, topP = 1, minP = 0, guidance = 0, coin = null }) {
    this.coin = coin;
    this.engine.turn(this.voices, temperature, topK, topP, minP, guidance);
  }

  /** The next waveform (count); `frame` gives the curves (channels) of a frame. */
  next(count, frame) {
    const waveform = new Float32Array(count);
    for (let made = 0; made < count; ) {
      const steps = Math.min(Network.STEPS, count - made);
      const coins = this.engine.view(Float32Array, this.coins, this.streams * steps);
      for (let step = 0; step < steps; step++) coins[step] = this.coin ?? this.toss.at(this.position + step);
      if (this.paired) coins.copyWithin(steps, 0, steps);
      const frames = this.told(steps, frame);
      const result = this.engine.next(this.voices, steps, this.coins, frames && this.curves, frames, Number(this.paired), this.drawn);
      if (result) throw new Error("the network's output is not finite");
      const drawn = this.engine.view(Uint16Array, this.drawn, steps);
      for (let step = 0; step < steps; step++) waveform[made + step] = this.decoded(drawn[step]);
      this.position += steps;
      made += steps;
    }
    return waveform;
  }

  /** Write the curves that the next samples are told, of every stream; returns the number of their frames. */
  told(steps, frame) {
    const { hop, offsets, channels } = this.about;
    if (!channels) return 0;
    const first = Math.floor(this.position / hop), frames = Math.floor((this.position + steps - 1) / hop) - first + 1;
    const wide = offsets.length * channels, told = [];
    for (let each = 0; each < frames; each++) told.push(...offsets.map((offset) => frame(Math.max(0, first + each + offset))));
    // Only now, for drawing a frame may have made the memory grow, which moves it.
    const curves = this.engine.view(Float32Array, this.curves, this.streams * frames * wide);
    told.forEach((values, place) => curves.set(values, place * channels));
    if (this.paired) curves.copyWithin(frames * wide, 0, frames * wide);
    return frames;
  }

  /** The sample of a token. De-emphasis remembers float32, rounded by Veltkamp's splitting as everywhere. */
  decoded(token) {
    const value = this.about.amplitudes[token], coefficient = this.about.preEmphasis;
    if (!coefficient) return value;
    const exact = value + coefficient * this.before, carried = exact * (2 ** 29 + 1);
    return (this.before = carried - (carried - exact));
  }
}

/** A model ready to play: its samples and, where it has one, the sketch that draws the curves they follow. */
class Player {
  static AT_ONCE = 8; // frames of a sketch, drawn ahead

  constructor(module, model) {
    const engine = new Engine(module);
    this.sampleRate = model.sampleRate;
    this.samples = new Network(engine, model.samples, false);
    this.sketch = model.sketch && new Network(engine, model.sketch, true);
    this.settled = model.settled; // the coin of a deaf sketch at temperature 0
  }

  /** Start a take: `labels` {label: shares}, `seed`, `stream`, and the settings of the draw. */
  begin({ labels = {}, seed = 0, stream = 0, ...draw }) {
    this.frames = [];
    this.samples.begin(seed, stream, 0);
    this.sketch?.begin(seed, stream, 1);
    this.ask(labels);
    this.turn(draw);
  }

  /** Ask for something else, from the next sample on, and from the next frame that is drawn. */
  ask(labels) {
    this.samples.ask(labels);
    this.sketch?.ask(labels);
  }

  turn({ sketchTemperature, guidance, ...draw }) {
    this.samples.turn(draw);
    const settled = this.settled !== null && sketchTemperature === 0;
    this.sketch?.turn({ temperature: settled ? 1 : sketchTemperature, guidance, coin: settled ? this.settled : null });
  }

  /** The next waveform, float32 (count). */
  next(count) {
    return this.samples.next(count, this.sketch && ((frame) => this.frame(frame)));
  }

  frame(number) {
    const { channels } = this.samples.about;
    while (this.frames.length <= number) {
      const drawn = this.sketch.next(Player.AT_ONCE * channels);
      for (let each = 0; each < Player.AT_ONCE; each++) this.frames.push(drawn.slice(each * channels, (each + 1) * channels));
    }
    return this.frames[number];
  }
}

/** What live.py packed: `text` with references to arrays in `bytes`, which are put in their places. */
function unpack(text, bytes) {
  const types = { f4: Float32Array, f8: Float64Array, u1: Uint8Array };
  return JSON.parse(text, (key, value) =>
    typeof value?.at === "number" && value.type in types ? new types[value.type](bytes, value.at, value.count) : value);
}

/** In a worker: makes a take as far as it is told to, in pieces, and listens in between. */
function serve() {
  const PIECE = 1 / 32, FADE = 1.5; // seconds: of a piece, and of what is asked for while it plays
  const channel = new MessageChannel();
  let player, model, take = null;
  channel.port1.onmessage = work;

  onmessage = ({ data }) => {
    try {
      if (data.load) {
        model = unpack(data.load.text, data.load.bytes);
        player = new Player(new WebAssembly.Module(data.load.engine), model);
        postMessage({ ready: true });
      } else if (data.begin) {
        take = { number: data.begin.number, made: 0, until: 0, working: false, labels: data.begin.labels, wanted: null };
        player.begin(data.begin);
      } else if (data.stop) {
        take = null;
      } else if (take && data.until !== undefined && data.number === take.number) {
        take.until = data.until;
      } else if (take && data.labels) {
        take.wanted = { from: take.labels, to: data.labels, since: take.made };
      } else if (take && data.draw) {
        player.turn(data.draw);
      }
      again();
    } catch (error) {
      postMessage({ error: error.message });
    }
  };

  function again() {
    if (!take || take.working || take.made >= take.until) return;
    take.working = true;
    channel.port2.postMessage(take.number);
  }

  function work({ data: number }) {
    if (!take || take.number !== number) return;
    take.working = false;
    try {
      if (take.wanted) fade();
      const began = performance.now(), count = Math.min(Math.round(PIECE * model.sampleRate), take.until - take.made);
      const waveform = player.next(count);
      take.made += count;
      postMessage({ number, waveform, milliseconds: performance.now() - began }, [waveform.buffer]);
    } catch (error) {
      postMessage({ error: error.message });
      take = null;
    }
    again();
  }

  function fade() {
    const { from, to, since } = take.wanted, passed = Math.min(1, (take.made - since) / (FADE * model.sampleRate));
    take.labels = {};
    for (const { name, rows } of model.samples.labels) {
      const none = Array.from({ length: rows }, (_, row) => Number(row === 0)), [one, other] = [from[name] ?? none, to[name] ?? none];
      take.labels[name] = one.map((share, row) => share + passed * (other[row] - share));
    }
    player.ask(take.labels);
    if (passed === 1) take.wanted = null;
  }
}

if (typeof WorkerGlobalScope !== "undefined") serve();
