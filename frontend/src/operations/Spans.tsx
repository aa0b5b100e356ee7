import { useState } from "react";

import { api, ask, type FiguresLine } from "../api/client";
import { useEvery } from "../every";
import { duration, moment, number } from "../format";
import { useLoad } from "../load";
import { Chart, highest, type Point } from "../parts/Chart";
import { Failure, Skeleton } from "../parts/states";
import { words } from "./text";

const MINUTE = 60_000;
const SPANS = { "15m": 15 * MINUTE, "6h": 360 * MINUTE, "7d": 10_080 * MINUTE } as const;
type Span = keyof typeof SPANS;
/** Milliseconds between two requests. */
const PACE = 10_000;

const rate = (value: number) => number(Math.round(value * 10) / 10);
const seconds = (value: number | null) => (value === null ? "–" : value >= 3600 ? `≥ ${duration(value)}` : duration(value));

/** Throughput, failures and lag of all queues or of one task, over a span, with releases and operators' actions. */
export function Spans() {
  const [span, setSpan] = useState<Span>("15m");
  const [by, setBy] = useState<"queues" | "tasks">("tasks");
  const [chosen, setChosen] = useState<{ queue: string; task: string }>();
  const query = { span, ...(chosen && { queue: chosen.queue }), ...(chosen?.task && { task: chosen.task }) };
  const figures = useLoad(`figures ${JSON.stringify(query)}`, (signal) => ask(api.GET("/api/ops/figures/", { params: { query }, signal })));
  useEvery(PACE, figures.reload);
  const found = figures.value;
  const over = words.overSpan(words.spans[span]);
  const marks = (found?.marks ?? []).map((mark) => ({ at: Date.parse(mark.at), text: words.markOf(mark.kind, mark.text) }));
  const line = (of: (point: NonNullable<typeof found>["points"][number]) => number | null): Point[] =>
    (found?.points ?? []).flatMap((point) => {
      const value = of(point);
      return value === null ? [] : [{ at: Date.parse(point.at), value }];
    });
  const charts: [string, Point[], (value: number) => string][] = [
    [words.chartRate, line((point) => point.succeeded_per_minute), rate],
    [words.chartFailed, line((point) => point.failed_per_minute), rate],
    [words.chartP95, line((point) => point.lag_p95), duration],
  ];
  return (
    <section aria-labelledby="spans">
      <h2 id="spans">{words.figuresOver}</h2>
      <div className="states" role="group" aria-labelledby="spans">
        {(Object.keys(SPANS) as Span[]).map((each) => (
          <button key={each} type="button" className="choice" aria-pressed={each === span} onClick={() => setSpan(each)}>
            {words.spans[each]}
          </button>
        ))}
      </div>
      {figures.error && <Failure error={figures.error} retry={figures.reload} />}
      {!found && !figures.error && <Skeleton rows={3} />}
      {found?.since === null && <p className="hint">{words.noPoints}</p>}
      {chosen && (
        <p>
          {words.shown(chosen.task || chosen.queue)}{" "}
          <button type="button" className="link" onClick={() => setChosen(undefined)}>
            {words.showAll}
          </button>
        </p>
      )}
      {found && (
        <>
          <div className="charts">
            {charts.map(([name, points, say]) => (
              <figure key={name} className="chart-sheet">
                <figcaption>
                  <span>{name}</span>
                  <span>{words.peak(say(highest(points)))}</span>
                </figcaption>
                <Chart what={name} points={points} say={say} tall span={SPANS[span]} over={over} marks={marks} />
                <p className="axis hint" aria-hidden="true">
                  <span>{words.spans[span]}</span>
                  <span>{words.now}</span>
                </p>
              </figure>
            ))}
          </div>
          <details className="marks">
            <summary>
              {words.marks} ({number(found.marks.length)})
            </summary>
            {found.marks.length === 0 && <p className="hint">{words.noMarks}</p>}
            <ul>
              {found.marks.map((mark) => (
                <li key={`${mark.at} ${mark.text}`}>
                  {moment(mark.at)}: {words.markOf(mark.kind, mark.text)}
                </li>
              ))}
            </ul>
          </details>
          <div className="states" role="group" aria-label={words.figuresOver}>
            {(["tasks", "queues"] as const).map((each) => (
              <button key={each} type="button" className="choice" aria-pressed={each === by} onClick={() => setBy(each)}>
                {each === "tasks" ? words.byTask : words.byQueue}
              </button>
            ))}
          </div>
          <Lines lines={found[by]} title={by === "tasks" ? words.byTask : words.byQueue} choose={setChosen} />
        </>
      )}
    </section>
  );
}

function Lines({ lines, title, choose }: { lines: FiguresLine[]; title: string; choose: (line: { queue: string; task: string }) => void }) {
  const { columns } = words;
  return (
    <div className="table-frame" tabIndex={0} role="region" aria-label={title}>
      <table className="queues">
        <thead>
          <tr>
            <th scope="col">{title}</th>
            {Object.entries(columns).map(([key, name]) => (
              <th key={key} scope="col" className="amount">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {lines.map((line) => (
            <tr key={`${line.queue} ${line.task}`} data-figures={line.task || line.queue}>
              <th scope="row">
                <button type="button" className="link" onClick={() => choose(line)}>
                  {line.task || line.queue}
                </button>
              </th>
              <td className="amount">{rate(line.per_minute)}</td>
              <td className={line.failed ? "amount warn" : "amount"}>{number(line.failed)}</td>
              <td className="amount">{number(line.retried)}</td>
              <td className={line.dead ? "amount bad" : "amount"}>{number(line.dead)}</td>
              <td className="amount">{seconds(line.lag_p50)}</td>
              <td className="amount">{seconds(line.lag_p95)}</td>
              <td className="amount">{seconds(line.lag_p99)}</td>
              <td className="amount">{seconds(line.run_seconds)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
