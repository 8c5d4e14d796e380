// Characters to ids and back; `dpo_core/tokenizer.py` in JavaScript. One character is one token.

export const VOCABULARY = "PSEU0123456789+-*/.:=_";
export const [PAD, BOS, EOS] = [0, 1, 2];

const idOf = new Map([...VOCABULARY].map((character, id) => [character, id]));

/** The ids of a text, one a character. Throws where a character is unknown. */
export function encode(text) {
  return [...text].map((character) => {
    const id = idOf.get(character);
    if (id === undefined) throw new RangeError(`unknown character ${JSON.stringify(character)}`);
    return id;
  });
}

/** The text of ids. */
export const decode = (ids) => Array.from(ids, (id) => VOCABULARY[id]).join("");
