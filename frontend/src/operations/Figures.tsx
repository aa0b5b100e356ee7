import type { Queue, QueueSeries } from "../api/client";
import { duration, number } from "../format";
import { Chart, highest, type Point } from "../parts/Chart";
import { Failure } from "../parts/states";
import { words } from "./text";


export const inFlight = (queue: Queue) => queue.published + queue.running;
const sum = (queues: Queue[], of: (queue: Queue) => number) => queues.reduce((before, queue) => before + of(queue), 0);
const waitOf = (queue: Queue) => queue.oldest_pending_seconds ?? 0;

/** All queues together, as they are now. */
export function Figures({ queues }: { queues: Queue[] }) {
  const oldest = Math.max(...queues.map(waitOf));
  const dead = sum(queues, (queue) => queue.dead);
  const retrying = sum(queues, (queue) => queue.retrying);
  const figures: [string, string, string | undefined][] = [
    [words.figures.waiting, number(sum(queues, (queue) => queue.pending)), undefined],
    [words.figures.flight, number(sum(queues, inFlight)), undefined],
    [words.figures.rate, number(sum(queues, (queue) => queue.completed_per_minute)), undefined],
    [words.figures.oldest, oldest ? duration(oldest) : words.none, undefined],
    [words.figures.retrying, number(retrying), retrying ? "warn" : undefined],
    [words.figures.dead, number(dead), dead ? "bad" : undefined],
  ];
  return (
    <dl className="figures">
      {figures.map(([name, value, tone]) => (
        <div key={name} className={tone}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

type Sample = QueueSeries["points"][number];

/** Return one figure of all queues over time: `of` each point, added up. */
function together(series: QueueSeries[], of: (point: Sample) => number): Point[] {
  const sums = new Map<string, number>();
  for (const { points } of series) for (const point of points) sums.set(point.at, (sums.get(point.at) ?? 0) + of(point));
  return [...sums].map(([at, value]) => ({ at: Date.parse(at), value })).sort((one, other) => one.at - other.at);
}

/** Return the slowest queue's lag over time. */
function slowest(series: QueueSeries[]): Point[] {
  const most = new Map<string, number>();
  for (const { points } of series)
    for (const { at, lag_seconds } of points)
      if (lag_seconds !== null) most.set(at, Math.max(most.get(at) ?? 0, lag_seconds)); // Null: nothing was done.
  return [...most].map(([at, value]) => ({ at: Date.parse(at), value })).sort((one, other) => one.at - other.at);
}

const depth = (point: Sample) => point.pending + point.published + point.running;

/** All queues together, in the last hour. */
export function Hour({ series, error }: { series: QueueSeries[] | undefined; error: Error | undefined }) {
  const charts: [string, Point[], (value: number) => string][] = series
    ? [
        [words.chartWaiting, together(series, depth), (value) => number(Math.round(value))],
        [words.chartRate, together(series, (point) => point.completed_per_minute), (value) => number(Math.round(value))],
        [words.chartLag, slowest(series), duration],
      ]
    : [];
  const empty = series?.every((queue) => queue.points.length === 0);
  return (
    <section aria-labelledby="hour">
      <h2 id="hour">{words.hour}</h2>
      {error && <Failure error={error} />}
      {empty && <p className="hint">{words.noPoints}</p>}
      <div className="charts">
        {charts.map(([name, points, say]) => (
          <figure key={name} className="chart-sheet">
            <figcaption>
              <span>{name}</span>
              <span>{words.peak(say(highest(points)))}</span>
            </figcaption>
            <Chart what={name} points={points} say={say} tall />
            <p className="axis hint" aria-hidden="true">
              <span>{words.ago}</span>
              <span>{words.now}</span>
            </p>
          </figure>
        ))}
      </div>
    </section>
  );
}
