// Plays what the agent says: pieces of pcm_* or ulaw_8000, one after the other without a gap.

const START_DELAY = 0.06; // seconds; the first piece waits, so that the second is there in time
const FADE = 0.008; // seconds; a stop without a fade clicks

/** A queue of sound. `onplaying(true | false)` is called when it begins and runs dry. */
export class Player {
  #decode = null;
  #rate = 0;
  #context = null;
  #mute = null;
  #meter = null;
  #voice = null;
  #sources = new Set();
  #next = 0;
  #muted = false;
  #onplaying;

  constructor(onplaying) {
    this.#onplaying = onplaying;
  }

  /** Take a format such as `pcm_16000`; an unknown one is an Error. */
  open(format) {
    const found = /^(pcm|ulaw)_(\d+)$/.exec(format ?? "");
    if (!found) throw new Error(`The cloud announced sound in ${format}, which is not known here.`);
    this.#decode = found[1] === "pcm" ? fromPcm : fromUlaw;
    this.#rate = Number(found[2]);
  }

  get playing() {
    return this.#sources.size > 0;
  }

  set muted(muted) {
    this.#muted = muted;
    this.#mute?.gain.setTargetAtTime(muted ? 0 : 1, this.#context.currentTime, FADE);
  }

  /** Queue a piece. */
  add(base64) {
    const samples = this.#decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
    if (samples.length === 0) return;
    this.#prepare();
    const buffer = this.#context.createBuffer(1, samples.length, this.#rate);
    buffer.copyToChannel(samples, 0);
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#voice);
    source.onended = () => this.#finished(source);
    const now = this.#context.currentTime;
    if (this.#next <= now) this.#next = now + START_DELAY;
    source.start(this.#next);
    // Whole samples, added up: the pieces touch exactly.
    this.#next += samples.length / this.#rate;
    this.#sources.add(source);
    if (this.#sources.size === 1) this.#onplaying(true);
  }

  /** Be silent at once; what was queued is gone. */
  stop() {
    if (!this.#context || !this.playing) return;
    const now = this.#context.currentTime;
    this.#voice.gain.setValueAtTime(1, now);
    this.#voice.gain.linearRampToValueAtTime(0, now + FADE);
    for (const source of this.#sources) {
      source.onended = null;
      source.stop(now + FADE);
    }
    this.#sources.clear();
    this.#next = 0;
    this.#renewVoice();
    this.#onplaying(false);
  }

  /** How loud it is right now, from 0 to 1, after the mute button. */
  level() {
    if (!this.#meter || !this.playing) return 0;
    const wave = new Float32Array(this.#meter.fftSize);
    this.#meter.getFloatTimeDomainData(wave);
    const power = wave.reduce((sum, value) => sum + value * value, 0) / wave.length;
    return Math.min(1, Math.sqrt(power) * 4);
  }

  /** Let go of the sound card. */
  close() {
    this.stop();
    this.#context?.close();
    this.#context = this.#mute = this.#meter = this.#voice = null;
  }

  /** Browsers hold sound back until the user has done something: call it when one has. */
  wake() {
    if (this.#context?.state === "suspended") this.#context.resume();
  }

  #prepare() {
    if (this.#context) return;
    // At the rate of the pieces: resampling each by itself would click at every seam.
    this.#context = new AudioContext({ sampleRate: this.#rate });
    this.#mute = this.#context.createGain();
    this.#mute.gain.value = this.#muted ? 0 : 1;
    this.#meter = this.#context.createAnalyser();
    this.#meter.fftSize = 512;
    this.#mute.connect(this.#meter).connect(this.#context.destination);
    this.#renewVoice();
    this.wake();
  }

  #renewVoice() {
    this.#voice = this.#context.createGain();
    this.#voice.connect(this.#mute);
  }

  #finished(source) {
    this.#sources.delete(source);
    if (!this.playing) this.#onplaying(false);
  }
}

/** 16-bit little-endian; a last odd byte is no sample. */
function fromPcm(bytes) {
  const view = new DataView(bytes.buffer, 0, bytes.length & ~1);
  const samples = new Float32Array(view.byteLength / 2);
  for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
  return samples;
}

function fromUlaw(bytes) {
  return Float32Array.from(bytes, (byte) => ULAW[byte]);
}

// ITU-T G.711: inverted bits; sign, three bits of exponent, four of mantissa; bias 33.
const ULAW = Float32Array.from({ length: 256 }, (_, byte) => {
  const bits = ~byte & 0xff;
  const size = ((((bits & 0x0f) << 1) + 33) << ((bits >> 4) & 7)) - 33;
  return (bits & 0x80 ? -size : size) / 8192;
});
