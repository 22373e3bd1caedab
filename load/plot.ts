/** Line plots as inline SVG: no script, nothing from elsewhere, colours by the style sheet of the page. */

export type Plot = {
  readonly title: string;
  readonly unit: string;
  /** What stands along the bottom, one per value. */
  readonly xs: readonly (number | string)[];
  readonly xUnit: string;
  readonly series: readonly { readonly name: string; readonly values: readonly (number | null)[] }[];
  /** By powers of ten, for what spans several of them. */
  readonly isLogarithmic?: boolean;
  /** A line across: what must not be passed. */
  readonly limit?: number;
  /** The first x that counts: what lies before is shown as set apart. */
  readonly from?: number;
};

/** Styles of all plots of a page; `--c0` to `--c3` are the series. */
export const plotStyles = `
svg { width: 100%; height: auto; display: block }
svg text { font-size: 11px; fill: var(--muted); font-variant-numeric: tabular-nums }
.grid { stroke: var(--grid); stroke-width: 1 }
.axis { stroke: var(--axis); stroke-width: 1 }
.limit { stroke: var(--bad); stroke-width: 1; stroke-dasharray: 5 4 }
.before { fill: var(--grid); opacity: .5 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
.hover { fill: transparent }
.hover:hover { fill: var(--ink); opacity: .08 }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 2px 0 6px; font-size: 13px; color: var(--muted) }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 6px; vertical-align: middle }
`;

const width = 720;
const height = 220;
const margin = { left: 56, right: 12, top: 10, bottom: 30 };
const bottomLabelsMax = 10;

/** A figure with its legend, or nothing where nothing was measured. */
export function plotOf(plot: Plot): string {
  const { title, unit, xs, xUnit, series, limit, from } = plot;
  const known = series.filter(({ values }) => values.some((value) => value !== null));
  if (known.length === 0 || xs.length < 2) return '';
  const values = known.flatMap((one) => one.values.filter((value) => value !== null));
  const scale = scaleOf(plot.isLogarithmic === true, values, limit);
  const [plotWidth, plotHeight] = [width - margin.left - margin.right, height - margin.top - margin.bottom];
  const x = (n: number): number => margin.left + (n * plotWidth) / (xs.length - 1);
  const y = (value: number): number => margin.top + (1 - scale.share(value)) * plotHeight;
  const right = width - margin.right;
  const across = (value: number, name: string): string =>
    `<line class="${name}" x1="${margin.left}" x2="${right}" y1="${fixed(y(value))}" y2="${fixed(y(value))}"/>`;

  const parts: string[] = [];
  const counted = from === undefined ? -1 : xs.findIndex((one) => Number(one) >= from);
  if (counted > 0) {
    const to = fixed(x(counted) - margin.left);
    parts.push(`<rect class="before" x="${margin.left}" y="${margin.top}" width="${to}" height="${plotHeight}"/>`);
  }
  for (const tick of scale.ticks) {
    parts.push(across(tick, tick === scale.ticks[0] ? 'axis' : 'grid'));
    parts.push(
      `<text x="${margin.left - 8}" y="${fixed(y(tick) + 4)}" text-anchor="end">${escaped(short(tick))}</text>`,
    );
  }
  const step = Math.ceil(xs.length / bottomLabelsMax);
  xs.forEach((label, n) => {
    if (n % step === 0)
      parts.push(`<text x="${fixed(x(n))}" y="${height - 12}" text-anchor="middle">${escaped(String(label))}</text>`);
  });
  if (limit !== undefined && scale.share(limit) <= 1) parts.push(across(limit, 'limit'));
  known.forEach((one, n) => {
    for (const run of runsOf(one.values)) {
      const points = run.map(([at, value]) => `${fixed(x(at))},${fixed(y(value))}`).join(' ');
      // A value between two gaps is a line without length: its round ends show it.
      parts.push(
        `<polyline class="line" style="stroke:var(--c${n})" points="${points}${run.length === 1 ? ` ${points}` : ''}"/>`,
      );
    }
  });
  xs.forEach((label, n) => {
    const told = known.map((one) => `${one.name}: ${one.values[n] == null ? '–' : `${short(one.values[n])} ${unit}`}`);
    const half = plotWidth / (xs.length - 1) / 2;
    parts.push(
      `<rect class="hover" x="${fixed(x(n) - half)}" y="${margin.top}" width="${fixed(2 * half)}" height="${plotHeight}"><title>${escaped([`${label} ${xUnit}`, ...told].join('\n'))}</title></rect>`,
    );
  });
  const legend = known.map(({ name }, n) => `<span><i style="background:var(--c${n})"></i>${escaped(name)}</span>`);
  if (limit !== undefined && scale.share(limit) <= 1)
    legend.push(`<span><i style="background:var(--bad)"></i>must stay below ${short(limit)} ${escaped(unit)}</span>`);
  return `<figure><figcaption>${escaped(title)} <small>${escaped(unit)}, by ${escaped(xUnit)}</small></figcaption><div class="legend">${legend.join('')}</div><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(title)}">${parts.join('')}</svg></figure>`;
}

type Scale = { share(value: number): number; readonly ticks: readonly number[] };

function scaleOf(isLogarithmic: boolean, values: readonly number[], limit: number | undefined): Scale {
  const highest = Math.max(...values);
  // A limit that is far away would press everything flat.
  const top = limit !== undefined && limit <= highest * 2 ? Math.max(highest, limit) : highest;
  if (!isLogarithmic) {
    const step = niceStep(Math.max(top, 1) / 4);
    const steps = Math.max(1, Math.ceil(top / step));
    return { share: (value) => value / (steps * step), ticks: Array.from({ length: steps + 1 }, (_, n) => n * step) };
  }
  const low = Math.floor(Math.log10(Math.max(0.1, Math.min(...values))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(0.1, top))));
  return {
    share: (value) => Math.max(0, (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)),
    ticks: Array.from({ length: high - low + 1 }, (_, n) => 10 ** (low + n)),
  };
}

/** 1, 2 or 5 times a power of ten, not below `rough`. */
function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  return ([1, 2, 5].find((times) => times * power >= rough) ?? 10) * power;
}

/** Stretches without a gap. */
function runsOf(values: readonly (number | null)[]): readonly (readonly (readonly [at: number, value: number])[])[] {
  const runs: [number, number][][] = [];
  let open = false;
  values.forEach((value, at) => {
    if (value !== null) {
      if (open) runs.at(-1)!.push([at, value]);
      else runs.push([[at, value]]);
    }
    open = value !== null;
  });
  return runs;
}

const fixed = (value: number): string => value.toFixed(1);
const short = (value: number): string =>
  value.toLocaleString('en', { maximumFractionDigits: Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0 });

/** Text as it may stand in a page. */
export const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
