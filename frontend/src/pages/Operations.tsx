import { useState } from "react";

import { api, ask, type MachineryProblem } from "../api/client";
import { useEvery } from "../every";
import { useLoad } from "../load";
import { DeadGroup } from "../operations/DeadGroup";
import { Decisions } from "../operations/Decisions";
import { Figures, Hour } from "../operations/Figures";
import { Asked, type Question } from "../operations/Question";
import { QueueTable } from "../operations/QueueTable";
import { Page } from "../parts/Page";
import { Empty, Failure, Skeleton } from "../parts/states";
import { useSession } from "../session";
import { words } from "../operations/text";

/** Milliseconds between two looks at the queues and the dead letters, at the machinery, and at the last hour. */
const PACE = 2000;
const MIDDLE_PACE = 10_000;
const SLOW_PACE = 30_000;

export function Operations() {
  const { flowerUrl } = useSession();
  const queues = useLoad("queues", (signal) => ask(api.GET("/api/ops/queues/", { params: { query: { page_size: 100 } }, signal })));
  const series = useLoad("series", (signal) => ask(api.GET("/api/ops/series/", { signal })));
  const groups = useLoad("groups", (signal) => ask(api.GET("/api/ops/dead/groups/", { params: { query: { page_size: 100 } }, signal })));
  const [question, setQuestion] = useState<Question>();
  const problems = useLoad("problems", (signal) => ask(api.GET("/api/ops/problems/", { params: { query: { page_size: 100 } }, signal })));
  useEvery(PACE, queues.reload, groups.reload);
  useEvery(MIDDLE_PACE, problems.reload);
  useEvery(SLOW_PACE, series.reload);

  const now = () => {
    queues.reload();
    groups.reload();
  };
  const rows = queues.value?.results;
  return (
    <Page
      title={words.title}
      lead={words.lead}
      aside={
        <p className="outside">
          {flowerUrl && (
            <a href={flowerUrl} className="button small quiet">
              {words.flower}
            </a>
          )}
          <a href="/admin/" className="button small quiet">
            {words.admin}
          </a>
        </p>
      }
    >
      <Problems problems={problems.value?.results ?? []} />
      {queues.error && <Failure error={queues.error} retry={now} />}
      {!rows && !queues.error && <Skeleton rows={7} />}
      {rows && (
        <>
          <Figures queues={rows} />
          <Hour series={series.value?.queues} error={series.error} />
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

/** What is wrong with the machinery as a whole: somebody is silent, a queue is not consumed, a schedule is late. */
function Problems({ problems }: { problems: MachineryProblem[] }) {
  return (
    <div role="status">
      {problems.length > 0 && (
        <div className="note bad">
          <div>
            <strong>{words.problems}</strong>
            <ul>
              {problems.map(({ part, text: what }) => (
                <li key={`${part} ${what}`}>{what}</li>
              ))}
            </ul>
          </div>
        </div>
      )}
    </div>
  );
}
