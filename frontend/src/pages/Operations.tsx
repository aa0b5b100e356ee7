import { useState } from "react";
import { Link } from "wouter";

import { api, ask, type Failing, type MachineryProblem, type Queue } from "../api/client";
import { useEvery } from "../every";
import { between, duration } from "../format";
import { useLoad } from "../load";
import { DeadGroup } from "../operations/DeadGroup";
import { Decisions } from "../operations/Decisions";
import { Figures } from "../operations/Figures";
import { telling } from "../operations/telling";
import { Places } from "../operations/Places";
import { Asked, type Question } from "../operations/Question";
import { QueueTable, resuming } from "../operations/QueueTable";
import { Spans } from "../operations/Spans";
import { Page } from "../parts/Page";
import { Empty, Failure, Skeleton } from "../parts/states";
import { words } from "../operations/text";

/** Milliseconds between two requests for queues and dead letters, for problems, and for the last hour. */
const PACE = 4000;
const MIDDLE_PACE = 10_000;
const SLOW_PACE = 30_000;

export function Operations() {
  const queues = useLoad("queues", (signal) => ask(api.GET("/api/ops/queues/", { params: { query: { page_size: 100 } }, signal })));
  const series = useLoad("series", (signal) => ask(api.GET("/api/ops/series/", { signal })));
  const groups = useLoad("groups", (signal) => ask(api.GET("/api/ops/dead/groups/", { params: { query: { page_size: 100 } }, signal })));
  const [question, setQuestion] = useState<Question>();
  const problems = useLoad("problems", (signal) => ask(api.GET("/api/ops/problems/", { params: { query: { page_size: 100 } }, signal })));
  useEvery(PACE, queues.reload, groups.reload);
  const failing = useLoad("failing", (signal) => ask(api.GET("/api/ops/failing/", { params: { query: { page_size: 100 } }, signal })));
  useEvery(MIDDLE_PACE, problems.reload, failing.reload);
  useEvery(SLOW_PACE, series.reload);

  const now = () => {
    queues.reload();
    groups.reload();
  };
  const rows = queues.value?.results;
  return (
    <Page title={words.title} lead={words.lead}>
      <Places />
      <Problems problems={problems.value?.results ?? []} rows={rows ?? []} ask={setQuestion} />
      <FailingTasks failing={failing.value?.results ?? []} rows={rows ?? []} ask={setQuestion} />
      {queues.error && <Failure error={queues.error} retry={now} />}
      {!rows && !queues.error && <Skeleton rows={7} />}
      {rows && (
        <>
          <Figures queues={rows} />
          <Spans />
          <QueueTable queues={rows} series={series.value?.queues} ask={setQuestion} />
        </>
      )}
      <section className="dead-letters" aria-labelledby="dead">
        <h2 id="dead">{words.dead}</h2>
        <p className="hint">{words.deadHint}</p>
        <Decisions />
        {groups.error && <Failure error={groups.error} retry={groups.reload} />}
        {groups.value?.results.length === 0 && <Empty title={words.noDead}>{words.noDeadHint}</Empty>}
        <ul className="dead-groups">
          {groups.value?.results.map((group) => (
            <DeadGroup key={group.fingerprint} group={group} ask={setQuestion} />
          ))}
        </ul>
      </section>
      {question && <Asked question={question} close={() => setQuestion(undefined)} done={now} />}
    </Page>
  );
}

/** Failing tasks, with links and actions. */
function FailingTasks({ failing, rows, ask: put }: { failing: Failing[]; rows: Queue[]; ask: (question: Question) => void }) {
  return (
    <div role="status">
      {failing.length > 0 && (
        <div className="note bad">
          <div>
            <strong>{words.failing}</strong>
            <ul>
              {failing.map((each) => {
                const params = { path: { queue: each.queue } };
                const paused = rows.some((row) => row.queue === each.queue && row.paused);
                return (
                  <li key={each.task} data-failing={each.task}>
                    {words.failingSays(each.task, duration(between(each.since, new Date().toISOString())), each.failed)} <code>{each.error}</code>{" "}
                    <Link href={`/operations/tasks?status=retrying&task=${encodeURIComponent(each.task)}`}>{words.showTasks}</Link>{" "}
                    {!paused && (
                      <button
                        type="button"
                        className="link"
                        onClick={() =>
                          put({
                            title: words.pauseNamed(each.queue),
                            body: <p>{words.pauseBody(each.queue)}</p>,
                            action: words.pause,
                            act: () => ask(api.POST("/api/ops/queues/{queue}/pause/", { params })).then(() => words.pauseDone(each.queue)),
                          })
                        }
                      >
                        {words.pauseNamed(each.queue)}
                      </button>
                    )}
                  </li>
                );
              })}
            </ul>
          </div>
        </div>
      )}
    </div>
  );
}

/** Problems of the machinery and paused queues, each with the action that resolves it. */
function Problems({ problems, rows, ask: put }: { problems: MachineryProblem[]; rows: Queue[]; ask: (question: Question) => void }) {
  const paused = rows.filter((row) => row.paused);
  return (
    <div role="status">
      {problems.length > 0 && (
        <div className="note bad">
          <div>
            <strong>{words.problems}</strong>
            <ul>
              {problems.map(({ part, text: what, stalled }) => (
                <li key={`${part} ${what}`}>
                  {what} {stalled.startsWith("worker ") && (
                    <button type="button" className="link" onClick={() => put(telling(stalled, "stop"))}>
                      {words.tellNamed.stop(stalled)}
                    </button>
                  )}
                  {["relay", "workers", "queues"].includes(part) && <Link href="/operations/workers">{words.workers}</Link>}
                  {part === "schedules" && <Link href="/operations/schedules">{words.schedules}</Link>}
                </li>
              ))}
            </ul>
          </div>
        </div>
      )}
      {paused.length > 0 && (
        <ul className="note warn paused">
          {paused.map((queue) => (
            <li key={queue.queue}>
              {words.pausedSays(queue.queue, queue.pending)}{" "}
              <button type="button" className="link" onClick={() => put(resuming(queue))}>
                {words.resumeNamed(queue.queue)}
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
