// The book's Llama (chapter 2), one token at a time, for reading and sampling: plain loops over the numbers of a
// model.safetensors. What trains is network.js.

/** y = W x for the rows of a matrix, (out, in); widths are multiples of 4, so four sums can run side by side. */
function project(weight, x, out) {
  const width = x.length;
  for (let row = 0, at = 0; row < out.length; row++) {
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < width; i += 4, at += 4) {
      a += weight[at] * x[i];
      b += weight[at + 1] * x[i + 1];
      c += weight[at + 2] * x[i + 2];
      d += weight[at + 3] * x[i + 3];
    }
    out[row] = a + b + (c + d);
  }
  return out;
}

/** x / sqrt(mean(x²) + eps) · weight. */
function normed(x, weight, eps, out) {
  let squares = 0;
  for (let i = 0; i < x.length; i++) squares += x[i] * x[i];
  const scale = 1 / Math.sqrt(squares / x.length + eps);
  for (let i = 0; i < x.length; i++) out[i] = x[i] * scale * weight[i];
  return out;
}

/** A model: its configuration (config.json) and its tensors by Hugging Face's names. */
export class Llama {
  constructor(config, tensors) {
    this.config = config;
    this.tensors = tensors;
    this.width = config.hidden_size;
    this.heads = config.num_attention_heads;
    this.size = this.width / this.heads;
    const of = (name) => tensors[`${name}.weight`].data;
    this.embedding = of("model.embed_tokens");
    this.norm = of("model.norm");
    this.head = of("lm_head");
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, layer) => {
      const part = (name) => of(`model.layers.${layer}.${name}`);
      return {
        before: part("input_layernorm"),
        query: part("self_attn.q_proj"),
        key: part("self_attn.k_proj"),
        value: part("self_attn.v_proj"),
        out: part("self_attn.o_proj"),
        between: part("post_attention_layernorm"),
        gate: part("mlp.gate_proj"),
        up: part("mlp.up_proj"),
        down: part("mlp.down_proj"),
      };
    });
    const half = this.size / 2;
    const angle = (position, i) => position * config.rope_theta ** (-i / half);
    const table = (f) =>
      Float64Array.from({ length: config.max_position_embeddings * half }, (_, k) => f(angle(Math.floor(k / half), k % half)));
    this.cos = table(Math.cos);
    this.sin = table(Math.sin);
  }

  /** An empty cache: the keys and values of each layer, one after the other. */
  start() {
    return { length: 0, keys: this.layers.map(() => []), values: this.layers.map(() => []) };
  }

  /** A cache that goes on from another one without changing it. */
  fork(cache) {
    return { length: cache.length, keys: cache.keys.map((rows) => rows.slice()), values: cache.values.map((rows) => rows.slice()) };
  }

  /** Turn each coordinate pair (i, i + K/2) of every head by the position's angle. */
  turn(x, position) {
    const half = this.size / 2;
    for (let head = 0; head < this.heads; head++)
      for (let i = 0; i < half; i++) {
        const [a, b] = [head * this.size + i, head * this.size + i + half];
        const [cos, sin] = [this.cos[position * half + i], this.sin[position * half + i]];
        [x[a], x[b]] = [x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin];
      }
    return x;
  }

  /** The logits after one more token; the cache grows by it. */
  step(id, cache) {
    const { width, heads, size, config } = this;
    const position = cache.length++;
    const fresh = (length) => new Float64Array(length);
    const x = Float64Array.from(this.embedding.subarray(id * width, (id + 1) * width));
    const h = fresh(width);
    for (const [l, layer] of this.layers.entries()) {
      normed(x, layer.before, config.rms_norm_eps, h);
      const query = this.turn(project(layer.query, h, fresh(width)), position);
      const [keys, values] = [cache.keys[l], cache.values[l]];
      keys.push(this.turn(project(layer.key, h, fresh(width)), position));
      values.push(project(layer.value, h, fresh(width)));
      const mixed = fresh(width);
      const weights = fresh(keys.length);
      for (let head = 0; head < heads; head++) {
        const [from, to] = [head * size, (head + 1) * size];
        let largest = -Infinity;
        for (let t = 0; t < keys.length; t++) {
          let score = 0;
          for (let i = from; i < to; i++) score += query[i] * keys[t][i];
          weights[t] = score / Math.sqrt(size);
          largest = Math.max(largest, weights[t]);
        }
        let total = 0;
        for (let t = 0; t < keys.length; t++) total += weights[t] = Math.exp(weights[t] - largest);
        for (let t = 0; t < keys.length; t++)
          for (let i = from; i < to; i++) mixed[i] += (weights[t] / total) * values[t][i];
      }
      project(layer.out, mixed, h);
      for (let i = 0; i < width; i++) x[i] += h[i];
      normed(x, layer.between, config.rms_norm_eps, h);
      const gate = project(layer.gate, h, fresh(config.intermediate_size));
      const up = project(layer.up, h, fresh(config.intermediate_size));
      for (let i = 0; i < gate.length; i++) gate[i] *= up[i] / (1 + Math.exp(-gate[i]));
      project(layer.down, gate, h);
      for (let i = 0; i < width; i++) x[i] += h[i];
    }
    return project(this.head, normed(x, this.norm, config.rms_norm_eps, h), fresh(config.vocab_size));
  }

  /** Read a prompt: {logits, cache} after its last token. */
  read(ids) {
    const cache = this.start();
    let logits;
    for (const id of ids) logits = this.step(id, cache);
    return { logits, cache };
  }
}
