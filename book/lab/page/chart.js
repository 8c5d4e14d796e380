// Small line charts as SVG, in the colours of the page (css/lab.css), so that light and dark need nothing here.
"use strict";

(() => {
  const [WIDTH, HEIGHT] = [320, 190];
  const MARGIN = { top: 12, right: 12, bottom: 34, left: 46 };

  const smoothed = (points, width) =>
    points.map(([x], k) => {
      const last = points.slice(Math.max(0, k + 1 - width), k + 1);
      return [x, last.reduce((sum, [, y]) => sum + y, 0) / last.length];
    });

  /** A chart inside `place`. It is drawn anew with each `draw`.
   *
   * say: {title, x} in the page's language; x, y: the ranges [from, to] that it has at least; keys: its legend.
   */
  Lab.chart = (place, { say, x, y, keys = [], format = (value) => `${value}` }) => {
    const svg = Lab.make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": say.title, class: "lab-chart" });
    const legend = Lab.make("p", { class: "lab-keys" });
    if (keys.length) Lab.legend(legend, keys);
    place.replaceChildren(Lab.make("p", { class: "lab-chart-title" }, say.title), legend, svg);

    /** Draw series {points: [[x, y]...], look, bars: [[x, low, high]...], dots, smooth} and levels {value, look}. With
     *  `smooth` a curve is the mean of the last so many points, and the points themselves stand pale behind it. */
    const draw = (series, levels = []) => {
      const all = series.flatMap(({ points, bars = [] }) => [...points.map(([, value]) => value), ...bars.flatMap(([, low, high]) => [low, high])]);
      all.push(...levels.map(({ value }) => value), ...y);
      const far = series.flatMap(({ points }) => points.map(([value]) => value));
      const [low, high] = [Math.min(...all), Math.max(...all)];
      const across = d3.scaleLinear([Math.min(x[0], ...far), Math.max(x[1], ...far)], [MARGIN.left, WIDTH - MARGIN.right]);
      const up = d3.scaleLinear([low, high === low ? low + 1 : high], [HEIGHT - MARGIN.bottom, MARGIN.top]).nice(5);
      const line = d3.line((point) => across(point[0]), (point) => up(point[1]));
      svg.replaceChildren(
        ...up.ticks(4).flatMap((value) => [
          Lab.make("line", { class: "grid", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: up(value), y2: up(value) }),
          Lab.make("text", { class: "tick", x: MARGIN.left - 6, y: up(value), dy: "0.32em", "text-anchor": "end" }, format(value)),
        ]),
        ...across.ticks(4).map((value) =>
          Lab.make("text", { class: "tick", x: across(value), y: HEIGHT - MARGIN.bottom + 15, "text-anchor": "middle" }, `${value}`),
        ),
        Lab.make("text", { class: "tick", x: WIDTH - MARGIN.right, y: HEIGHT - 4, "text-anchor": "end" }, say.x),
        ...levels.map(({ value, look }) =>
          Lab.make("line", { class: `level ${look}`, x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: up(value), y2: up(value) }),
        ),
        ...series.flatMap(({ points, bars = [], look, dots, smooth }) => [
          ...bars.map(([at, from, to]) => Lab.make("line", { class: `bar ${look}`, x1: across(at), x2: across(at), y1: up(from), y2: up(to) })),
          ...(smooth ? [Lab.make("path", { class: `curve raw ${look}`, d: line(points) ?? "" })] : []),
          Lab.make("path", { class: `curve ${look}`, d: line(smooth ? smoothed(points, smooth) : points) ?? "" }),
          ...(dots ? points.map((point) => Lab.make("circle", { class: `dot ${look}`, cx: across(point[0]), cy: up(point[1]), r: 2.5 })) : []),
        ]),
      );
    };
    draw([]);
    return { draw, svg };
  };

  /** A legend line: {look, label, dashed}. */
  Lab.legend = (place, entries) => {
    place.replaceChildren(
      ...entries.map(({ look, label, dashed }) =>
        Lab.make(
          "span",
          { class: "lab-key" },
          Lab.make("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, Lab.make("line", { class: `${dashed ? "level" : "curve"} ${look}`, x1: 1, x2: 21, y1: 4, y2: 4 })),
          label,
        ),
      ),
    );
  };
})();
