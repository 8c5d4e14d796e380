// How a query is read: as book/search.py reads the text of the book, whose patterns stand in BOOK_SEARCH.
"use strict";

(() => {
  const { han, number, parted, numbered, simplified } = BOOK_SEARCH;
  const kinds = Object.entries(numbered).map(([kind, pattern]) => [kind, RegExp(pattern, "giu")]);
  const term = RegExp(
    `(?:${Object.keys(numbered).join("|")}) ${number}|[${han}]+|${parted}|(?:(?![${han}])[\\p{Letter}\\p{Number}_])+`,
    "gu",
  );

  /** The query in ordinary width and simplified characters, "Fig. 9.2" and "图 9.2" as "figure 9.2". */
  Search.plainQuery = (query) => {
    const plain = query
      .replace(/[\p{Letter}\p{Number}\uff0e]+/gu, (word) => word.normalize("NFKC"))
      .replace(/\p{Script=Han}/gu, (character) => simplified[character] ?? character);
    return kinds.reduce((text, [kind, pattern]) => text.replace(pattern, `${kind} $1`), plain);
  };

  /** The words by which a text refers to what a term numbers: "图 9.2" for "figure 9.2". */
  Search.reference = (term, text) => {
    for (const [kind, pattern] of kinds)
      for (const match of text.matchAll(pattern)) if (`${kind} ${match[1]}` === term) return match[0];
  };

  splitQuery = (query) =>
    (query.match(term) || []).flatMap((run) =>
      RegExp(`^[${han}]{2}`, "u").test(run) ? [...run].slice(1).map((character, i) => run[i] + character) : [run],
    );

  const parse = Search._parseQuery;
  Search._parseQuery = (query) => parse(Search.plainQuery(query));
})();
