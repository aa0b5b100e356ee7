import { useState } from "react";
import { Link } from "wouter";

import { api, ask, type Process, type Tell } from "../api/client";
import { useEvery } from "../every";
import { duration, moment } from "../format";
import { useLoad } from "../load";
import { Places } from "../operations/Places";
import { Asked, type Question } from "../operations/Question";
import { telling } from "../operations/telling";
import { words } from "../operations/text";
import { Page } from "../parts/Page";
import { Failure, Skeleton } from "../parts/states";

/** Milliseconds between two requests; processes send heartbeats every five seconds. */
const PACE = 3000;
const KINDS = ["worker", "relay", "beat"] as const;

/** Running workers, relays and beats: what each is doing, and instructions to them. */
export function Workers() {
  const processes = useLoad("processes", (signal) => ask(api.GET("/api/ops/processes/", { params: { query: { page_size: 100 } }, signal })));
  const [question, setQuestion] = useState<Question>();
  useEvery(PACE, processes.reload);
  const rows = processes.value?.results;
  return (
    <Page title={words.workers} lead={words.workersLead}>
      <Places />
      {processes.error && <Failure error={processes.error} retry={processes.reload} />}
      {!rows && !processes.error && <Skeleton rows={4} />}
      {rows &&
        KINDS.map((kind) => {
          const own = rows.filter((each) => each.kind === kind);
          return (
            <section key={kind} aria-labelledby={kind}>
              <h2 id={kind}>{words.kindsOf[kind]}</h2>
              {own.length === 0 && <p className={kind === "beat" ? "hint" : "note bad"}>{words.noneOf[kind]}</p>}
              <ul className="crew">
                {own.map((each) => (
                  <Card key={each.process} process={each} ask={setQuestion} />
                ))}
              </ul>
            </section>
          );
        })}
      {question && <Asked question={question} close={() => setQuestion(undefined)} done={processes.reload} />}
    </Page>
  );
}

function Card({ process, ask: put }: { process: Process; ask: (question: Question) => void }) {
  const isWell = !process.problem && ["ok", "draining", "drained"].includes(process.state);
  const acts: Tell["what"][] = process.kind === "worker" ? [process.wish === "drain" ? "resume" : "drain", "stop"] : ["stop"];
  return (
    <li className="dead-group" data-process={process.process}>
      <div className="dead-head">
        <div>
          <h3>{process.process}</h3>
          <p>
            <span className={isWell ? "state" : "state bad"}>{words.processStates[process.state] ?? process.state}</span> {process.wish && words.toldTo(process.wish)}{" "}
            {process.state === "silent" && words.heardOf(duration(process.silent_seconds))}
          </p>
        </div>
        <div className="dead-acts">
          {acts.map((what) => (
            <button key={what} type="button" className="button small quiet" onClick={() => put(telling(process.process, what))}>
              {words.tell[what]} <span className="unseen">{process.process}</span>
            </button>
          ))}
        </div>
      </div>
      {process.problem && <p className="note bad">{process.problem}</p>}
      {process.kind === "worker" && (
        <ul className="doing">
          {process.doing.map((each) => (
            <li key={each.id}>
              <Link href={`/operations/tasks/${each.id}`}>{words.doing(each.task, each.tasks, duration(each.seconds))}</Link>
            </li>
          ))}
          {process.doing.length === 0 && <li>{words.idle}</li>}
        </ul>
      )}
      <dl className="facts">
        {facts(process).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </li>
  );
}

function facts(process: Process): [string, string][] {
  const found: [string, string][] = [
    [words.machine, process.machine],
    [words.startedAt, moment(process.started_at)],
  ];
  if (process.release) found.push([words.release, process.release]);
  if (process.memory !== null) found.push([words.memory, words.megabytes(process.memory)]);
  if (process.queues.length) found.push([words.queues, process.queues.join(", ")]);
  return found;
}
