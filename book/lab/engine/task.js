// The checker: `judge` of dpo_core/task.py in JavaScript, the same grammar and the same exact arithmetic. Values are
// fractions of BigInts; no text is ever evaluated.

const NUMBER = "(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?";
const EXPRESSION = new RegExp(`^-?${NUMBER}(?:[+\\-*/]-?${NUMBER})*$`);
const PIECE = new RegExp(`(-?${NUMBER})([+\\-*/]?)`, "g");
const TARGET = new RegExp(`^-?${NUMBER}$`);
export const MAX_EXPRESSION = 120; // characters

/** A decimal number as a fraction [numerator, denominator], the denominator above 0. */
function fraction(text) {
  const [whole, decimals = ""] = text.split(".");
  return [BigInt(whole.replace("-", "") + decimals) * (text.startsWith("-") ? -1n : 1n), 10n ** BigInt(decimals.length)];
}

const times = ([a, b], [c, d]) => [a * c, b * d];
const inverse = ([a, b]) => (a < 0n ? [-b, -a] : [b, a]);
const plus = ([a, b], [c, d]) => [a * d + c * b, b * d];
const same = ([a, b], [c, d]) => a * d === c * b;

/** How many numbers an expression has, and its value: null where it divides by zero. Undefined for any other text. */
function evaluate(text) {
  if (text.length > MAX_EXPRESSION || !EXPRESSION.test(text)) return undefined;
  const pieces = [...text.matchAll(PIECE)];
  const terms = [];
  let operator = "+";
  for (const [, number, next] of pieces) {
    const value = fraction(number);
    if (operator === "/" && value[0] === 0n) return { numbers: pieces.length, value: null };
    if (operator === "+") terms.push(value);
    else if (operator === "-") terms.push([-value[0], value[1]]);
    else terms.push(times(terms.pop(), operator === "*" ? value : inverse(value)));
    operator = next;
  }
  return { numbers: pieces.length, value: terms.reduce(plus, [0n, 1n]) };
}

/** The prompt of a target, `S54=`; undefined where the text is no number. */
export const promptOf = (text) => (TARGET.test(text) ? `S${text}=` : undefined);

/** A fraction as people write it: 54, -7/2. */
function shown([a, b]) {
  let [x, y] = [a < 0n ? -a : a, b];
  while (y) [x, y] = [y, x % y];
  return x === b ? `${a / b}` : `${a / x}/${b / x}`;
}

/** What the checker finds in one completion: {wellFormed, numbers, value, exact, style}. */
export function judge(prompt, completion) {
  if (!prompt.startsWith("S") || !prompt.endsWith("=") || !TARGET.test(prompt.slice(1, -1)))
    throw new RangeError(`prompt ${JSON.stringify(prompt)} is not S<target>=`);
  const found = completion.endsWith("E") ? evaluate(completion.slice(0, -1)) : undefined;
  if (!found) return { wellFormed: false, numbers: 0, value: null, exact: false, style: false };
  const { numbers, value } = found;
  const exact = value !== null && same(value, fraction(prompt.slice(1, -1)));
  return { wellFormed: true, numbers, value: value && shown(value), exact, style: numbers === 3 };
}
