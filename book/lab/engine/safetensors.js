// Reads and writes safetensors files of float32: eight bytes of length, a header in JSON, then the numbers.

/** The tensors of a file, by name: {shape, data}. */
export function read(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  return Object.fromEntries(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [start, end] }]) => {
      if (dtype !== "F32") throw new TypeError(`${name} is ${dtype}; needed is F32`);
      return [name, { shape, data: new Float32Array(buffer.slice(8 + length + start, 8 + length + end)) }];
    }),
  );
}

/** A file of these tensors, as transformers and dpo_core read it. */
export function write(tensors) {
  let end = 0;
  const header = { __metadata__: { format: "pt" } };
  for (const [name, { shape, data }] of Object.entries(tensors))
    header[name] = { dtype: "F32", shape, data_offsets: [end, (end += data.byteLength)] };
  const text = JSON.stringify(header);
  const head = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
  const file = new Uint8Array(8 + head.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(head.length), true);
  file.set(head, 8);
  for (const [name, { data }] of Object.entries(tensors))
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 8 + head.length + header[name].data_offsets[0]);
  return file;
}
