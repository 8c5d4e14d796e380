// The lab's worker: holds the models, samples from them, trains. The page asks with {id, what, ...} and gets {id, ...}
// back; a training sends {what: "progress"} in between. Nothing here touches the page, so the page never freezes.

import { Llama } from "./llama.js";
import { answer, uniforms } from "./sampling.js";
import { read, write } from "./safetensors.js";
import { judge, promptOf } from "./task.js";
import { VOCABULARY, decode, encode } from "./tokens.js";
import { optimum, predicted, shares, wilson } from "./world.js";

const CONFIG_FILES = ["config.json", "generation_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"];
const EVERY = 20; // steps between two measurements

const fetched = new Map();

/** A file of the site, once. */
function get(path, as = "json") {
  const key = `${as} ${path}`;
  if (!fetched.has(key)) {
    const wanted = fetch(new URL(path, import.meta.url)).then((reply) => {
      if (!reply.ok) throw new Error(`${path}: ${reply.status}`);
      return reply[as]();
    });
    wanted.catch(() => fetched.delete(key));
    fetched.set(key, wanted);
  }
  return fetched.get(key);
}

const models = new Map(); // by name: Promise of {config, tensors, llama}

/** A shipped model, or the one that is being trained. */
function model(name) {
  if (!models.has(name)) {
    const folder = `../models/${name}.model`;
    const loaded = Promise.all([get(`${folder}/config.json`), get(`${folder}/model.safetensors`, "arrayBuffer")]).then(([config, file]) => {
      const tensors = read(file);
      return { config, tensors, llama: new Llama(config, tensors) };
    });
    loaded.catch(() => models.delete(name));
    models.set(name, loaded);
  }
  return models.get(name);
}

/** The likeliest tokens of a step, most likely first, with the one that was drawn. */
function step({ probs }, id) {
  const order = Array.from(probs, (p, token) => ({ token: VOCABULARY[token], p })).filter(({ p }) => p > 0);
  order.sort((a, b) => b.p - a.p);
  return { drawn: VOCABULARY[id], p: probs[id], likeliest: order.slice(0, 4) };
}

const tasks = {
  /** One answer: its text, verdict, log-probability, and the distribution before each token. */
  async ask({ name, target, settings, seed }) {
    const prompt = promptOf(target);
    const { llama } = await model(name);
    const { ids, steps } = answer(llama, llama.read(encode(prompt)), settings, uniforms(seed));
    const text = decode(ids);
    return { text, verdict: judge(prompt, text), steps: ids.map((id, t) => step(steps[t], id)) };
  },

  /** Shares over many answers to one prompt, with intervals, and what is known of them beforehand. */
  async shares({ name, target, settings, count, seed }) {
    const prompt = promptOf(target);
    const [{ llama }, world] = await Promise.all([model(name), get("../world.json")]);
    const start = llama.read(encode(prompt));
    const uniform = uniforms(seed);
    const found = { style: 0, exact: 0, both: 0 };
    let tokens = 0;
    const began = performance.now();
    for (let k = 0; k < count; k++) {
      const { ids } = answer(llama, start, settings, uniform);
      tokens += ids.length;
      const verdict = judge(prompt, decode(ids));
      found.style += verdict.style;
      found.exact += verdict.exact;
      found.both += verdict.style && verdict.exact;
    }
    const seconds = (performance.now() - began) / 1000;
    const rates = world.prompts.find((one) => `S${one.target}=` === prompt)?.rates;
    return {
      shares: Object.fromEntries(Object.entries(found).map(([key, hits]) => [key, wilson(hits, count)])),
      population: rates && shares(rates),
      predicted: rates && shares(optimum(rates, world.dpo.reward, world.dpo.beta), rates),
      speed: tokens / seconds,
    };
  },

  /** Logits after each token of a text: what a test compares with Python. */
  async logits({ name, text }) {
    const { llama } = await model(name);
    const cache = llama.start();
    return encode(text).map((id) => Array.from(llama.step(id, cache)));
  },

  /** What theory says of a training, before it begins. */
  async predict({ reward, beta }) {
    const world = await get("../world.json");
    return { start: predicted(world), end: predicted(world, reward, beta) };
  },

  /** A new run; it waits for `go`. */
  async prepare({ settings, devices }) {
    const code = await import("./training.js");
    const [{ config, tensors, llama }, world, answers] = await Promise.all([model("gen"), get("../world.json"), get("../pairs.json")]);
    run?.training.dispose();
    run = undefined;
    const { training, where } = await code.begin(config, tensors, answers, settings, devices);
    run = { code, training, where, reference: llama, world, going: false };
    return { where, pairs: training.pairs.length, least: training.least(), first: await measured() };
  },

  /** Train until the last step, or until `pause`. */
  async go({ steps = Infinity }) {
    const mine = run;
    mine.going = true;
    const last = Math.min(mine.training.settings.steps, mine.training.step + steps);
    try {
      while (mine === run && mine.going && mine.training.step < last) {
        const began = performance.now();
        const line = await mine.training.advance();
        line.seconds = (performance.now() - began) / 1000;
        const due = line.step % EVERY === 0 || line.step === last;
        postMessage({ what: "progress", line, measured: due ? await measured() : undefined });
        await new Promise((resolve) => setTimeout(resolve)); // hear what the page says meanwhile
      }
    } finally {
      mine.going = false;
    }
    return { step: mine.training.step };
  },

  async pause() {
    if (run) run.going = false;
    return {};
  },

  /** The trained model as a Hugging Face folder in a zip file. */
  async folder() {
    const { config, weights } = run.training;
    const [{ unpack }, { zipSync }] = await Promise.all([import("./network.js"), import("../vendor/fflate.js")]);
    const files = { "model.safetensors": write(await unpack(config, weights)) };
    for (const name of CONFIG_FILES) files[name] = new TextEncoder().encode(await get(`../models/gen.model/${name}`, "text"));
    return { zip: zipSync({ "page.model": files }, { level: 0 }) };
  },

  /** The pairs of the run as lines of JSON, which `dpo-core train-dpo --pairs-file` reads. */
  async pairs() {
    return { text: run.training.pairs.map(({ prob, ...row }) => JSON.stringify({ ...row, preference_prob: prob }) + "\n").join("") };
  },
};

let run;

/** Measure the policy as it is now, and let the page ask it from here on. */
async function measured() {
  const { code, training, reference, world } = run;
  const llama = await training.model();
  models.set("page", Promise.resolve({ llama }));
  const { count, kl, style, exact, both } = code.measure(llama, reference, world, code.ASKED, training.step + 1);
  return { step: training.step, kl, style: wilson(style, count), exact: wilson(exact, count), both: wilson(both, count) };
}

onmessage = async ({ data: { id, what, ...asked } }) => {
  try {
    postMessage({ id, result: await tasks[what](asked) });
  } catch (error) {
    postMessage({ id, error: `${error.message ?? error}` });
  }
};
