import type { Queue } from "../api/client";
import { duration, number } from "../format";
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
