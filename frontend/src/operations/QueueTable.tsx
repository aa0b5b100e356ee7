import { api, ask, type Queue, type QueueSeries } from "../api/client";
import { duration, number } from "../format";
import { Chart } from "../parts/Chart";
import { words } from "./text";
import { inFlight } from "./Figures";
import type { Question } from "./Question";


interface TableProps {
  queues: Queue[];
  series: QueueSeries[] | undefined;
  ask: (question: Question) => void;
}

/** The table of queues, with their controls. */
export function QueueTable({ queues, series, ask: put }: TableProps) {
  return (
    <section>
      <h2 id="queues">{words.queues}</h2>
      <div className="table-frame" tabIndex={0} role="region" aria-labelledby="queues">
        <table className="queues">
          <thead>
            <tr>
              <th scope="col">{words.queue}</th>
              <th scope="col" className="amount">
                {words.figures.waiting}
              </th>
              <th scope="col" className="amount">
                {words.figures.flight}
              </th>
              <th scope="col" className="amount">
                {words.figures.rate}
              </th>
              <th scope="col" className="amount">
                {words.figures.oldest}
              </th>
              <th scope="col" className="amount">
                {words.figures.retrying}
              </th>
              <th scope="col" className="amount">
                {words.figures.dead}
              </th>
              <th scope="col">{words.hour}</th>
              <th scope="col">{words.decide}</th>
            </tr>
          </thead>
          <tbody>
            {queues.map((queue) => (
              <QueueRow key={queue.queue} queue={queue} series={series?.find((each) => each.queue === queue.queue)} ask={put} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Return the confirmation for resuming a queue. */
export function resuming(queue: Queue): Question {
  const params = { path: { queue: queue.queue } };
  return {
    title: words.resumeNamed(queue.queue),
    body: <p>{words.resumeBody(queue.queue, queue.pending)}</p>,
    action: words.resume,
    act: () => ask(api.POST("/api/ops/queues/{queue}/resume/", { params })).then(() => words.resumeDone(queue.queue)),
  };
}

interface RowProps {
  queue: Queue;
  series: QueueSeries | undefined;
  ask: (question: Question) => void;
}

function QueueRow({ queue, series, ask: put }: RowProps) {
  const params = { path: { queue: queue.queue } };
  const question: Question = queue.paused
    ? resuming(queue)
    : {
        title: words.pauseNamed(queue.queue),
        body: <p>{words.pauseBody(queue.queue)}</p>,
        action: words.pause,
        act: () => ask(api.POST("/api/ops/queues/{queue}/pause/", { params })).then(() => words.pauseDone(queue.queue)),
      };
  return (
    <tr data-queue={queue.queue}>
      <th scope="row">
        {queue.queue} {queue.paused && <span className="state retrying">{words.paused}</span>}
      </th>
      <td className="amount">{number(queue.pending)}</td>
      <td className="amount">{number(inFlight(queue))}</td>
      <td className="amount">{number(queue.completed_per_minute)}</td>
      <td className="amount">{queue.oldest_pending_seconds === null ? "–" : duration(queue.oldest_pending_seconds)}</td>
      <td className={queue.retrying ? "amount warn" : "amount"}>{number(queue.retrying)}</td>
      <td className={queue.dead ? "amount bad" : "amount"}>{number(queue.dead)}</td>
      <td className="spark">
        <Chart
          what={`${queue.queue}, ${words.chartRate}`}
          points={(series?.points ?? []).map((point) => ({ at: Date.parse(point.at), value: point.completed_per_minute }))}
          say={(value) => number(Math.round(value))}
        />
      </td>
      <td>
        <button type="button" className="button small quiet" onClick={() => put(question)}>
          {queue.paused ? words.resume : words.pause} <span className="unseen">{queue.queue}</span>
        </button>
      </td>
    </tr>
  );
}
