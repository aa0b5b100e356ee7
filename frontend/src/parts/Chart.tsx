import { words } from "../operations/text";

export interface Point {
  /** Milliseconds since 1970. */
  at: number;
  value: number;
}

interface Props {
  what: string;
  /** Oldest first. */
  points: Point[];
  say: (value: number) => string;
  tall?: boolean;
  /** Milliseconds from its left end to now. */
  span?: number;
  /** That duration in words. */
  over?: string;
  /** Events in that time, with their times. */
  marks?: { at: number; text: string }[];
}

const WIDTH = 300;
const HOUR = 3_600_000;
/** The line is interrupted after this many milliseconds without a figure. */
const GAP = 180_000;

/** Return the points in runs without missing figures. */
export function stretchesOf(points: Point[], gap = GAP): Point[][] {
  const stretches: Point[][] = [];
  for (const point of points) {
    const before = stretches.at(-1)?.at(-1);
    if (before && point.at - before.at <= gap) stretches.at(-1)!.push(point);
    else stretches.push([point]);
  }
  return stretches;
}

/** The last hour of one figure. Screen readers get the current and the highest value instead. */
export function Chart({ what, points, say, tall = false, span = HOUR, over = words.hour.toLowerCase(), marks = [] }: Props) {
  const height = tall ? 90 : 34;
  const most = highest(points);
  const now = Date.now();
  const x = (at: number) => (WIDTH - (Math.max(0, now - at) / span) * WIDTH).toFixed(1);
  const y = (value: number) => (height - 1.5 - (value / (most || 1)) * (height - 4)).toFixed(1);
  const lines = stretchesOf(points, Math.max(GAP, span / 20)).map((stretch) => ({
    key: stretch[0]!.at,
    // Draw a single point as a vertical line.
    line: `M${x(stretch[0]!.at)} ${stretch.length > 1 ? y(stretch[0]!.value) : height}${stretch.map(({ at, value }) => `L${x(at)} ${y(value)}`).join("")}`,
    foot: `L${x(stretch.at(-1)!.at)} ${height}L${x(stretch[0]!.at)} ${height}Z`,
  }));
  return (
    <svg
      className={tall ? "chart tall" : "chart"}
      viewBox={`0 0 ${WIDTH} ${height}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={words.chartSays(what, say(points.at(-1)?.value ?? 0), say(most), over)}
    >
      <path className="chart-ground" d={`M0 ${height - 0.5}H${WIDTH}`} vectorEffect="non-scaling-stroke" />
      {marks
        .filter(({ at }) => now - at < span)
        .map(({ at, text }) => (
          <path key={`${at} ${text}`} className="chart-mark" d={`M${x(at)} 0V${height}`} vectorEffect="non-scaling-stroke">
            <title>{text}</title>
          </path>
        ))}
      {lines.map(({ key, line, foot }) => (
        <g key={key}>
          <path className="chart-area" d={line + foot} />
          <path className="chart-line" d={line} vectorEffect="non-scaling-stroke" />
        </g>
      ))}
    </svg>
  );
}

/** Return the highest of these points: the top of the chart. */
export function highest(points: Point[]): number {
  return Math.max(0, ...points.map(({ value }) => value));
}
